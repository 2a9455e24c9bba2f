"""Errors that the user can correct, and exit codes."""

import os
import signal
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

# EX_TEMPFAIL: nothing is wrong with the run, and the same command goes on with it.
EXIT_INTERRUPTED = 75
# What shells give a command that Ctrl-C ends.
EXIT_CTRL_C = 128 + signal.SIGINT
# A control group may allow a process less than the machine has.
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


class UserError(ValueError):
    """A mistake in what the user gave; its message is one line that says what to do.

    Attributes:
      argument: the name of what was given, such as "workdir"; a command puts its flag before the
        message. None where the message alone says it.
    """

    def __init__(self, message: str, argument: str | None = None):
        super().__init__(message)
        self.argument: str | None = argument


def require_extra(extra: str, asker: str, modules: Iterable[str]) -> None:
    """Refuses what needs modules that are not installed; none of them is imported.

    Args:
      extra: of jvsc's extras the one that brings them.
      asker: what needs them, such as "data.name=patches".
      modules: their names.

    Raises:
      UserError: if one is missing; it says how to install the extra.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UserError(f"{asker} needs {', '.join(missing)}: pip install 'jvsc[{extra}]'")


def machine_memory() -> int:
    """Bytes of memory that this process may use at most."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _group_limits():
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):
            continue  # no group, or no limit
    return min(limits)


def _group_limits() -> Iterator[Path]:
    """Where the limits of the process's control groups lie: its own, and those that hold it."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, kinds, name = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        # In a container its own group is mounted in the place of the root.
        folder, limit = GROUPS / kinds, "memory.limit_in_bytes" if kinds else "memory.max"
        within = Path(name.strip("/"))
        for group in (within, *within.parents):
            yield folder / group / limit


def refuse_beyond_memory(sizes: dict[str, int]) -> None:
    """Refuses arrays that the machine cannot hold.

    Args:
      sizes: bytes, by the settings that they follow from.

    Raises:
      UserError: naming the settings and what they would take.
    """
    memory = machine_memory()
    for keys, size in sizes.items():
        if size > memory:
            raise UserError(
                f"{keys}: would take {size / 1e9:,.0f} GB, and this machine has "
                f"{memory / 1e9:,.0f} GB; lower them"
            )


class DivergenceError(RuntimeError):
    """A training loss that became non-finite; its message names the step and the term."""


class InterruptedRunError(BaseException):
    """SIGTERM or Ctrl-C ended a run in good order; its message says what is kept.

    As `KeyboardInterrupt` it is no `Exception`, which whoever reads damaged files catches.

    Attributes:
      exit_code: of a command that it ends.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(message)
        self.exit_code: int = exit_code_of(number)


def exit_code_of(number: int) -> int:
    """The exit code of a command that a signal ends in good order."""
    return EXIT_CTRL_C if number == signal.SIGINT else EXIT_INTERRUPTED
