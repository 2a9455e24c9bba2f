"""How an epoch gets its data: from the device where they fit, else streamed by Grain."""

import os
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, Shaped

from jvsc.batches import Prepare
from jvsc.epoch import Loss, epoch_order, make_epoch, make_segment
from jvsc.objective import StepMetrics
from jvsc.parallel import DATA_AXIS, replicate
from jvsc.state import TrainState

# Bytes sent to the devices at once, and how many such segments are read ahead.
SEGMENT_BYTES = 1 << 26
READ_AHEAD = 2


@runtime_checkable
class Rows(Protocol):
    """A matrix [N, D] whose rows can be read by their numbers, such as an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def itemsize(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Shaped[np.ndarray, "n D"]: ...


class Feed(NamedTuple):
    """An epoch with its data.

    Attributes:
      run_epoch: states -> (states after one epoch, metrics of each step [S, steps]).
      position: where in the data it is, for a checkpoint.
      seek: goes on from such a position.
    """

    run_epoch: Callable[[TrainState], tuple[TrainState, StepMetrics]]
    position: Callable[[], dict[str, Any]]
    seek: Callable[[dict[str, Any]], None]


def fits_on_device(data: Shaped[np.ndarray, "N D"], fraction: float) -> bool:
    """Whether data take at most a share of the first device's memory (the host's on a CPU)."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return data.nbytes <= fraction * statistics.get("bytes_limit", host)


def resident_feed(
    data: Shaped[np.ndarray, "N D"],
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    prepare: Prepare,
    mesh: Mesh,
) -> Feed:
    """Data that live on every device and are shuffled there (arguments as for `make_epoch`)."""
    run = make_epoch(loss, optimizer, batch_size, prepare, mesh)
    on_device = replicate(data, mesh)
    return Feed(lambda states: run(states, on_device), dict, lambda position: None)


def streamed_feed(
    data: Rows,
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
      loss: as for `make_epoch`.
      optimizer: likewise.
      batch_size: likewise.
      prepare: likewise.
      mesh: likewise.
      keys: each seed's training key, which makes its order.
      segment_bytes: about as many bytes are sent to the devices at once.
    """
    run = make_segment(loss, optimizer, prepare, mesh)
    # On this process's device, and kept: the states they come from will be donated.
    keys = jax.random.wrap_key_data(jnp.asarray(np.array(jax.random.key_data(keys))))
    num_steps = len(data) // batch_size
    longest = max(1, segment_bytes // (len(keys) * batch_size * data.shape[1] * data.itemsize))
    # Segments of one length, so that one compilation serves all.
    steps = max(n for n in range(1, num_steps + 1) if num_steps % n == 0 and n <= longest)
    share = batch_size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    sharding = NamedSharding(mesh, PartitionSpec(None, None, DATA_AXIS))

    @lru_cache(maxsize=2)
    def order_of(epoch: int) -> np.ndarray:
        return np.asarray(_orders(keys, jnp.int32(epoch), len(data), batch_size))

    def read(segment: int) -> np.ndarray:
        epoch, place = divmod(segment, num_steps // steps)
        indices = order_of(epoch)[:, place * steps : (place + 1) * steps, mine]
        return data[indices.ravel()].reshape(*indices.shape, data.shape[1])

    segments = iter(
        grain.MapDataset.range(2**31 - 1)
        .map(read)
        .to_iter_dataset(grain.ReadOptions(num_threads=READ_AHEAD, prefetch_buffer_size=READ_AHEAD))
    )

    def run_epoch(states: TrainState) -> tuple[TrainState, StepMetrics]:
        parts = []
        for _ in range(num_steps // steps):
            batches = jax.make_array_from_process_local_data(sharding, next(segments))
            states, metrics = run(states, batches)
            parts.append(metrics)
        return states, jax.tree.map(lambda *part: jnp.concatenate(part, axis=1), *parts)

    return Feed(run_epoch, segments.get_state, segments.set_state)


@partial(jax.jit, static_argnames=("num_data", "batch_size"))
def _orders(
    keys: Key[Array, " S"], epoch: Int[Array, ""], num_data: int, batch_size: int
) -> Int[Array, "S steps B"]:
    return jax.vmap(lambda key: epoch_order(key, epoch, num_data, batch_size))(keys)
