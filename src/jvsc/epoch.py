"""One compiled program an epoch: shuffle, scan over the steps, update; seeds by vmap."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, Shaped

from jvsc.batches import Prepare
from jvsc.model import Parameters, Statistics
from jvsc.objective import StepMetrics
from jvsc.parallel import DATA_AXIS, check_batch_size
from jvsc.sampling import datum_keys
from jvsc.state import TrainState

# loss(parameters, statistics, batch, key, step, place of the first datum)
#   -> (loss, (metrics, moved statistics))
Loss = Callable[
    [Parameters, Statistics, Float[Array, "B D"], Key[Array, ""], Int[Array, ""], ArrayLike],
    tuple[Float[Array, ""], tuple[StepMetrics, Statistics]],
]
Epoch = Callable[[TrainState, Shaped[Array, "N D"]], tuple[TrainState, StepMetrics]]
Segment = Callable[[TrainState, Shaped[Array, "S steps B D"]], tuple[TrainState, StepMetrics]]

_SHUFFLE, _STEP, _PREPARE = 0, 1, 2


def train_step(
    state: TrainState,
    batch: Shaped[Array, "B D"],
    first: ArrayLike,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    prepare: Prepare,
) -> tuple[TrainState, StepMetrics]:
    """One gradient step on one batch, inside `shard_map` over the data axis.

    Args:
      state: before the step, the same on every device.
      batch: this device's share of the data, as they are stored.
      first: place of its first datum in the whole batch.
      loss: what is descended, a mean over the data it is given.
      optimizer: of all parameters.
      prepare: makes data of what is stored.

    Returns:
      The state after the step and the step's metrics, both of the whole batch.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, _STEP), state.step)
    keys = datum_keys(jax.random.fold_in(key, _PREPARE), batch.shape[0], first)
    data = prepare(batch, keys)
    gradient, (metrics, statistics) = jax.grad(loss, has_aux=True)(
        state.parameters, state.statistics, data, key, state.step, first
    )
    gradient, metrics = jax.lax.pmean((gradient, metrics), DATA_AXIS)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
    parameters: Any = optax.apply_updates(state.parameters, updates)
    after = TrainState(state.step + 1, state.key, parameters, statistics, optimizer_state)
    return after, metrics


def epoch_order(
    key: Key[Array, ""], epoch: Int[Array, ""], num_data: int, batch_size: int
) -> Int[Array, "steps B"]:
    """Which data each step of an epoch takes; a remainder smaller than a batch waits its turn."""
    epoch_key = jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch)
    num_steps = num_data // batch_size
    order = jax.random.permutation(epoch_key, num_data)[: num_steps * batch_size]
    return order.reshape(num_steps, batch_size)


def make_epoch(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    prepare: Prepare,
    mesh: Mesh,
) -> Epoch:
    """Compiles an epoch over data that live on the devices, for all seeds at once.

    Args:
      loss: what is descended.
      optimizer: of all parameters.
      batch_size: B, of all devices together.
      prepare: makes a batch of data as they are stored.
      mesh: the devices that share each batch.

    Returns:
      `(states with a leading axis S, data [N, D]) -> (states, metrics of each step [S, steps])`,
      all of them whole on every device. The states given are donated: their buffers are used again.

    Raises:
      UserError: if the devices cannot share a batch evenly.
    """
    check_batch_size(batch_size, mesh.size)
    share = batch_size // mesh.size

    def one_seed(state: TrainState, data: Shaped[Array, "N D"]) -> tuple[TrainState, StepMetrics]:
        num_steps = data.shape[0] // batch_size
        order = epoch_order(state.key, state.step // num_steps, data.shape[0], batch_size)
        first = jax.lax.axis_index(DATA_AXIS) * share

        def step(state: TrainState, indices: Int[Array, " B"]):
            mine = jax.lax.dynamic_slice_in_dim(indices, first, share)
            batch = jnp.take(data, mine, axis=0)
            return train_step(state, batch, first, loss, optimizer, prepare)

        return jax.lax.scan(step, state, order)

    return _compile(jax.vmap(one_seed, in_axes=(0, None)), mesh, PartitionSpec())


@lru_cache(maxsize=32)
def make_segment(
    loss: Loss, optimizer: optax.GradientTransformation, prepare: Prepare, mesh: Mesh
) -> Segment:
    """Compiles the steps of a part of an epoch whose batches come from outside, for all seeds.

    Args:
      loss: what is descended.
      optimizer: of all parameters.
      prepare: makes a batch of data as they are stored.
      mesh: the devices that share each batch.

    The same arguments give the same program, compiled once.

    Returns:
      `(states, batches [S, steps, B, D] spread over B) -> (states, metrics of each step)`, else as
      `make_epoch`.
    """

    def one_seed(
        state: TrainState, batches: Shaped[Array, "steps b D"]
    ) -> tuple[TrainState, StepMetrics]:
        first = jax.lax.axis_index(DATA_AXIS) * batches.shape[1]

        def step(state: TrainState, batch: Shaped[Array, "b D"]):
            return train_step(state, batch, first, loss, optimizer, prepare)

        return jax.lax.scan(step, state, batches)

    return _compile(jax.vmap(one_seed), mesh, PartitionSpec(None, None, DATA_AXIS))


def _compile(run: Callable, mesh: Mesh, data_spec: PartitionSpec) -> Callable:
    everywhere = PartitionSpec()
    # Gradients are averaged by hand in train_step, so replication is not tracked.
    spread = jax.shard_map(
        run, mesh=mesh, in_specs=(everywhere, data_spec), out_specs=everywhere, check_vma=False
    )
    return jax.jit(spread, donate_argnums=0)
