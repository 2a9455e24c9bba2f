"""SIGTERM, which clusters send before they take a machine away: finish, keep, exit; or at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from jvsc.errors import InterruptedRunError

# EX_TEMPFAIL: nothing is wrong with the run, and the same command goes on with it.
EXIT_INTERRUPTED = 75


class Interruption:
    """Whether this process has been asked to end."""

    asked = False


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """Within it a first SIGTERM only sets `asked`; a second one ends the process at once.

    Outside the main thread, where signals cannot be caught, nothing changes.
    """
    interruption = Interruption()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if interruption.asked:
            os._exit(EXIT_INTERRUPTED)
        interruption.asked = True

    with _handling(handle):
        yield interruption


@contextmanager
def immediate_interruption() -> Iterator[None]:
    """Within it a SIGTERM ends what is being done by an `InterruptedRunError`."""

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise InterruptedRunError("ended by SIGTERM; the same command goes on with it")

    with _handling(handle):
        yield


@contextmanager
def _handling(handle: signal.Handlers | object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
