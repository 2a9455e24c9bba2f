"""The command line: a table or figure and a scale; prints the plan, then carries it out."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from jvsc import main
from jvsc.data.paths import user_path
from jvsc.errors import UserError
from jvsc.reproduce.conv_generators import PANELS
from jvsc.reproduce.page import write_results
from jvsc.reproduce.plan import PlannedRun, execute_plan, print_plan, run_config
from jvsc.reproduce.targets import TARGETS, Target
from jvsc.runs.applicable import readers_of

SCALES = ("paper", "cpu")
DATA_FLAGS = ("patches", "fashion_mnist", "celeba")


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, as jvsc does everywhere."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists what may be given")


def make_parser() -> Parser:
    """The parser of the command's flags."""
    parser = Parser(
        prog="python -m jvsc.reproduce",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Reproduces a table or figure of the paper. Finished runs are used again, "
        "killed ones continued.",
        epilog="targets:\n" + "\n".join(f"  {name:9}{t.title}" for name, t in TARGETS.items()),
    )
    parser.add_argument("target", choices=list(TARGETS), metavar="TARGET", help="see below")
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default="paper",
        help="the paper's settings (default), or fewer epochs and data, for two CPU cores",
    )
    parser.add_argument("--workdir", default="runs/reproduce", help="where runs and results go")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--run", type=int, metavar="N", help="only the Nth run of the plan, for array jobs"
    )
    part.add_argument(
        "--finished", action="store_true", help="the page of the runs that are finished; no other"
    )
    parser.add_argument(
        "--panel",
        action="append",
        choices=PANELS,
        help="figures 6 to 8: only this panel; may be repeated (default: of Fashion-MNIST, and "
        "of CelebA where --celeba is given)",
    )
    for name in DATA_FLAGS:
        parser.add_argument(f"--{name}", metavar="PATH", default="", help=f"data.path of {name}")
    parser.add_argument(
        "--config.KEY=VALUE",
        dest="setting",
        metavar="",
        help="a setting of every run, as of jvsc.main",
    )
    return parser


def plan(
    target: Target, scale: str, options: argparse.Namespace, settings: Sequence[str]
) -> list[PlannedRun]:
    """The runs of a target with the given data paths and settings."""
    panels = options.panel or [
        panel for panel in PANELS if options.celeba or not panel.startswith("celeba")
    ]
    runs = []
    for run in target.runs(scale, tuple(panels)):
        path = getattr(options, run.name.partition("/")[0])
        data = [f"--config.data.path={path}"] if path else []
        arguments = (*run.arguments, *data, *settings)
        config = run_config(PlannedRun(run.name, arguments), Path())
        unread = {f"--config.{key}" for key in settings_of(settings) if readers_of(key, config)}
        read = [a for a in arguments if a.partition("=")[0] not in unread]
        runs.append(PlannedRun(run.name, tuple(read)))
    return runs


def settings_of(arguments: Sequence[str]) -> list[str]:
    """The keys of arguments --config.KEY=VALUE."""
    return [argument.partition("=")[0].removeprefix("--config.") for argument in arguments]


def execute(arguments: Sequence[str], console: Console) -> int:
    """Carries out a command line; returns the exit code.

    Raises:
      UserError: for a mistake in the arguments.
    """
    settings = [argument for argument in arguments if argument.startswith("--config.")]
    options = make_parser().parse_args([a for a in arguments if a not in settings])
    target = TARGETS[options.target]
    runs_folder = user_path(options.workdir, "workdir") / options.scale
    runs = plan(target, options.scale, options, settings)
    print_plan(runs, runs_folder, console)
    if options.dry_run:
        return 0
    if options.run is not None:
        if not 1 <= options.run <= len(runs):
            raise UserError(f"--run={options.run}: the plan has runs 1 to {len(runs)}")
        execute_plan(runs[options.run - 1 : options.run], runs_folder, console)
        return 0
    records = execute_plan(runs, runs_folder, console, train=not options.finished)
    if options.finished and not records:
        raise UserError(
            f"no run in {runs_folder} is finished with these settings; --dry-run lists them"
        )
    folder = runs_folder / options.target
    folder.mkdir(parents=True, exist_ok=True)
    sections = target.present(records, folder)
    command = shlex.join(["python", "-m", "jvsc.reproduce", *arguments])
    plans = runs, plan(target, "paper", options, settings)
    page = write_results(
        target.title,
        command,
        options.scale,
        settings,
        plans,
        records,
        sections,
        runs_folder,
        folder,
    )
    main.print_paths(console, [page, *(path for part in sections for _, path in part.pictures)])
    return 0


def run(arguments: Sequence[str] | None = None) -> int:
    """Entry point: `execute`, with known errors reported in one line on standard error."""
    return main.guarded(execute, sys.argv[1:] if arguments is None else arguments)
