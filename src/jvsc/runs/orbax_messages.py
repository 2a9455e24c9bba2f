"""What Orbax's threads put on the screen beside the error that reaches their caller."""

import logging
import sys
import traceback
import warnings
from functools import cache
from typing import Any


@cache
def hush_orbax() -> None:
    """Keeps it off, for good: jvsc says in one line what a damaged file or a full disk means.

    A thread that still reads or writes finds its loop closed at any later time, and asyncio tells
    of an error that nobody asked for when it is thrown away.
    """
    logging.getLogger("asyncio").disabled = True
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    hook = sys.unraisablehook

    def others(unraisable: Any) -> None:
        frames = traceback.walk_tb(unraisable.exc_traceback)
        files = [frame.f_code.co_filename for frame, _ in frames]
        if not any(name in file for file in files for name in ("orbax", "asyncio")):
            hook(unraisable)

    sys.unraisablehook = others
