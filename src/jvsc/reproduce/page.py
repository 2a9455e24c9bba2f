"""Results as Markdown: command, reductions, time and versions, tables and pictures."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax
from jinja2 import Environment, PackageLoader, StrictUndefined

from jvsc.data.atomic import write_atomically
from jvsc.reproduce.plan import PlannedRun, in_words, run_config
from jvsc.reproduce.sections import PageSection, Records
from jvsc.runs.config import differences
from jvsc.runs.divergence import read_divergences
from jvsc.runs.evaluation_store import read_evaluation_seconds

RESULTS_FILE = "results.md"
PACKAGES = ("jvsc", "jax", "jaxlib", "flax", "optax", "numpy")


def write_results(
    title: str,
    command: str,
    scale: str,
    settings: Sequence[str],
    plans: tuple[Sequence[PlannedRun], Sequence[PlannedRun]],
    records: Records,
    sections: Sequence[PageSection],
    runs_folder: Path,
    folder: Path,
) -> Path:
    """Writes results.md.

    Args:
      title: of the table or figure.
      command: the command line.
      scale: "paper" or "cpu".
      settings: given on the command line.
      plans: the planned runs, and the same at the paper's scale.
      records: of the finished runs.
      sections: of the page.
      runs_folder: where the runs are.
      folder: where the file goes.
    """
    environment = Environment(
        loader=PackageLoader("jvsc.reproduce"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    training = sum(row["seconds"] for run in records.values() for row in run.rows)
    evaluation = sum(read_evaluation_seconds(runs_folder / name) for name in records)
    text = environment.get_template("results.md").render(
        title=title,
        command=command,
        scale=scale,
        reduced=reductions(*plans, runs_folder),
        settings=settings,
        data=sorted({run.report["data"] for run in records.values()}),
        training=in_words(training),
        evaluation=in_words(evaluation),
        machine=machine(),
        versions=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        missing=[
            f"{run.name}, {_reason(runs_folder / run.name)}"
            for run in plans[0]
            if run.name not in records
        ],
        sections=sections,
    )
    path = folder / RESULTS_FILE
    write_atomically(path, text)
    return path


def _reason(workdir: Path) -> str:
    """Why there is no result of a run."""
    return "whose loss became non-finite" if read_divergences(workdir) else "not finished"


def reductions(
    runs: Sequence[PlannedRun], paper_runs: Sequence[PlannedRun], folder: Path
) -> list[str]:
    """Settings that differ from the paper's, each listed once: `key: paper's -> here`."""
    remarks: dict[str, None] = {}
    for run, paper in zip(runs, paper_runs, strict=True):
        lines = differences(run_config(paper, folder), run_config(run, folder))
        remarks |= dict.fromkeys(lines)
    return list(remarks)


def machine() -> str:
    """Devices, cores, processor and version of Python."""
    devices = jax.devices()
    return (
        f"{len(devices)} {devices[0].device_kind} device{'s' * (len(devices) > 1)}, "
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    )
