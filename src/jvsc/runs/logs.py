"""What a run tells while it trains: metrics.jsonl, its trackers, and a progress bar."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
import pydantic
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import TypedDict

from jvsc.data.atomic import write_atomically
from jvsc.runs.config import Config, flatten
from jvsc.runs.stored import UnreadableError, parsed, set_aside, stored_text
from jvsc.runs.trackers import Opening, Tracker, open_trackers

METRICS_FILE = "metrics.jsonl"
# One epoch: means over its steps, a list with one number a seed, and single numbers.
LogRow = dict[str, Any]
# Shows a number of epochs done and how it goes.
Show = Callable[[int, str], None]


class _Logged(TypedDict):
    """What every row has; the others' names are not looked at."""

    __pydantic_config__ = pydantic.ConfigDict(extra="allow")  # type: ignore[misc]

    epoch: int
    loss: list[float | None]
    nonzero_fraction: list[float | None]
    validation_loss: NotRequired[list[float | None]]


_ROW = pydantic.TypeAdapter(_Logged)


def read_metrics(workdir: Path) -> list[LogRow]:
    """The rows of metrics.jsonl that can be read; a last line cut short by a kill is left out."""
    return read_log(workdir)[0]


def _row(line: str) -> LogRow:
    """A row as it was written, in its order, once it is known to be one."""
    parsed(line, _ROW)
    return json.loads(line)


def read_log(workdir: Path) -> tuple[list[LogRow], str]:
    """The rows of metrics.jsonl that can be read, and what is wrong with the others, or ""."""
    try:
        text = stored_text(workdir / METRICS_FILE) or ""
    except UnreadableError as error:
        return [], str(error)
    rows: list[LogRow] = []
    damage = ""
    # Not `splitlines`, which knows more ends of a line than JSON does.
    *lines, rest = text.split("\n")
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row(line))
        except UnreadableError as error:
            damage = damage or f"line {number}: {error}"
    # What a kill cuts short has no end of a line.
    with suppress(UnreadableError):
        rows += [_row(rest)] if rest else []
    return rows, damage


class RunLog:
    """Writes one row an epoch to metrics.jsonl and the trackers, and moves the progress bar."""

    def __init__(
        self, workdir: Path, seeds: tuple[int, ...], show: Show, trackers: Sequence[Tracker]
    ):
        self._file = workdir / METRICS_FILE
        self._seeds = seeds
        self._show = show
        self._trackers = trackers

    def write(self, row: LogRow) -> None:
        """Logs an epoch; lists hold one number a seed."""
        # JSON knows no NaN; a diverged seed's numbers are null.
        clean = {name: _finite(value) for name, value in row.items()}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")
        numbers = {
            f"{name}/seed_{seed}": number
            for name, value in row.items()
            if isinstance(value, list)
            for seed, number in zip(self._seeds, value, strict=True)
        }
        for tracker in self._trackers:
            tracker.add(numbers, row["epoch"])

    def advance(self, row: LogRow) -> None:
        """Shows an epoch on the progress bar, or as a line where there is no terminal."""
        text = (
            f"loss {np.mean(row['loss']):.4f}  "
            f"non-zeros {100 * np.mean(row['nonzero_fraction']):.1f}%  "
            f"{row['steps_per_second']:.3g} steps/s"
        )
        if row.get("warmup", 1.0) < 1:
            text += f"  noise at {100 * row['warmup']:.0f}%"
        if "validation_loss" in row:
            text += f"  validation {np.mean(row['validation_loss']):.4g}"
        self._show(row["epoch"], text)


@contextmanager
def shown_progress(unit: str, done: int, total: int, console: Console) -> Iterator[Show]:
    """Shows each unit as it is done: on a bar, or as a line where there is no terminal."""
    columns = (
        TextColumn(unit),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("train", total=total, completed=done, status="compiling")

        def show(number: int, text: str) -> None:
            if console.is_terminal:
                progress.update(task, completed=number, status=text)
            else:
                console.print(f"{unit} {number}: {text}", highlight=False, soft_wrap=True)

        yield show


@contextmanager
def open_log(
    workdir: Path, epoch: int, config: Config, console: Console, *, tracked: bool = True
) -> Iterator[RunLog]:
    """Opens the run's logs at `epoch`; rows of later epochs, which a kill left behind, go.

    Logs that cannot be read are told and put aside.

    Args:
      workdir: the run's.
      epoch: epochs done.
      config: the run's settings.
      console: where the progress bar goes.
      tracked: whether the trackers are told too; of several processes the first does that.

    Raises:
      UserError: if a tracker cannot be opened.
    """
    rows, damage = read_log(workdir)
    events = workdir / "tensorboard"
    unreadable = {workdir / METRICS_FILE: damage}
    if not events.is_dir() and (events.exists() or events.is_symlink()):
        unreadable[events] = "not a folder"
    for path, reason in unreadable.items():
        if reason:
            text = f"{path} cannot be read ({reason}); it is put aside in {set_aside(path)}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    rows = [row for row in rows if row["epoch"] <= epoch]
    write_atomically(workdir / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))
    names = config.output.trackers if tracked else ()
    opening = Opening(workdir, epoch + 1, flatten(config.model_dump()))
    with (
        open_trackers(names, opening) as trackers,
        shown_progress("epoch", epoch, config.num_epochs, console) as show,
    ):
        yield RunLog(workdir, config.seeds, show, trackers)


def _finite(value: list[float] | float | int) -> list[float | None] | float | int | None:
    if isinstance(value, list):
        return [number if np.isfinite(number) else None for number in value]
    return value if np.isfinite(value) else None
