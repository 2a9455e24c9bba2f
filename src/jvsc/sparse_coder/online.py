"""The passes of method="lasso": online dictionary learning, on the host."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jvsc.model.model import StepMetrics
from jvsc.solvers.online_dictionary import (
    DictionaryMoments,
    batches,
    next_penalty,
    online_step,
    single_threaded_products,
    solve_lasso,
    unit_atoms,
)
from jvsc.sparse_coder.fitting import Watch, watched
from jvsc.sparse_coder.refining import penalty_for
from jvsc.sparse_coder.settings import Plan
from jvsc.sparse_coder.standardised_rows import StandardisedRows
from jvsc.training.patience import Patience
from jvsc.training.state import TrainState

# Data whose share of non-zeros decides the first penalty.
FIRST_ROWS = 256


def run_online_passes(
    plan: Plan,
    state: TrainState,
    rows: StandardisedRows,
    passes: int,
    watch: Watch,
    has_start: bool,
) -> tuple[TrainState, list[float]]:
    """As `run_passes`, by online steps.

    Args:
      plan: what is trained.
      state: where to begin, with a leading axis of one.
      rows: the data.
      passes: at most so many.
      watch: what is done after each.
      has_start: whether the state's dictionary is to be begun with; else it is random data.
    """
    assert plan.sparsity is not None  # refused before
    key = np.asarray(jax.random.key_data(state.key)).ravel()
    step = int(state.step[0])
    random = np.random.default_rng([*key.tolist(), step])
    atoms = np.asarray(state.parameters.generator[0])
    if not has_start and step == 0:
        atoms = rows[random.permutation(len(rows))[np.arange(len(atoms)) % len(rows)]]
    atoms = unit_atoms(atoms, random)
    control = state.statistics.generator["control"]
    penalty = float(np.exp(np.asarray(control[0], np.float64)))
    carried: Any = state.optimizer
    moments = DictionaryMoments(*(np.asarray(part[0]) for part in carried))
    if step == 0 and passes:
        first = rows[random.permutation(len(rows))[:FIRST_ROWS]]
        penalty = _first_penalty(first, atoms, plan)
    patience, losses = Patience(), []
    for number in range(1, passes + 1):
        in_pass: list[tuple[float, float]] = []
        with single_threaded_products():
            for places in batches(random, len(rows), plan.config.batch_size):
                batch = rows[places]
                after, moments, codes = online_step(
                    atoms, moments, batch, penalty, positive_codes=plan.positive
                )
                left = batch - codes @ atoms
                energy = 0.5 * float(np.vdot(left, left)) + penalty * float(np.abs(codes).sum())
                in_pass.append((energy / len(batch), float(np.mean(codes != 0))))
                atoms, penalty = after, next_penalty(penalty, codes, plan.sparsity)
                step += 1
        loss, share = np.asarray(in_pass).mean(axis=0)
        losses.append(float(loss))
        state = _with(state, step, atoms, moments, penalty)
        if watch.sees:
            unknown = np.float64(np.nan)
            metrics: Any = StepMetrics(*map(jnp.asarray, (loss, unknown, 0.0, share)))
            patience, ends = watched(watch, number, state, metrics, patience)
            if ends:
                break
    return _with(state, step, atoms, moments, penalty), losses


def _first_penalty(
    rows: Float[np.ndarray, "n D"], atoms: Float[np.ndarray, "K D"], plan: Plan
) -> float:
    def share(penalty: float) -> float:
        return float(np.mean(solve_lasso(rows, atoms, penalty, plan.positive, 1e-2) != 0))

    highest = float(np.abs(rows @ atoms.T).max())
    return penalty_for(share, plan.sparsity or 0.0, highest) if highest else 1.0


def _with(
    state: TrainState,
    step: int,
    atoms: Float[np.ndarray, "K D"],
    moments: DictionaryMoments,
    penalty: float,
) -> TrainState:
    """The state after some steps."""
    generator = state.statistics.generator | {
        "control": jnp.asarray([np.log(penalty)], jnp.float32)
    }
    return state._replace(
        step=jnp.asarray([step], state.step.dtype),
        parameters=state.parameters._replace(generator=jnp.asarray(atoms[None])),
        statistics=state.statistics._replace(generator=generator),
        optimizer=DictionaryMoments(*(jnp.asarray(part, jnp.float32)[None] for part in moments)),
    )


def rescaled_online(state: TrainState, factor: float) -> TrainState:
    """A state whose data are so many times what they were: atoms keep their norm, codes do not."""
    moments: Any = state.optimizer
    generator = state.statistics.generator
    control = jnp.asarray(generator["control"]) + np.float32(np.log(factor))
    return state._replace(
        statistics=state.statistics._replace(generator=generator | {"control": control}),
        optimizer=moments._replace(
            codes=moments.codes * np.float32(factor**2), cross=moments.cross * np.float32(factor**2)
        ),
    )
