"""One compiled program an epoch: shuffle, scan over the steps, update; seeds by vmap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from jvsc.model import Parameters
from jvsc.objective import StepMetrics
from jvsc.state import TrainState

# loss(parameters, batch, key, step) -> (loss, metrics)
Loss = Callable[
    [Parameters, Float[Array, "B D"], Key[Array, ""], Int[Array, ""]],
    tuple[Float[Array, ""], StepMetrics],
]
Epoch = Callable[[TrainState, Float[Array, "N D"]], tuple[TrainState, StepMetrics]]

_SHUFFLE, _STEP = 0, 1


def train_step(
    state: TrainState,
    batch: Float[Array, "B D"],
    loss: Loss,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, StepMetrics]:
    """One gradient step on one batch.

    Args:
      state: before the step.
      batch: the data x.
      loss: what is descended.
      optimizer: of all parameters.

    Returns:
      The state after the step, and the step's metrics.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, _STEP), state.step)
    gradient, metrics = jax.grad(loss, has_aux=True)(state.parameters, batch, key, state.step)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
    parameters: Any = optax.apply_updates(state.parameters, updates)
    return TrainState(state.step + 1, state.key, parameters, optimizer_state), metrics


def epoch_order(
    key: Key[Array, ""], epoch: Int[Array, ""], num_data: int, batch_size: int
) -> Int[Array, "steps B"]:
    """Which data each step of an epoch takes; a remainder smaller than a batch waits its turn."""
    epoch_key = jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch)
    num_steps = num_data // batch_size
    order = jax.random.permutation(epoch_key, num_data)[: num_steps * batch_size]
    return order.reshape(num_steps, batch_size)


def make_epoch(loss: Loss, optimizer: optax.GradientTransformation, batch_size: int) -> Epoch:
    """Compiles an epoch over data that live on the device, for all seeds at once.

    Args:
      loss: what is descended.
      optimizer: of all parameters.
      batch_size: B.

    Returns:
      `(states with a leading axis S, data [N, D]) -> (states, metrics of each step [S, steps])`.
      The states given are donated: their buffers are used again.
    """

    def one_seed(state: TrainState, data: Float[Array, "N D"]) -> tuple[TrainState, StepMetrics]:
        num_steps = data.shape[0] // batch_size
        order = epoch_order(state.key, state.step // num_steps, data.shape[0], batch_size)

        def step(state: TrainState, indices: Int[Array, " B"]):
            return train_step(state, jnp.take(data, indices, axis=0), loss, optimizer)

        return jax.lax.scan(step, state, order)

    return jax.jit(jax.vmap(one_seed, in_axes=(0, None)), donate_argnums=0)
