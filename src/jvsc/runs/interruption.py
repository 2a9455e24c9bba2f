"""SIGTERM, which clusters send before they take a machine away, and Ctrl-C: stop in good order.

Python's own answer to Ctrl-C is an exception at any place. Raised within XLA's compiler it lives on
in native code, which lets go of it when Python is gone already: a segmentation fault.
"""

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from jvsc.errors import EXIT_CTRL_C, EXIT_INTERRUPTED, InterruptedRunError, exit_code_of

# Steps run between two looks at whether to stop last about so long.
SEGMENT_SECONDS = 5.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Whether this process has been asked to end, and by which signal."""

    asked = False
    number: int = signal.SIGTERM

    def error(self, what_is_kept: str) -> InterruptedRunError:
        """What ends the run."""
        text = f"ended by {name_of(self.number)} {what_is_kept}"
        return InterruptedRunError(text, self.number)


def name_of(number: int) -> str:
    """The name of a signal, for messages."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class Pace:
    """How many steps to run before looking again whether to stop: from 1 to SEGMENT_SECONDS' worth.

    The first steps compile, and a device may slow down; so it follows what steps take.
    """

    steps: int = 1

    def learn(self, steps: int, seconds: float) -> None:
        """Records how long some steps took."""
        if seconds > SEGMENT_SECONDS:
            self.steps = max(1, self.steps // 2)
        elif seconds < SEGMENT_SECONDS / 2 and steps == self.steps:
            self.steps *= 2


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """A context in which a first SIGTERM or Ctrl-C only sets `asked`; a second ends the process.

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
            for number in received:
                if number in SIGNALS and interruption.asked:
                    os._exit(exit_code_of(number))
                if number in SIGNALS:
                    interruption.number, interruption.asked = number, True

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
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
    """A context in which SIGTERM or Ctrl-C raises an `InterruptedRunError`."""

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        for each in SIGNALS:
            signal.signal(each, end_at_once)
        raise InterruptedRunError(
            f"ended by {name_of(number)}; the same command goes on with it", number
        )

    with _handling(handle):
        yield


@contextmanager
def _handling(handle: signal.Handlers | object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A command in the background of a shell's script ignores Ctrl-C, and goes on doing so.
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(number: int, frame: FrameType | None = None) -> NoReturn:
    """A handler that ends the process without a word."""
    del frame
    os._exit(exit_code_of(number))


def end(code: int) -> NoReturn:
    """Ends a command; without Python's own end if a signal ended it (see above)."""
    if code in (EXIT_INTERRUPTED, EXIT_CTRL_C):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
