"""The command: a run trained or evaluated; known mistakes become one line."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jvsc.build import build_dataset
from jvsc.commandline import USAGE, parse
from jvsc.config import Config
from jvsc.divergence import describe, read_divergences
from jvsc.errors import DivergenceError, UserError
from jvsc.evaluate import EVALUATION_FILE, Evaluation, evaluate_run
from jvsc.pictures import draw_run
from jvsc.train import train

EXIT_USER_ERROR, EXIT_DIVERGED = 2, 3

TABLE_ROWS = {
    "validation_loss": "validation loss",
    "reconstruction": "  of it reconstruction error, 0.5 |x - sA|^2",
    "l1": "  of it penalty, lambda |s|_1",
    "fista_optimum": "FISTA's optimum, same dictionary",
    "zero_code_loss": "the all-zero code's",
    "mse": "squared error per pixel",
    "nonzero_fraction": "share of non-zeros",
    "kl": "KL, summed over latents",
    "multi_information": "multi-information, bits",
}


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
    evaluation = evaluate_run(config, workdir, dataset, console)
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
    return f"{100 * value:.1f}%" if name.endswith("fraction") else f"{value:.4g}"


if __name__ == "__main__":
    # TensorFlow's and XLA's start-up notes are not about the user's run.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(run())
