"""What goes wrong for a reason the user can mend."""

import signal
from collections.abc import Iterable
from importlib.util import find_spec

# EX_TEMPFAIL: nothing is wrong with the run, and the same command goes on with it.
EXIT_INTERRUPTED = 75
# What shells give a command that Ctrl-C ends.
EXIT_CTRL_C = 128 + signal.SIGINT


class UserError(ValueError):
    """A mistake in what the user gave; its message is one line that says what to do."""


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
