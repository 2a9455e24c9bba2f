"""The command: runs trained, evaluated or compared; known mistakes become one line."""

import errno
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from jvsc.runs.startup import importing

with importing(is_command=__name__ == "__main__"):
    from rich.console import Console
    from rich.table import Table

    from jvsc.data import Dataset
    from jvsc.errors import DivergenceError, InterruptedRunError, UserError, require_extra
    from jvsc.runs.applicable import check_applicable
    from jvsc.runs.checkpoint import CHECKPOINTS
    from jvsc.runs.commandline import MODEL_MODES, USAGE, Command, parse
    from jvsc.runs.config import Config
    from jvsc.runs.divergence import describe, read_divergences
    from jvsc.runs.factories import build_dataset
    from jvsc.runs.interruption import end, immediate_interruption
    from jvsc.runs.processes import (
        check_devices,
        fail_with_others,
        is_first_process,
        start_processes,
        tell_others_of_the_end,
        wait_for_the_first,
    )
    from jvsc.runs.report import MODULES
    from jvsc.runs.report.measures import MEASURE_ROWS, written
    from jvsc.runs.train import train
    from jvsc.runs.workdir import locked_workdir

# What a training does not need is imported by what does, so that it starts sooner.
if TYPE_CHECKING:
    from jvsc.runs.evaluate import Evaluation

EXIT_USER_ERROR, EXIT_DIVERGED = 2, 3
EXIT_CODES: dict[type, int] = {
    UserError: EXIT_USER_ERROR,
    DivergenceError: EXIT_DIVERGED,
}


def print_table(console: Console, config: Config, evaluation: "Evaluation") -> None:
    """Prints the measures that matter most, a column a seed."""
    codes = evaluation.report["codes"]
    title = f"{config.method}, J = {config.num_samples}" + (f"; codes: {codes}" if codes else "")
    table = Table(title=title, title_justify="left")
    table.add_column("validation set")
    for seed in config.seeds:
        table.add_column(f"seed {seed}", justify="right")
    metrics = evaluation.report["metrics"]
    for row in MEASURE_ROWS:
        values = metrics.get(row.name, [])
        if row.brief and any(value is not None for value in values):
            table.add_row(row.label, *(written(row, value) for value in values))
    if table.row_count:
        console.print(table)


def execute(arguments: Sequence[str], console: Console) -> int:
    """Executes a command line; returns the exit code.

    Raises:
      UserError: for a mistake in what was given.
      DivergenceError: if a loss became non-finite.
    """
    command = parse(arguments)
    if command.mode == "help":
        from jvsc.runs.settings_help import settings_help

        console.print(USAGE, markup=False, highlight=False, soft_wrap=True)
        console.print(settings_help(console.width), highlight=False)
        return 0
    if command.mode not in MODEL_MODES:  # now, not when the training is done
        require_extra("command", f"--mode={command.mode}", MODULES)
    if command.mode == "compare":
        return compare(command.workdirs, command.workdir, console)
    if command.mode in MODEL_MODES:
        check_devices()
        return use_model(command, console)
    config, workdir = command.config, command.workdir
    check_applicable(command.given, config)
    with told_if_full(workdir):
        if command.mode == "evaluate":
            check_devices()
            return evaluate(config, workdir, None, console)
        if config.eval.only_nonzeros:
            from jvsc.evaluation.nonzero_draws import require_numba

            require_numba()  # now, not when the training is done
        start_processes(command.distributed)
        check_devices()
        if not is_first_process():
            train(config, workdir, Console(quiet=True))
            wait_for_the_first()
            return 0
        code = evaluate(config, workdir, train(config, workdir, console).dataset, console)
        tell_others_of_the_end()
        return code


def evaluate(config: Config, workdir: Path, dataset: Dataset | None, console: Console) -> int:
    """Measures a run, draws its pictures and prints the result; data are loaded unless given.

    Raises:
      UserError: if the run has no checkpoint, or another process works on it.
    """
    if not workdir.is_dir():
        raise UserError(f"{workdir}: there is no such directory; train the run first", "workdir")
    with locked_workdir(workdir):
        return _evaluate(config, workdir, dataset or build_dataset(config), console)


def _evaluate(config: Config, workdir: Path, dataset: Dataset, console: Console) -> int:
    from jvsc.runs.evaluate import EVALUATION_FILE, evaluate_run
    from jvsc.runs.latents import write_latents
    from jvsc.runs.pictures import draw_run
    from jvsc.runs.report.page import write_page
    from jvsc.runs.report.record import read_record

    evaluation = evaluate_run(config, workdir, dataset, console)
    paths = draw_run(config, workdir, dataset, evaluation)
    paths += write_latents(config, workdir, dataset, evaluation)
    title = f"{config.method}, J = {config.num_samples}"
    paths += write_page(title, [read_record(workdir)], workdir)
    print_table(console, config, evaluation)
    diverged = read_divergences(workdir)
    if diverged:
        console.print(f"result of the run: {describe(diverged)}", markup=False, highlight=False)
    print_paths(console, [*paths, workdir / EVALUATION_FILE])
    return 0


def use_model(command: Command, console: Console) -> int:
    """Encodes or decodes a file by a trained model, or exports the model.

    Raises:
      UserError: if there is no model, or what was given does not fit it.
    """
    from jvsc.runs.encode_files import decode_file, encode_file
    from jvsc.runs.sae_lens import save_sae_lens
    from jvsc.runs.trained_model import load_with

    trained = load_with(command.config, command.workdir, command.seed)
    if command.mode == "encode":
        encode_file(trained, command.source, command.target, console)
    elif command.mode == "decode":
        decode_file(trained, command.source, command.target, console)
    else:
        if command.layout == "sae_lens":
            save_sae_lens(trained, command.target)
        else:
            trained.save(command.target)
        print_paths(console, sorted(command.target.iterdir()))
    return 0


def compare(runs: Sequence[Path], folder: Path, console: Console) -> int:
    """Draws evaluated runs into one page.

    Raises:
      UserError: if one has not been evaluated, or the folder cannot be written.
    """
    from jvsc.runs.report.page import write_page
    from jvsc.runs.report.record import read_record

    records = [read_record(run) for run in runs]
    for record in records:
        if record.damage:
            text = f"{record.name}: rows of its log cannot be read ({record.damage})"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{folder} cannot be made ({error.strerror}); give another"
        raise UserError(reason, "workdir") from None
    print_paths(console, write_page("Comparison of runs", records, folder))
    return 0


def print_paths(console: Console, paths: Sequence[Path]) -> None:
    """A file a line, whole, so that it can be copied."""
    for path in paths:
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def run(arguments: Sequence[str] | None = None) -> int:
    """Entry point: like `execute`, with known mistakes as one line on standard error."""
    return guarded(execute, sys.argv[1:] if arguments is None else arguments)


def main() -> NoReturn:
    """What `jvsc` starts: like `run`, but ends the process."""
    end(run())


def guarded(command: Callable[[Sequence[str], Console], int], arguments: Sequence[str]) -> int:
    """Runs a command of a command line; known mistakes become one line on standard error."""
    errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        with immediate_interruption():
            return command(arguments, Console())
    except InterruptedRunError as interruption:
        errors.print(f"jvsc: {interruption}")
        fail_with_others(interruption.exit_code)
        return interruption.exit_code
    except Exception as error:
        code = EXIT_CODES.get(type(error))
        message = str(error)
        if code is None and is_disk_full(error):
            code = EXIT_USER_ERROR
            message = "the disk is full; free some space, and the same command goes on"
        if code is None and isinstance(error, OSError) and error.filename and error.strerror:
            code = EXIT_USER_ERROR
            message = (
                f"{error.filename}: {error.strerror}; change that, and the same command goes on"
            )
        if code is None:
            fail_with_others(1, error)
            raise
        errors.print(f"jvsc: {flag_of(error)}{message}")
        fail_with_others(code)
        return code


def flag_of(error: Exception) -> str:
    """The flag of the argument that a mistake is in, to stand before its message; else nothing."""
    argument = error.argument if isinstance(error, UserError) else None
    if argument is None:
        return ""
    return f"--config.{argument}: " if "." in argument else f"--{argument}: "


@contextmanager
def told_if_full(workdir: Path) -> Iterator[None]:
    """Says of a full disk what to free.

    Raises:
      UserError: for an error that grew from a write for which there was no space.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        place = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
        sizes = [
            sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            for folder in (workdir / CHECKPOINTS).glob("[0-9]*")
        ]
        need = f"; a checkpoint takes {max(sizes) / 1e6:.1f} MB" if sizes else ""
        raise UserError(
            f"the disk is full ({shutil.disk_usage(place).free / 1e6:.1f} MB left at "
            f"--workdir={workdir}{need}); free some space, and the same command goes on from "
            "what is kept"
        ) from None


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it grew from, is a write for which there was no space."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        # Orbax's writer, in C++, has no number for it.
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
