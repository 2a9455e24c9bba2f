"""The passes of a fit: the devices that share them, and who watches and ends them."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from rich.console import Console

from jvsc.runs.logs import Show, shown_progress
from jvsc.sparse_coder.coder import Coder
from jvsc.sparse_coder.settings import Plan
from jvsc.sparse_coder.standardised_rows import StandardisedRows
from jvsc.training.feed import streamed_feed
from jvsc.training.mesh import DATA_AXIS, replicate
from jvsc.training.patience import Patience
from jvsc.training.state import TrainState

# Read ahead from the data at once; small, so that much larger data than memory serve.
SEGMENT_BYTES = 1 << 20
# Steps, and share of the passes, in which a loss may rise, as the divergence gets its weight and
# controllers bring the share of non-zeros to the wanted one.
SETTLING_STEPS, SETTLING_SHARE = 500, 0.1


class FitState(NamedTuple):
    """A fit after one of its passes, as its callback gets it.

    Attributes:
      n_iter: passes done, of all calls of `partial_fit` together.
      n_steps: gradient steps done, likewise.
      loss: what training descends, the mean over the pass.
      nonzero_fraction: share of non-zeros of the codes that it trained on, likewise.
      components: the dictionary now, in the data's units, [K, D].
    """

    n_iter: int
    n_steps: int
    loss: float
    nonzero_fraction: float
    components: Float[np.ndarray, "K D"]


class Watch(NamedTuple):
    """What is done after each pass.

    Attributes:
      components: the dictionary of a state, in the data's units.
      callback: hears of the pass; the fit ends if it returns True.
      show: shows it.
      tol: what the loss must fall by; None for a fit that makes all its passes.
      n_iter_no_change: passes in a row without that, after which the fit ends.
      settled_after: passes that do not count.
      passes_before: of earlier calls.
    """

    components: Callable[[TrainState], Float[np.ndarray, "K D"]]
    callback: Callable[[FitState], object] | None = None
    show: Show | None = None
    tol: float | None = None
    n_iter_no_change: int = 10
    settled_after: int = 0
    passes_before: int = 0

    @property
    def sees(self) -> bool:
        """Whether there is anything to do."""
        return not (self.callback is None and self.show is None and self.tol is None)


@contextmanager
def shown_passes(verbose: bool, passes: int) -> Iterator[Show | None]:
    """Shows passes on a progress bar, or as lines where there is no terminal."""
    if not verbose:
        yield None
        return
    with shown_progress("pass", 0, passes, Console()) as show:
        yield show


def settling_passes(passes: int, steps: int) -> int:
    """Passes of a fit, of so many steps each, that `tol` does not count."""
    return max(math.ceil(SETTLING_SHARE * passes), math.ceil(SETTLING_STEPS / steps))


def run_passes(
    plan: Plan,
    coder: Coder,
    state: TrainState,
    rows: StandardisedRows,
    passes: int,
    watch: Watch,
) -> tuple[TrainState, list[float]]:
    """Trains for so many passes over the data, or fewer.

    Args:
      plan: what is trained.
      coder: its programs.
      state: where to begin, with a leading axis of one.
      rows: the data.
      passes: at most so many.
      watch: what is done after each.

    Returns:
      The last state, and the loss of each pass, a mean over its steps.
    """
    mesh = local_mesh(plan.config.batch_size)
    state = replicate(state, mesh)
    feed = streamed_feed(
        rows,
        coder.loss,
        coder.optimizer,
        plan.config.batch_size,
        coder.prepare,
        mesh,
        state.key,
        SEGMENT_BYTES,
    )
    patience, losses = Patience(), []
    for number in range(1, passes + 1):
        state, metrics = feed.run_epoch(state)
        losses.append(metrics.loss)
        if watch.sees:
            loss, share = (
                float(np.mean(np.asarray(of_steps, np.float64)))
                for of_steps in (metrics.loss, metrics.nonzero_fraction)
            )
            patience, ends = watched(watch, number, state, loss, share, patience)
            if ends:
                break
    # Read when all is done: a pass does not wait for the numbers of the one before.
    return state, [float(np.mean(np.asarray(loss, np.float64))) for loss in losses]


def watched(
    watch: Watch, number: int, state: TrainState, loss: float, share: float, patience: Patience
) -> tuple[Patience, bool]:
    """What is to be known after a pass, and whether the fit ends with it.

    Args:
      watch: what is done.
      number: of the pass, from 1.
      state: after it.
      loss: the mean over its steps.
      share: of non-zeros, likewise.
      patience: before it.
    """
    if watch.show is not None:
        watch.show(number, f"loss {loss:.4f}  non-zeros {100 * share:.1f}%")
    ends = not math.isfinite(loss)
    if watch.callback is not None and not ends:
        done = watch.passes_before + number
        seen = FitState(done, int(state.step[0]), loss, share, watch.components(state))
        answer = watch.callback(seen)
        ends = isinstance(answer, bool | np.bool_) and bool(answer)  # others are no answer
    if watch.tol is not None and number > watch.settled_after:
        patience = patience.after(loss, watch.tol)
        ends |= patience.waited >= watch.n_iter_no_change
    return patience, ends


def local_mesh(batch_size: int) -> Mesh:
    """This process's devices, if they can share a batch evenly; else one of them."""
    devices = jax.local_devices()
    count = 1 if batch_size % len(devices) else len(devices)
    return jax.make_mesh(
        (count,),
        (DATA_AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=devices[:count],
    )
