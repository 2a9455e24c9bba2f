"""How a comparison is timed: alternating repetitions after a warm-up, medians, compiling apart."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

REPETITIONS = 7
# Of the peers that ask for a number; ours take all cores.
THREADS = os.cpu_count() or 1
# Thread pools of one contestant spin on for a moment when its turn is over.
PAUSE = 0.05


class Timing(NamedTuple):
    """One contestant's times, in seconds.

    Attributes:
      median: of the repetitions.
      first: the first call's, compiling included.
    """

    median: float
    first: float


def block(result: Any) -> Any:
    """Waits for a result that a device may still be computing."""
    return jax.block_until_ready(result)


def seconds_of(call: Callable[[], Any]) -> float:
    """How long one call takes until its result is there."""
    start = time.perf_counter()
    block(call())
    return time.perf_counter() - start


def timed(function: Callable, *arguments: Any, **options: Any) -> tuple[Any, float]:
    """A function's result and its seconds."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start


def compare(
    contestants: Mapping[str, Callable[[], Any]], repetitions: int = REPETITIONS, warmup: int = 2
) -> dict[str, Timing]:
    """Times contestants in turn, so that a slow moment of the machine meets all of them.

    Args:
      contestants: a call each; it returns when it is done, or a JAX array.
      repetitions: how many turns each gets.
      warmup: calls of each before them; the first is reported apart.
    """
    first = {}
    for name, call in contestants.items():
        first[name] = seconds_of(call)
        for _ in range(warmup - 1):
            block(call())
    times: dict[str, list[float]] = {name: [] for name in contestants}
    gc.disable()
    for _ in range(repetitions):
        for name, call in contestants.items():
            time.sleep(PAUSE)
            times[name].append(seconds_of(call))
    gc.enable()
    return {name: Timing(statistics.median(times[name]), first[name]) for name in contestants}
