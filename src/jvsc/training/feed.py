"""The data of an epoch: kept on the device where they fit, else streamed by Grain."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, Shaped

from jvsc.errors import machine_memory
from jvsc.model.model import StepMetrics
from jvsc.training.batches import Prepare
from jvsc.training.epoch import Loss, epoch_order, make_steps, make_streamed_steps, no_metrics
from jvsc.training.mesh import DATA_AXIS, replicate
from jvsc.training.state import TrainState

# Bytes sent to the devices at once, and how many such segments are read ahead.
SEGMENT_BYTES = 1 << 26
READ_AHEAD = 2


@runtime_checkable
class Matrix(Protocol):
    """A matrix [N, D] whose rows can be read by their numbers, such as an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def itemsize(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Shaped[np.ndarray, "n D"]: ...


class Feed(NamedTuple):
    """The steps of epochs with their data.

    Attributes:
      num_steps: of an epoch.
      begin: states -> the metrics of an epoch of which no step is done, [S, steps].
      run_steps: (states, metrics, place of the first step in the epoch, how many) -> (states,
        metrics); both are donated. The steps of an epoch are run in order.
      seek: goes on after so many steps of all epochs.
    """

    num_steps: int
    begin: Callable[[TrainState], StepMetrics]
    run_steps: Callable[[TrainState, StepMetrics, int, int], tuple[TrainState, StepMetrics]]
    seek: Callable[[int], None]

    def run_epoch(self, states: TrainState) -> tuple[TrainState, StepMetrics]:
        """States after one epoch, and the metrics of each step [S, steps]."""
        return self.run_steps(states, self.begin(states), 0, self.num_steps)


def fits_on_device(data: Matrix, fraction: float) -> bool:
    """Whether data take at most a share of the first device's memory (this process's on a CPU)."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    memory = statistics.get("bytes_limit") or machine_memory()
    return math.prod(data.shape) * data.itemsize <= fraction * memory


def resident_feed(
    data: Matrix,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    prepare: Prepare,
    mesh: Mesh,
) -> Feed:
    """Data that live on every device and are shuffled there (arguments as for `make_steps`)."""
    run = make_steps(loss, optimizer, batch_size, prepare, mesh)
    on_device = replicate(np.asarray(data), mesh)
    num_steps = len(data) // batch_size

    def run_steps(
        states: TrainState, metrics: StepMetrics, place: int, count: int
    ) -> tuple[TrainState, StepMetrics]:
        return run(states, metrics, on_device, jnp.int32(place), jnp.int32(count))

    begin = partial(_begin, num_steps=num_steps, mesh=mesh)
    # The place in the data follows from the states' steps.
    return Feed(num_steps, begin, run_steps, lambda step: None)


def _begin(states: TrainState, num_steps: int, mesh: Mesh) -> StepMetrics:
    return no_metrics(states.step.shape[0], num_steps, mesh)


def streamed_feed(
    data: Matrix,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    prepare: Prepare,
    mesh: Mesh,
    keys: Key[Array, " S"],
    segment_bytes: int = SEGMENT_BYTES,
) -> Feed:
    """Data read ahead from the host, the same batches in the same order as `resident_feed`'s.

    Args:
      data: may be memory-mapped; each process reads its own share of every batch.
      loss: as for `make_steps`.
      optimizer: likewise.
      batch_size: likewise.
      prepare: likewise.
      mesh: likewise.
      keys: each seed's training key, which makes its order.
      segment_bytes: about as many bytes are sent to the devices at once.
    """
    import grain  # most data are resident, and need not wait for it

    num_steps = len(data) // batch_size
    longest = max(1, segment_bytes // (len(keys) * batch_size * data.shape[1] * data.itemsize))
    # Segments of one length, so that one compilation serves all.
    steps = max(n for n in range(1, num_steps + 1) if num_steps % n == 0 and n <= longest)
    run = make_streamed_steps(loss, optimizer, prepare, mesh, (num_steps, steps))
    share = batch_size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    sharding = NamedSharding(mesh, PartitionSpec(None, None, DATA_AXIS))

    order_of = orders_of_epochs(keys, len(data), batch_size)

    def read(segment: int) -> np.ndarray:
        epoch, place = divmod(segment, num_steps // steps)
        indices = order_of(epoch)[:, place * steps : (place + 1) * steps, mine]
        return data[indices.ravel()].reshape(*indices.shape, data.shape[1])

    def segments_from(first: int) -> Iterator[np.ndarray]:
        options = grain.ReadOptions(num_threads=READ_AHEAD, prefetch_buffer_size=READ_AHEAD)
        numbers = grain.MapDataset.range(first, 2**31 - 1)
        return iter(numbers.map(read).to_iter_dataset(options))

    # The segment in hand, and those that follow; read ahead from the first step on.
    current: Any = None
    segments: Iterator[np.ndarray] | None = None

    def run_steps(
        states: TrainState, metrics: StepMetrics, place: int, count: int
    ) -> tuple[TrainState, StepMetrics]:
        nonlocal current, segments
        segments = segments or segments_from(0)
        end = place + count
        while place < end:
            if current is None:
                current = jax.make_array_from_process_local_data(sharding, next(segments))
            stop = min(end, (place // steps + 1) * steps)
            states, metrics = run(
                states, metrics, current, jnp.int32(place), jnp.int32(stop - place)
            )
            place = stop
            if place % steps == 0:
                current = None
        return states, metrics

    def seek(step: int) -> None:
        nonlocal current, segments
        current, segments = None, segments_from(step // steps)

    begin = partial(_begin, num_steps=num_steps, mesh=mesh)
    return Feed(num_steps, begin, run_steps, seek)


def orders_of_epochs(
    keys: Key[Array, " S"], num_data: int, batch_size: int
) -> Callable[[int], Int[np.ndarray, "S steps B"]]:
    """`epoch -> epoch_order` of each seed, on the host; the last two are kept."""
    # On this process's device, and kept: the states they come from will be donated.
    keys = jax.random.wrap_key_data(jnp.asarray(np.array(jax.random.key_data(keys))))
    orders = _make_orders(num_data, batch_size)

    @lru_cache(maxsize=2)
    def order_of(epoch: int) -> Int[np.ndarray, "S steps B"]:
        return np.asarray(orders(keys, jnp.int32(epoch)))

    return order_of


# A program of its own for each length of data, of several megabytes: few are kept.
@lru_cache(maxsize=4)
def _make_orders(
    num_data: int, batch_size: int
) -> Callable[[Key[Array, " S"], Int[Array, ""]], Int[Array, "S steps B"]]:
    """`(training keys, epoch) -> epoch_order` of each seed, compiled."""

    def orders(keys: Key[Array, " S"], epoch: Int[Array, ""]) -> Int[Array, "S steps B"]:
        return jax.vmap(lambda key: epoch_order(key, epoch, num_data, batch_size))(keys)

    return jax.jit(orders)
