"""What a run tells while it trains: metrics.jsonl, TensorBoard, and a progress bar."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jvsc.runs.workdir import write_atomically

if TYPE_CHECKING:
    from jvsc.runs.tensorboard import ScalarEvents

METRICS_FILE = "metrics.jsonl"
# One epoch: means over its steps, a list with one number a seed, and single numbers.
Row = dict[str, Any]


def read_metrics(workdir: Path) -> list[Row]:
    """Rows of metrics.jsonl; a last line cut short by a kill is left out."""
    file = workdir / METRICS_FILE
    if not file.exists():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class RunLog:
    """Writes one row an epoch to metrics.jsonl and TensorBoard, and moves the progress bar."""

    def __init__(self, workdir: Path, epoch: int, seeds: tuple[int, ...], progress: Progress):
        self._file = workdir / METRICS_FILE
        self._seeds = seeds
        self._progress = progress
        self._folder, self._epoch = workdir / "tensorboard", epoch
        self._events: ScalarEvents | None = None

    def write(self, row: Row) -> None:
        """Logs an epoch; lists hold one number a seed."""
        # JSON knows no NaN; a diverged seed's numbers are null.
        clean = {name: _finite(value) for name, value in row.items()}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")
        if self._events is None:
            # Brings in PyTorch where there is one: not before the first step.
            from jvsc.runs.tensorboard import ScalarEvents

            self._events = ScalarEvents(self._folder, self._epoch + 1)
        for name, value in row.items():
            if isinstance(value, list):
                for seed, number in zip(self._seeds, value, strict=True):
                    self._events.add(f"{name}/seed_{seed}", number, row["epoch"])
        self._events.flush()

    def advance(self, row: Row) -> None:
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
        if self._progress.console.is_terminal:
            self._progress.update(self._progress.task_ids[0], advance=1, status=text)
        else:
            line = f"epoch {row['epoch']}: {text}"
            self._progress.console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Flushes TensorBoard's events."""
        if self._events is not None:
            self._events.close()


@contextmanager
def open_log(
    workdir: Path, epoch: int, num_epochs: int, seeds: tuple[int, ...], console: Console
) -> Iterator[RunLog]:
    """Opens the run's logs at `epoch`; rows of later epochs, which a kill left behind, go."""
    rows = [row for row in read_metrics(workdir) if row["epoch"] <= epoch]
    write_atomically(workdir / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task("train", total=num_epochs, completed=epoch, status="compiling")
        log = RunLog(workdir, epoch, seeds, progress)
        try:
            yield log
        finally:
            log.close()


def _finite(value: list[float] | float | int) -> list[float | None] | float | int | None:
    if isinstance(value, list):
        return [number if np.isfinite(number) else None for number in value]
    return value if np.isfinite(value) else None
