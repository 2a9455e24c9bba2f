"""Codes of data by what an estimator has learned, and the penalty they are refined with."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jvsc.errors import UserError
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.solver_coded import SolverCoded
from jvsc.solvers import fista
from jvsc.solvers.lasso import fastest_lasso
from jvsc.solvers.problem import norms_of, present_entries
from jvsc.sparse_coder.coder import Coder, make_coder
from jvsc.sparse_coder.refining import highest_penalty, penalty_for, refinement
from jvsc.sparse_coder.settings import Plan
from jvsc.sparse_coder.standardised_rows import StandardisedRows
from jvsc.training.state import TrainState
from jvsc.training.unit_atoms import atoms_of

# Relative duality gap of the lasso's codes.
CODING_TOLERANCE = 1e-4
# Scales with which a dictionary has room in float32.
FLOAT32_SCALES = (1e-30, 1e30)
# Data whose share of non-zeros decides a penalty.
CALIBRATION_ROWS = 1024


def check_sizes(atoms: Float[np.ndarray, "K D"] | None, scale: float) -> None:
    """Refuses a given dictionary that float32 has no room for beside data of a scale.

    Raises:
      UserError: naming the first such atom.
    """
    if atoms is None:
        return
    low, high = FLOAT32_SCALES
    norms = norms_of(atoms)[:, 0]
    with np.errstate(over="ignore", under="ignore"):
        fits = (norms / scale > low) & (norms / scale < high)
    if not fits.all():
        atom = int(np.argmin(fits))
        raise UserError(
            f"dictionary: atom {atom} has norm {norms[atom]:.3g} and the data a scale of "
            f"{scale:.3g}, too far apart for float32; scale the atom"
        )


class Learned(NamedTuple):
    """What a fit has learned.

    Attributes:
      coder: the programs.
      parameters: of encoder and generator.
      statistics: their own.
      seed: of the draws.
      positive: whether the lasso's codes may not be negative.
      online: whether they are solved by whatever is fastest here.
    """

    coder: Coder
    parameters: Parameters
    statistics: Statistics
    seed: int
    positive: bool = False
    online: bool = False

    @property
    def dictionary(self) -> Any:
        """A [K, D], in units of the scaled data."""
        return atoms_of(self.parameters.generator)

    def residual(
        self, rows: Float[np.ndarray, "B D"], codes: Float[np.ndarray, "B K"]
    ) -> Float[np.ndarray, "B D"]:
        """What the codes leave of the rows."""
        left = np.asarray(rows - codes @ self.dictionary)
        generator = self.parameters.generator
        return left - np.asarray(generator["bias"]) if isinstance(generator, dict) else left

    @property
    def is_solved(self) -> bool:
        """Whether a solver infers the codes."""
        return isinstance(self.coder.model, SolverCoded)

    def encode(self, rows: Float[np.ndarray, "B D"]) -> Float[Array, "B K"]:
        """The encoder's codes, each by draws that follow from its datum's values."""
        return self.coder.codes(self.parameters, self.statistics, rows, jax.random.key(self.seed))

    def improve(
        self,
        rows: Float[np.ndarray, "B D"],
        start: Float[Array, "B K"] | None,
        penalty: float,
        steps: int,
    ) -> Float[Array, "B K"] | Float[np.ndarray, "B K"]:
        """The lasso's codes, or those of an encoder after so many steps of refinement."""
        if start is None:
            solve = fastest_lasso if self.online else partial(fista, max_iterations=1000)
            atoms = np.asarray(self.dictionary)
            options = {"positive": self.positive, "tolerance": CODING_TOLERANCE}
            present = present_entries(rows)
            codes = solve(rows, atoms, penalty, present=present, **options).codes
            if present is None or not present.all(axis=1).any():
                return codes
            # Complete rows have the same codes whatever rows are beside them.
            of_complete = solve(np.nan_to_num(rows), atoms, penalty, **options).codes
            return np.where(present.all(axis=1, keepdims=True), of_complete, codes)
        refine = refinement(self.coder.model)
        return refine(rows, self.dictionary, penalty, start, steps)


def components_of(state: TrainState, scale: float, kind: np.dtype) -> Float[np.ndarray, "K D"]:
    """The dictionary of a state in the data's units, of their floating type if that has room."""
    atoms = np.asarray(atoms_of(state.parameters.generator)[0])
    if not FLOAT32_SCALES[0] < scale < FLOAT32_SCALES[1]:
        return atoms.astype(np.float64) * scale
    return (atoms * scale).astype(np.float32 if kind == np.float32 else np.float64)


def learned(plan: Plan, state: TrainState, num_features: int, seed: int) -> Learned:
    """Programs and variables of a state with a leading axis of one."""
    first = partial(jax.tree.map, lambda leaf: leaf[0])
    coder = make_coder(plan, num_features)
    return Learned(
        coder,
        first(state.parameters),
        first(state.statistics),
        seed,
        plan.positive,
        plan.learns_online,
    )


def codes_of(
    what: Learned, rows: StandardisedRows, penalty: float | None, refine_steps: int
) -> Iterator[tuple[Float[np.ndarray, "c K"], Float[np.ndarray, "c D"]]]:
    """Codes of consecutive rows, and the rows themselves, centred and scaled.

    Args:
      what: a fit has learned.
      rows: the data.
      penalty: of the lasso or of the refinement; None where neither is asked for.
      refine_steps: as many.

    Raises:
      UserError: if the fit has not found the penalty that is needed.
    """
    if refine_steps and penalty is None:
        raise UserError(
            f"refine_steps is {refine_steps} but was 0 in the fit, which finds their penalty; fit "
            "again"
        )
    for part, count in rows.chunks():
        codes = None if what.is_solved else what.encode(part)
        if what.is_solved or refine_steps:
            assert penalty is not None
            codes = what.improve(part, codes, penalty, refine_steps)
        yield np.asarray(codes)[:count], part[:count]


def calibrated_penalty(
    what: Learned, rows: StandardisedRows, sparsity: float | None, refine_steps: int
) -> float | None:
    """The penalty at which codes of data have the wanted share of non-zeros; None without one.

    Args:
      what: a fit has learned.
      rows: the data.
      sparsity: wanted share; None for the encoder's own.
      refine_steps: as many.
    """
    if not (what.is_solved or refine_steps):
        return None
    places = np.linspace(0, len(rows) - 1, min(len(rows), CALIBRATION_ROWS), dtype=int)
    part, count = next(rows.chosen(places).chunks())
    correlation = float(np.max(np.abs(np.nan_to_num(part) @ what.dictionary.T)))
    highest = highest_penalty(what.coder.model, what.statistics, correlation, part.shape[1])
    start: Any = None if what.is_solved else what.encode(part)

    def share(codes: Float[Array, "B K"] | Float[np.ndarray, "B K"]) -> float:
        return float(np.mean(np.asarray(codes)[:count] != 0))

    return penalty_for(
        lambda penalty: share(what.improve(part, start, penalty, refine_steps)),
        share(start) if sparsity is None else sparsity,
        highest,
    )
