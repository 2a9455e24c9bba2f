"""Tables of a reproduction: our values, the paper's, differences and orderings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from jvsc.runs.report.measures import MEASURE_ROWS, mean_of, written
from jvsc.runs.report.record import RunRecord

BY_NAME = {row.name: row for row in MEASURE_ROWS}
# A relative difference from the paper above which a result needs an explanation.
LARGE_DIFFERENCE = 0.1


class Table(NamedTuple):
    """A table's cells as text.

    Attributes:
      header: one name per column.
      rows: as many cells in each.
    """

    header: list[str]
    rows: list[list[str]]


class Compared(NamedTuple):
    """One of our values next to the paper's.

    Attributes:
      label: name of the run or method.
      ours: mean over the seeds that have a value; None if none has.
      deviation: standard deviation over seeds; None for fewer than two.
      paper: the published value; None if there is none.
    """

    label: str
    ours: float | None
    deviation: float | None
    paper: float | None

    @property
    def difference(self) -> float | None:
        """(ours - paper) / paper."""
        if self.ours is None or not self.paper:
            return None
        return self.ours / self.paper - 1


def compare(label: str, record: RunRecord | None, measure: str, paper: float | None) -> Compared:
    """A run's measure next to the paper's value; ours is None without a run (one that diverged)."""
    values = [] if record is None else record.values(measure)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Compared(label, mean_of(values), deviation, paper)


def cells(compared: Compared, measure: str) -> list[str]:
    """Three cells: our value with its deviation, the paper's, the relative difference."""
    row = BY_NAME[measure]
    ours = written(row, compared.ours)
    if compared.deviation is not None:
        ours += f" ± {written(row, compared.deviation)}"
    difference = compared.difference
    change = "-" if difference is None else f"{100 * difference:+.0f}%"
    return [ours, written(row, compared.paper), change]


def ordering(column: Sequence[Compared]) -> tuple[list[str], list[str], float] | None:
    """The order of what both have by our values and by the paper's, ascending, and Kendall's tau.

    Returns:
      Our labels in order, the paper's, and tau in [-1, 1]; None for fewer than two.
    """
    both = [entry for entry in column if entry.ours is not None and entry.paper is not None]
    if len(both) < 2:
        return None
    correlation: Any = kendalltau([entry.ours for entry in both], [entry.paper for entry in both])
    ours = sorted(both, key=lambda entry: entry.ours or 0.0)
    paper = sorted(both, key=lambda entry: entry.paper or 0.0)
    return (
        [entry.label for entry in ours],
        [entry.label for entry in paper],
        float(correlation.statistic),
    )


def ordering_table(columns: Mapping[str, Sequence[Compared]]) -> Table:
    """One row per column of a table: our order of its methods, the paper's, their agreement."""
    rows = []
    for name, column in columns.items():
        orders = ordering(column)
        if orders is not None:
            ours, paper, tau = orders
            agreement = "the same" if ours == paper else f"τ = {tau:.2f}"
            rows.append([name, " < ".join(ours), " < ".join(paper), agreement])
    return Table(["column", "ours", "paper", "agreement"], rows)


def large_differences(columns: Mapping[str, Sequence[Compared]]) -> list[str]:
    """One line for each value that differs from the paper's by more than a tenth."""
    return [
        f"{entry.label}, {name}: {entry.ours:.4g} here, {entry.paper:.4g} in the paper "
        f"({100 * entry.difference:+.0f}%)"
        for name, column in columns.items()
        for entry in column
        if entry.difference is not None and abs(entry.difference) > LARGE_DIFFERENCE
    ]


def measure_table(
    records: Mapping[str, RunRecord], measures: Sequence[str], name_of: Callable[[str], str]
) -> Table:
    """One row per run, one column per measure: means over seeds."""
    rows = [
        [
            name_of(name),
            *(written(BY_NAME[measure], mean_of(record.values(measure))) for measure in measures),
        ]
        for name, record in records.items()
    ]
    return Table(["", *(BY_NAME[measure].label for measure in measures)], rows)
