"""Everything that training carries from step to step, and how it begins."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from jvsc.model import Model, Parameters, Statistics
from jvsc.random_bits import straight_line


class TrainState(NamedTuple):
    """State of one training, or of S of them with a leading axis.

    All randomness follows from `key` and `step`, so a state continues exactly.

    Attributes:
      step: steps done.
      key: the training's random key, never changed.
      parameters: of encoder and generator.
      statistics: their running averages, where they normalise by the batch.
      optimizer: the optimiser's state.
    """

    step: Int[Array, "*S"]
    key: Key[Array, "*S"]
    parameters: Parameters
    statistics: Statistics
    optimizer: optax.OptState


def init_state(
    key: Key[Array, ""], model: Model, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step, a function of `key` alone."""
    init_key, train_key = jax.random.split(key)
    parameters, statistics = model.init(straight_line(init_key))
    return TrainState(jnp.int32(0), train_key, parameters, statistics, optimizer.init(parameters))


def init_states(
    seeds: tuple[int, ...], model: Model, optimizer: optax.GradientTransformation
) -> TrainState:
    """One state a seed, stacked along a leading axis; on the host, where it compiles soonest."""
    with jax.default_device(_host()):
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return jax.jit(jax.vmap(lambda key: init_state(key, model, optimizer)))(keys)


def _host() -> Any:
    """The host as a device; None where JAX_PLATFORMS leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
