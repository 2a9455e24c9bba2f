"""The runs that a table or figure needs: their settings, state and expected duration."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from jvsc import main
from jvsc.errors import DivergenceError, UserError
from jvsc.runs.commandline import bundled_config, parse
from jvsc.runs.config import Config, differences
from jvsc.runs.divergence import read_divergences
from jvsc.runs.early_stopping import ended_early
from jvsc.runs.evaluate import evaluated_settings
from jvsc.runs.evaluation_store import read_evaluation
from jvsc.runs.logs import read_metrics
from jvsc.runs.report.record import RunRecord, read_record
from jvsc.runs.workdir import CONFIG_FILE, FREE, read_config

# Seconds of one step of one seed and a batch of 100 (patches) or of one image (conv): its base, and
# what each draw adds. Measured on two cores with JAX 0.10; a GPU is many times faster.
STEP_SECONDS = {
    ("patches", "solver"): (0.006, 0.0),
    ("patches", "gamma"): (0.006, 2e-4),
    ("patches", "other"): (0.0044, 6e-5),
    ("images", "solver"): (0.02, 0.0),
    ("images", "gamma"): (7e-4, 1.6e-4),
    ("images", "other"): (7e-4, 1.4e-4),
}
# Compiling, measuring and drawing, for each run and for each of its seeds.
RUN_SECONDS, SEED_SECONDS = 60, 25


class PlannedRun(NamedTuple):
    """One run of a plan.

    Attributes:
      name: its workdir below the scale's folder, such as patches/gaussian_J20.
      arguments: the command line of `jvsc.main`, without --workdir.
    """

    name: str
    arguments: tuple[str, ...]

    @property
    def label(self) -> str:
        """The last part of the name."""
        return Path(self.name).name

    def command_line(self, folder: Path) -> list[str]:
        """The whole command line, for runs that live in `folder`."""
        return [*self.arguments, f"--workdir={folder / self.name}"]


def planned_run(
    name: str, experiment: str, method: str, scale: str, changes: dict[str, object]
) -> PlannedRun:
    """A run of a config file.

    Args:
      name: its workdir below the scale's folder.
      experiment: name of the config file, such as patches.
      method: the method.
      scale: "paper", or the size of that name in the config file.
      changes: settings by their dotted keys.
    """
    size = "" if scale == "paper" else f",{scale}"
    config = f"--config={bundled_config(experiment + '.py')}:{method}{size}"
    return PlannedRun(
        name, (config, *(f"--config.{key}={value}" for key, value in changes.items()))
    )


def run_config(run: PlannedRun, folder: Path) -> Config:
    """The settings of a planned run.

    Raises:
      UserError: if they are not valid.
    """
    return parse(run.command_line(folder)).config


def is_finished(config: Config, workdir: Path) -> bool:
    """Whether a run has been trained to the end and evaluated with exactly these settings."""
    try:
        stored = read_config(workdir)
        report, diverged = read_evaluation(workdir), read_divergences(workdir)
    except UserError:
        return False
    if report is None or differences(stored, config, ignore=FREE):
        return False
    epochs, rows = report["epochs"], read_metrics(workdir)
    early = rows[-1]["epoch"] if ended_early(rows, config) else None
    ended = len(epochs) == len(config.seeds) and all(
        seed in diverged or done == config.num_epochs or done == early
        for seed, done in zip(config.seeds, epochs, strict=True)
    )
    return ended and report.get("evaluated_with") == evaluated_settings(config)


def expected_seconds(config: Config) -> float:
    """Expected duration of a run on two cores: all seeds, evaluation included."""
    kind = "solver" if config.method == "fista" else "other"
    kind = "gamma" if config.method.endswith("_gamma") else kind
    images = config.data.name != "patches"
    base, draw = STEP_SECONDS["images" if images else "patches", kind]
    step = base + draw * config.num_samples
    step *= config.batch_size if images else config.batch_size / 100
    if config.data.name == "celeba":
        step *= 4  # four times the pixels
    steps = config.num_epochs * config.steps_per_epoch
    return len(config.seeds) * (steps * step + SEED_SECONDS) + RUN_SECONDS


def in_words(seconds: float) -> str:
    """A duration in seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def print_plan(runs: Sequence[PlannedRun], folder: Path, console: Console) -> None:
    """Prints the runs in order, with the expected duration of each."""
    table = Table(title=f"{len(runs)} runs in {folder}", title_justify="left")
    for column in ("", "run", "seeds", "epochs", "expected on two cores"):
        justify = "left" if column == "run" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    total = 0.0
    for number, run in enumerate(runs, 1):
        config = run_config(run, folder)
        if is_finished(config, folder / run.name):
            duration = "finished"
        else:
            seconds = expected_seconds(config)
            total += seconds
            duration = in_words(seconds)
            if (folder / run.name / CONFIG_FILE).exists():
                duration += " less what is done"
        table.add_row(
            str(number), run.name, str(len(config.seeds)), str(config.num_epochs), duration
        )
    console.print(table)
    console.print(f"in all about {in_words(total)}" if total else "all are finished")


def execute_plan(
    runs: Sequence[PlannedRun], folder: Path, console: Console, train: bool = True
) -> dict[str, RunRecord]:
    """Trains and evaluates what is not finished yet; a run that diverges is reported and left out.

    Args:
      runs: of the plan.
      folder: where their workdirs are.
      console: where progress is shown.
      train: False leaves out what is not finished instead.

    Returns:
      The record of each finished run, by its name.
    """
    records = {}
    for number, run in enumerate(runs, 1):
        workdir = folder / run.name
        if not is_finished(run_config(run, folder), workdir):
            if not train:
                continue
            console.rule(f"{number} of {len(runs)}: {run.name}")
            try:
                main.execute(run.command_line(folder), console)
            except DivergenceError as error:
                console.print(f"{run.name} diverged: {error}", highlight=False)
                continue
        records[run.name] = read_record(workdir)
    return records
