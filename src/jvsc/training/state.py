"""The state of a training, and its initial value."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Shaped

from jvsc.data.rows import Rows
from jvsc.kernels.threefry import fused_threefry
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics

# Apart from the tags of an epoch's keys (`jvsc.training.epoch`).
_ATOMS = 3
# Of a random direction, added to an atom that begins as a datum.
JITTER = 1e-3


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
    parameters, statistics = initial_variables(init_key, model)
    return TrainState(jnp.int32(0), train_key, parameters, statistics, optimizer.init(parameters))


def initial_variables(key: Key[Array, ""], model: Model) -> tuple[Parameters, Statistics]:
    """Initial parameters and statistics, float32 and the same with double precision.

    With JAX_ENABLE_X64 what is drawn without a type would be other numbers, in float64.
    """
    with jax.enable_x64(False):
        return model.init(fused_threefry(key))


def init_states(
    seeds: tuple[int, ...], model: Model, optimizer: optax.GradientTransformation
) -> TrainState:
    """One state a seed, stacked along a leading axis; on the host, where it compiles soonest."""
    with jax.default_device(_host()):
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return jax.jit(jax.vmap(lambda key: init_state(key, model, optimizer)))(keys)


def with_atoms_of_data(
    states: TrainState, data: Shaped[np.ndarray, "N D"] | Rows, num_latents: int
) -> TrainState:
    """States whose dictionaries are random data, scaled to the norm of the atoms they replace.

    Args:
      states: before the first step, with a leading axis S.
      data: of the training set, with at least one row that is not zero.
      num_latents: K.
    """

    def atoms_of(key: Key[Array, ""], atoms: Float[Array, "K D"]) -> Float[Array, "K D"]:
        with jax.enable_x64(False):
            chosen = jax.random.choice(
                jax.random.fold_in(key, _ATOMS), len(data), (num_latents,), len(data) < num_latents
            )
        rows = jnp.asarray(np.asarray(data[np.asarray(chosen)]), atoms.dtype)
        norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
        # A datum of zeros, and one drawn twice, would be no atom of its own.
        rows = jnp.where(norms > 0, rows / jnp.where(norms > 0, norms, 1), atoms)
        mixed = rows + JITTER * atoms / jnp.linalg.norm(atoms, axis=1, keepdims=True)
        norm = jnp.linalg.norm(atoms, axis=1, keepdims=True)
        return norm * mixed / jnp.linalg.norm(mixed, axis=1, keepdims=True)

    with jax.default_device(_host()):
        dictionary = jnp.stack(
            [
                atoms_of(key, atoms)
                for key, atoms in zip(states.key, states.parameters.generator, strict=True)
            ]
        )
    return states._replace(parameters=states.parameters._replace(generator=dictionary))


def _host() -> Any:
    """The host as a device; None where JAX_PLATFORMS leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
