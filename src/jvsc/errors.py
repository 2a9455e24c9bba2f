"""What goes wrong for a reason the user can mend."""

# EX_TEMPFAIL: nothing is wrong with the run, and the same command goes on with it.
EXIT_INTERRUPTED = 75


class UserError(ValueError):
    """A mistake in what the user gave; its message is one line that says what to do."""


class DivergenceError(RuntimeError):
    """A training loss that became non-finite; its message names the step and the term."""


class InterruptedRunError(RuntimeError):
    """SIGTERM ended a run in good order; its message says what is kept."""
