"""The command: a run trained or evaluated; known mistakes become one line."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from jvsc.build import build_dataset
from jvsc.commandline import USAGE, parse
from jvsc.config import Config
from jvsc.data import Dataset
from jvsc.divergence import describe, read_divergences
from jvsc.errors import DivergenceError, UserError
from jvsc.evaluate import EVALUATION_FILE, Evaluation, evaluate_run
from jvsc.logs import read_metrics
from jvsc.report.figures import draw_dictionary, draw_reconstructions, draw_training
from jvsc.train import train

EXIT_USER_ERROR, EXIT_DIVERGED = 2, 3
NUM_SHOWN = 16

TABLE_ROWS = {
    "validation_loss": "validation loss, 0.5 |x - sA|^2 + lambda |s|_1",
    "reconstruction": "  of it reconstruction error",
    "l1": "  of it the l1 penalty",
    "fista_optimum": "FISTA's optimum, same dictionary",
    "zero_code_loss": "the all-zero code's",
    "nonzero_fraction": "share of non-zeros",
    "kl": "KL, summed over latents",
    "multi_information": "multi-information, bits",
}


def draw_run(config: Config, workdir: Path, dataset: Dataset, evaluation: Evaluation) -> list[Path]:
    """Draws the run's dictionary, reconstructions and training curves; returns the PNGs."""
    dictionary = np.asarray(evaluation.parameters.generator[evaluation.shown])
    paths = [draw_training(read_metrics(workdir), config.seeds, workdir / "training.png")]
    if evaluation.codes is None or evaluation.optimal_codes is None:
        return paths
    paths.append(draw_dictionary(dictionary, dataset.shape, workdir / "dictionary.png"))
    chosen = np.linspace(0, len(dataset.validation) - 1, NUM_SHOWN).astype(int)
    rows = {
        "data": dataset.validation[chosen],
        config.method.replace("_", "\n"): evaluation.codes[chosen] @ dictionary,
        "FISTA": evaluation.optimal_codes[chosen] @ dictionary,
    }
    if config.method == "fista":
        del rows["FISTA"]
    paths.append(draw_reconstructions(rows, dataset.shape, workdir / "reconstructions.png"))
    return paths


def print_table(console: Console, config: Config, evaluation: Evaluation) -> None:
    """Prints the measures that matter most, a column a seed."""
    table = Table(title=f"{config.method}, J = {config.num_samples}", title_justify="left")
    table.add_column("validation set")
    for seed in config.seeds:
        table.add_column(f"seed {seed}", justify="right")
    metrics = evaluation.report["metrics"]
    for name, label in TABLE_ROWS.items():
        values = metrics.get(name, [])
        if any(value is not None for value in values):
            table.add_row(label, *(_number(name, value) for value in values))
    console.print(table)


def execute(arguments: Sequence[str], console: Console) -> int:
    """Does what a command line asks; returns the exit code.

    Raises:
      UserError: for a mistake in what was given.
      DivergenceError: if a loss became non-finite.
    """
    command = parse(arguments)
    if command.mode == "help":
        console.print(USAGE, markup=False, highlight=False, soft_wrap=True)
        return 0
    config, workdir = command.config, command.workdir
    if command.mode == "train":
        dataset = train(config, workdir, console).dataset
    else:
        dataset = build_dataset(config)
    evaluation = evaluate_run(config, workdir, dataset)
    paths = draw_run(config, workdir, dataset, evaluation)
    print_table(console, config, evaluation)
    diverged = read_divergences(workdir)
    if diverged:
        console.print(f"result of the run: {describe(diverged)}", markup=False, highlight=False)
    for path in (*paths, workdir / EVALUATION_FILE):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return 0


def run(arguments: Sequence[str] | None = None) -> int:
    """Entry point: like `execute`, with known mistakes as one line on standard error."""
    errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        return execute(sys.argv[1:] if arguments is None else arguments, Console())
    except UserError as error:
        errors.print(f"jvsc: {error}")
        return EXIT_USER_ERROR
    except DivergenceError as error:
        errors.print(f"jvsc: {error}")
        return EXIT_DIVERGED


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if name.endswith("fraction") else f"{value:.1f}"


if __name__ == "__main__":
    # TensorFlow's and XLA's start-up notes are not about the user's run.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(run())
