"""An epoch's steps as one compiled program: shuffle, loop, update; all seeds together."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, Shaped

from jvsc.model.model import StepMetrics
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.sampling import datum_keys
from jvsc.training.batches import Prepare
from jvsc.training.mesh import DATA_AXIS, check_batch_size, replicate
from jvsc.training.state import TrainState

# loss(parameters, statistics, batch, key, step, place of the first datum)
#   -> (loss, (metrics, moved statistics))
Loss = Callable[
    [Parameters, Statistics, Float[Array, "B D"], Key[Array, ""], Int[Array, ""], ArrayLike],
    tuple[Float[Array, ""], tuple[StepMetrics, Statistics]],
]
# run(states, metrics of the epoch's steps so far, data, place of the first step in the epoch,
#   how many steps) -> (states, metrics)
Steps = Callable[
    [
        TrainState,
        StepMetrics,
        Shaped[Array, "N D"] | Shaped[Array, "S steps B D"],
        Int[Array, ""],
        Int[Array, ""],
    ],
    tuple[TrainState, StepMetrics],
]

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
    key = step_key(state.key, state.step)
    data = prepared(batch, key, first, prepare)
    gradient, (metrics, statistics) = jax.grad(loss, has_aux=True)(
        state.parameters, state.statistics, data, key, state.step, first
    )
    if jax.lax.axis_size(DATA_AXIS) > 1:
        gradient, metrics = jax.lax.pmean((gradient, metrics), DATA_AXIS)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
    parameters: Any = optax.apply_updates(state.parameters, updates)
    after = TrainState(state.step + 1, state.key, parameters, statistics, optimizer_state)
    return after, metrics


def step_key(key: Key[Array, ""], step: Int[Array, ""]) -> Key[Array, ""]:
    """A step's key, of the training's."""
    return jax.random.fold_in(jax.random.fold_in(key, _STEP), step)


def prepared(
    batch: Shaped[Array, "B D"], key: Key[Array, ""], first: ArrayLike, prepare: Prepare
) -> Float[Array, "B D"]:
    """A step's data, of its key and what is stored (arguments as for `train_step`)."""
    return prepare(batch, datum_keys(jax.random.fold_in(key, _PREPARE), batch.shape[0], first))


def epoch_order(
    key: Key[Array, ""], epoch: Int[Array, ""], num_data: int, batch_size: int
) -> Int[Array, "steps B"]:
    """Which data each step of an epoch takes; a remainder smaller than a batch waits its turn."""
    epoch_key = jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch)
    num_steps = num_data // batch_size
    order = jax.random.permutation(epoch_key, num_data)[: num_steps * batch_size]
    return order.reshape(num_steps, batch_size)


def make_steps(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    prepare: Prepare,
    mesh: Mesh,
) -> Steps:
    """Compiles the steps of an epoch over data that live on the devices, for all seeds at once.

    Any number of them runs at a time, by the same program: where an epoch is interrupted does not
    change its numbers.

    Args:
      loss: what is descended.
      optimizer: of all parameters.
      batch_size: B, of all devices together.
      prepare: makes a batch of data as they are stored.
      mesh: the devices that share each batch.

    Returns:
      `(states with a leading axis S, metrics of each step of the epoch [S, steps], data [N, D],
      place of the first step, count) -> (states, metrics)`, all of them whole on every device. The
      states and metrics given are donated: their buffers are used again.

    Raises:
      UserError: if the devices cannot share a batch evenly.
    """
    shares = mesh.shape[DATA_AXIS]
    check_batch_size(batch_size, shares)
    share = batch_size // shares

    def one_seed(
        state: TrainState,
        metrics: StepMetrics,
        data: Shaped[Array, "N D"],
        place: Int[Array, ""],
        count: Int[Array, ""],
    ) -> tuple[TrainState, StepMetrics]:
        num_steps = data.shape[0] // batch_size
        order = epoch_order(state.key, state.step // num_steps, data.shape[0], batch_size)
        first = jax.lax.axis_index(DATA_AXIS) * share

        def step(state: TrainState, place: Int[Array, ""]) -> tuple[TrainState, StepMetrics]:
            mine = jax.lax.dynamic_slice_in_dim(order[place], first, share)
            batch = jnp.take(data, mine, axis=0)
            return train_step(state, batch, first, loss, optimizer, prepare)

        return _loop(step, state, metrics, place, count)

    return _compile(_over_seeds(one_seed, None), mesh, PartitionSpec())


@lru_cache(maxsize=32)
def make_streamed_steps(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    prepare: Prepare,
    mesh: Mesh,
    lengths: tuple[int, int],
) -> Steps:
    """As `make_steps`, for batches that come from outside, a segment of the epoch at a time.

    Args:
      loss: what is descended.
      optimizer: of all parameters.
      prepare: makes a batch of data as they are stored.
      mesh: the devices that share each batch.
      lengths: steps of the epoch and of a segment, for each of which a program is compiled.

    The same arguments give the same program, compiled once and dropped when others came after it.

    Returns:
      As `make_steps`, but of the segment's batches [S, steps, B, D], spread over B. Segments are of
      one length, and the steps stay within one.
    """

    def one_seed(
        state: TrainState,
        metrics: StepMetrics,
        batches: Shaped[Array, "steps b D"],
        place: Int[Array, ""],
        count: Int[Array, ""],
    ) -> tuple[TrainState, StepMetrics]:
        first = jax.lax.axis_index(DATA_AXIS) * batches.shape[1]

        def step(state: TrainState, place: Int[Array, ""]) -> tuple[TrainState, StepMetrics]:
            batch = batches[place % batches.shape[0]]
            return train_step(state, batch, first, loss, optimizer, prepare)

        return _loop(step, state, metrics, place, count)

    del lengths  # a key of the cache: programs of all lengths in one would never be dropped
    spread = PartitionSpec(None, None, DATA_AXIS)
    return _compile(_over_seeds(one_seed, 0), mesh, spread)


def no_metrics(num_seeds: int, num_steps: int, mesh: Mesh) -> StepMetrics:
    """Metrics of an epoch of which no step is done, [S, steps] on every device."""
    zeros: Any = np.zeros((num_seeds, num_steps), jnp.result_type(float))
    return replicate(StepMetrics(zeros, zeros, zeros, zeros), mesh)


def _loop(
    step: Callable[[TrainState, Int[Array, ""]], tuple[TrainState, StepMetrics]],
    state: TrainState,
    metrics: StepMetrics,
    place: Int[Array, ""],
    count: Int[Array, ""],
) -> tuple[TrainState, StepMetrics]:
    """Runs the steps from `place` on; each one's metrics go to its place."""

    def body(
        index: Int[Array, ""], carried: tuple[TrainState, StepMetrics]
    ) -> tuple[TrainState, StepMetrics]:
        state, metrics = carried
        state, step_metrics = step(state, place + index)
        return state, jax.tree.map(
            lambda row, value: row.at[place + index].set(value.astype(row.dtype)),
            metrics,
            step_metrics,
        )

    return jax.lax.fori_loop(jnp.int32(0), count, body, (state, metrics))


def _over_seeds(one_seed: Callable, data_axis: int | None) -> Callable:
    """All seeds in one program: by vmap, or on a CPU, which one fills, after one another.

    Args:
      one_seed: of a seed's state and metrics, data, place and count.
      data_axis: of the data's seeds; None where all seeds take the same.
    """
    axes = (0, 0, data_axis, None, None)

    def run(*arguments: Any) -> tuple[TrainState, StepMetrics]:
        num_seeds = arguments[0].step.shape[0]
        if num_seeds > 1 and jax.default_backend() != "cpu":
            return jax.vmap(one_seed, in_axes=axes)(*arguments)

        def numbered(index: ArrayLike) -> tuple[TrainState, StepMetrics]:
            return one_seed(
                *(
                    jax.tree.map(lambda leaf: leaf[index], argument) if axis == 0 else argument
                    for argument, axis in zip(arguments, axes, strict=True)
                )
            )

        if num_seeds == 1:
            return jax.tree.map(lambda leaf: leaf[None], numbered(0))
        return jax.lax.map(numbered, jnp.arange(num_seeds))

    return run


def _compile(run: Callable, mesh: Mesh, data_spec: PartitionSpec) -> Callable:
    """The program on all devices.

    A batch is spread by hand, so that a step says what its devices exchange. Latents that are
    divided among devices are kept so by XLA: a step reads as on one device.
    """
    everywhere = PartitionSpec()
    # Gradients are averaged by hand in train_step, so replication is not tracked.
    spread = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(everywhere, everywhere, data_spec, everywhere, everywhere),
        out_specs=everywhere,
        axis_names={DATA_AXIS},
        check_vma=False,
    )
    return jax.jit(spread, donate_argnums=(0, 1))
