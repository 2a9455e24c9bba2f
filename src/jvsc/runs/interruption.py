"""SIGTERM, which clusters send before they take a machine away: finish, keep, exit; or at once."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from jvsc.errors import EXIT_INTERRUPTED, InterruptedRunError

# Steps run between two looks at whether to stop last about so long.
SEGMENT_SECONDS = 5.0


class Interruption:
    """Whether this process has been asked to end."""

    asked = False


class Pace:
    """How many steps to run before looking again whether to stop: from 1 to SEGMENT_SECONDS' worth.

    The first steps compile, and a device may slow down; so it follows what steps take.
    """

    steps: int = 1

    def learn(self, steps: int, seconds: float) -> None:
        """Takes in how long some steps took."""
        if seconds > SEGMENT_SECONDS:
            self.steps = max(1, self.steps // 2)
        elif seconds < SEGMENT_SECONDS / 2 and steps == self.steps:
            self.steps *= 2


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """Within it a first SIGTERM only sets `asked`; a second one ends the process at once.

    Outside the main thread, where signals cannot be caught, nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    # A thread, since Python's own handlers wait until the main thread leaves a compiled program.
    def watch() -> None:
        while received := reading.recv(64):
            for _ in range(received.count(signal.SIGTERM)):
                if interruption.asked:
                    os._exit(EXIT_INTERRUPTED)
                interruption.asked = True

    watcher = threading.Thread(target=watch, name="SIGTERM", daemon=True)
    watcher.start()
    with reading, _handling(lambda number, frame: None):
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield interruption
        finally:
            signal.set_wakeup_fd(before)
            writing.close()
            watcher.join()


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
