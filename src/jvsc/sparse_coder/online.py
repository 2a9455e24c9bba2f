"""The passes of method="lasso": online dictionary learning, on the host."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jvsc.solvers.lasso import fastest_lasso
from jvsc.solvers.online_dictionary import (
    DictionaryMoments,
    batches,
    data_as_atoms,
    next_penalty,
    online_step,
    single_threaded_products,
    unit_atoms,
)
from jvsc.solvers.problem import present_entries
from jvsc.sparse_coder.coder import with_penalty
from jvsc.sparse_coder.fitting import Watch, watched
from jvsc.sparse_coder.refining import penalty_for
from jvsc.sparse_coder.settings import Plan
from jvsc.sparse_coder.standardised_rows import StandardisedRows
from jvsc.training.patience import Patience
from jvsc.training.state import TrainState

# Data whose share of non-zeros decides the first penalty.
FIRST_ROWS = 256
# Least penalty for atoms of norm 1, as a share of a row's norm: codes are least squares by then.
LOWEST = 1e-4


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
    key = np.asarray(jax.random.key_data(state.key)).ravel()
    random = np.random.default_rng([*key.tolist(), int(state.step[0])])
    patience, losses = Patience(), []
    now = _begun(state, rows, has_start, random)
    if now.step == 0 and passes and plan.sparsity is not None:
        first = rows[random.permutation(len(rows))[:FIRST_ROWS]]
        now = now._replace(penalty=_first_penalty(first, now.atoms, plan.sparsity, plan))
    for number in range(1, passes + 1):
        # Not while others watch, who may solve too and wait for one another.
        with single_threaded_products():
            now, loss, share = _pass(plan, now, rows, random)
        losses.append(loss)
        if watch.sees:
            patience, ends = watched(watch, number, now.put(state), loss, share, patience)
            if ends:
                break
    return now.put(state), losses


class _Online(NamedTuple):
    """What changes in a step.

    Attributes:
      step: how many were made.
      atoms: of norm 1, [K, D].
      moments: of codes and data.
      penalty: lambda of the next batch.
    """

    step: int
    atoms: Float[np.ndarray, "K D"]
    moments: DictionaryMoments
    penalty: float

    def put(self, state: TrainState) -> TrainState:
        """The training state that holds it."""
        moments = (jnp.asarray(part, jnp.float32)[None] for part in self.moments)
        return with_penalty(state, self.penalty)._replace(
            step=jnp.asarray([self.step], state.step.dtype),
            parameters=state.parameters._replace(generator=jnp.asarray(self.atoms[None])),
            optimizer=DictionaryMoments(*moments),
        )


def _begun(
    state: TrainState, rows: StandardisedRows, has_start: bool, random: np.random.Generator
) -> _Online:
    """What a training state holds; without a start its first atoms are data."""
    step = int(state.step[0])
    atoms = np.asarray(state.parameters.generator[0])
    if not has_start and step == 0:
        atoms = np.nan_to_num(data_as_atoms(rows, len(atoms), random))
    atoms = unit_atoms(atoms, random)
    carried: Any = state.optimizer
    moments = DictionaryMoments(*(np.asarray(part[0]) for part in carried))
    control = np.asarray(state.statistics.generator["control"][0], np.float64)
    return _Online(step, atoms, moments, float(np.exp(control)))


def _pass(
    plan: Plan, now: _Online, rows: StandardisedRows, random: np.random.Generator
) -> tuple[_Online, float, float]:
    """One pass over the data; the means of objective (10) and of the share of non-zeros."""
    of_steps: list[tuple[float, float]] = []
    for places in batches(random, len(rows), plan.config.batch_size):
        batch = rows[places]
        atoms, moments, codes = online_step(
            now.atoms, now.moments, batch, now.penalty, positive_codes=plan.positive
        )
        left = np.where(np.isnan(batch), 0, batch - codes @ now.atoms)
        energy = 0.5 * float(np.vdot(left, left)) + now.penalty * float(np.abs(codes).sum())
        of_steps.append((energy / len(batch), float(np.mean(codes != 0))))
        penalty = now.penalty
        norm = usual_norm(batch)
        if plan.sparsity is not None and norm:  # of zeros no penalty has more codes
            penalty = next_penalty(penalty, codes, plan.sparsity, LOWEST * norm)
        now = _Online(now.step + 1, atoms, moments, penalty)
    loss, share = np.asarray(of_steps).mean(axis=0).tolist()
    return now, loss, share


def usual_norm(rows: Float[np.ndarray, "n D"]) -> float:
    """The median norm of rows that are not zero; zero where all are."""
    energy = np.nansum(rows**2, axis=1)
    return float(np.sqrt(np.median(energy[energy > 0]))) if energy.any() else 0.0


def _first_penalty(
    rows: Float[np.ndarray, "n D"], atoms: Float[np.ndarray, "K D"], sparsity: float, plan: Plan
) -> float:
    """The penalty at which the first codes have the wanted share of non-zeros."""
    options: Any = {"positive": plan.positive, "tolerance": 1e-2, "present": present_entries(rows)}

    def share(penalty: float) -> float:
        codes = fastest_lasso(rows, atoms, penalty, **options).codes
        return float(np.mean(np.asarray(codes) != 0))

    highest = float(np.abs(np.nan_to_num(rows) @ atoms.T).max())
    return penalty_for(share, sparsity, highest)[0] if highest else 1.0


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
