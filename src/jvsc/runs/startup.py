"""The first seconds of a command, in which its libraries are imported."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jvsc.errors import UserError
from jvsc.runs.interruption import SIGNALS, end_at_once

# How an installation calls the command.
SCRIPT = "jvsc"
EXIT_USER_ERROR = 2


@contextmanager
def importing(is_command: bool) -> Iterator[None]:
    """Within it a signal ends a command without a word, and what JAX or jvsc refuses is one line.

    That of SIGTERM has the code by which a cluster knows that the same command goes on.

    JAX reads its settings from the environment as it is imported.

    Args:
      is_command: whether the module that imports is run; the script of an installation, which
        imports it, is known by its name. For others nothing changes.
    """
    if not is_command and Path(sys.argv[0]).stem != SCRIPT:
        yield
        return
    # TensorFlow's and XLA's start-up notes are not about the user's run.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, end_at_once)
    try:
        yield
    except UserError as error:
        print(f"jvsc: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except ValueError as error:
        if "JAX" not in str(error):
            raise
        reason = " ".join(str(error).split())
        print(f"jvsc: the environment: {reason}; change or unset it", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
