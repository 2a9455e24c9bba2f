"""Online dictionary learning as a feed: steps on the host, of atoms and moments, not gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, Shaped

from jvsc.model.model import StepMetrics
from jvsc.model.solver_coded import solver_metrics
from jvsc.solvers.online_dictionary import DictionaryMoments, single_threaded_products
from jvsc.training.batches import Prepare
from jvsc.training.epoch import no_metrics, prepared, step_key
from jvsc.training.feed import Feed, Matrix, orders_of_epochs
from jvsc.training.mesh import replicate
from jvsc.training.state import TrainState

# (atoms, moments, batch, penalty) -> (atoms, moments, the batch's codes by the atoms before)
OnlineStep = Callable[
    [Float[np.ndarray, "K D"], DictionaryMoments, Float[np.ndarray, "B D"], float],
    tuple[Float[np.ndarray, "K D"], DictionaryMoments, Float[np.ndarray, "B K"]],
]


def moments_in_place_of_gradients() -> optax.GradientTransformation:
    """What a training state holds of an optimiser: the moments of codes and data."""

    def init(parameters: Any) -> DictionaryMoments:
        atoms = parameters.generator
        codes = jnp.zeros((len(atoms), len(atoms)), jnp.float32)
        return DictionaryMoments(codes, jnp.zeros_like(atoms), jnp.float32(0))

    def update(*_: Any) -> Any:
        raise NotImplementedError("an online dictionary makes no gradient steps")

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def online_feed(
    data: Matrix,
    step: OnlineStep,
    penalty: float,
    batch_size: int,
    prepare: Prepare,
    mesh: Mesh,
    keys: Key[Array, " S"],
) -> Feed:
    """Epochs of online steps, in the same batches and order as `resident_feed`'s.

    Codes are solved for on the host, or where `fastest_lasso` does; seeds follow one another. Where
    an epoch is cut changes no number. The state's optimiser are the moments.

    Args:
      data: may be memory-mapped.
      step: of one batch.
      penalty: lambda of its codes.
      batch_size: B.
      prepare: makes a batch of data as they are stored.
      mesh: where the states live, whole on this process.
      keys: each seed's training key, which makes its order.
    """
    num_steps = len(data) // batch_size
    order_of = orders_of_epochs(keys, len(data), batch_size)
    prepared_batch = jax.jit(partial(_prepared, prepare=prepare))
    measure = jax.jit(_metrics)

    def run_steps(
        states: TrainState, metrics: StepMetrics, place: int, count: int
    ) -> tuple[TrainState, StepMetrics]:
        rows: Any = jax.tree.map(np.array, metrics)
        carried: Any = states.optimizer
        all_atoms, steps = np.array(states.parameters.generator), np.array(states.step)
        all_moments = DictionaryMoments(*(np.array(part) for part in carried))
        with single_threaded_products():
            for seed in range(len(steps)):
                order, key = order_of(int(steps[seed]) // num_steps)[seed], states.key[seed]
                atoms, moments = all_atoms[seed], DictionaryMoments(*(m[seed] for m in all_moments))
                for index in range(place, place + count):
                    batch = np.asarray(prepared_batch(key, steps[seed], data[order[index]]))
                    before = atoms
                    atoms, moments, codes = step(before, moments, batch, penalty)
                    values = measure(batch, before, codes, penalty)
                    for row, value in zip(rows, values, strict=True):
                        row[seed, index] = value
                    steps[seed] += 1
                all_atoms[seed] = atoms
                for part, value in zip(all_moments, moments, strict=True):
                    part[seed] = value
        parameters = states.parameters._replace(generator=all_atoms)
        after = states._replace(step=steps, parameters=parameters, optimizer=all_moments)
        placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), after, states)
        return placed, replicate(rows, mesh)

    def begin(states: TrainState) -> StepMetrics:
        return no_metrics(states.step.shape[0], num_steps, mesh)

    # The place in the data follows from the states' steps.
    return Feed(num_steps, begin, run_steps, lambda step: None)


def _prepared(
    key: Key[Array, ""], step: Int[ArrayLike, ""], batch: Shaped[Array, "B D"], prepare: Prepare
) -> Float[Array, "B D"]:
    """A step's data in float32, as moments are."""
    return prepared(batch, step_key(key, jnp.asarray(step)), 0, prepare).astype(jnp.float32)


def _metrics(
    data: Float[Array, "B D"],
    atoms: Float[Array, "K D"],
    codes: Float[Array, "B K"],
    penalty: Float[Array, ""] | float,
) -> StepMetrics:
    return solver_metrics(data, codes @ atoms, codes, penalty)
