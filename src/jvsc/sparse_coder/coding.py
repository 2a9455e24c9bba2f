"""Codes of data by what an estimator has learned, and the penalty they are refined with."""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from sklearn.exceptions import ConvergenceWarning

from jvsc.errors import UserError
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.solver_coded import SolverCoded
from jvsc.solvers import fista
from jvsc.solvers.lasso import fastest_lasso, is_available
from jvsc.solvers.problem import LassoSolution, norms_of, present_entries
from jvsc.sparse_coder.coder import Coder, make_coder
from jvsc.sparse_coder.refining import NEARLY, highest_penalty, penalty_for, refinement
from jvsc.sparse_coder.settings import Plan
from jvsc.sparse_coder.standardised_rows import StandardisedRows
from jvsc.training.state import TrainState
from jvsc.training.unit_atoms import atoms_of

# Relative duality gap of the lasso's codes.
CODING_TOLERANCE = 1e-4
# Codes are told of that may be above the optimum by more than this share of their objective, and by
# more than what float32's rounding may make of any gap: so much times ||x|| ||a|| / penalty.
UNSOLVED, ROUNDING = 10 * CODING_TOLERANCE, 1e-6
# Scales with which a dictionary has room in float32.
FLOAT32_SCALES = (1e-30, 1e30)
# Data whose share of non-zeros decides a penalty.
CALIBRATION_ROWS = 1024
# Fewer rows say nothing of what share others may have.
FEWEST_ROWS = 16


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

    def solve(self, rows: Float[np.ndarray, "B D"], penalty: float) -> LassoSolution:
        """The lasso's codes of rows in which NaN is an entry that is not there."""
        solver = fastest_lasso if self.online else partial(fista, max_iterations=1000)
        atoms = np.asarray(self.dictionary)
        options: Any = {"positive": self.positive, "tolerance": CODING_TOLERANCE}
        present = present_entries(rows)
        solution = solver(rows, atoms, penalty, present=present, **options)
        if present is None or not present.all(axis=1).any():
            return solution
        # Complete rows have the same codes whatever rows are beside them.
        of_complete = solver(np.nan_to_num(rows), atoms, penalty, **options)
        complete = np.all(present, axis=1)
        return LassoSolution(
            np.where(np.expand_dims(complete, 1), of_complete.codes, solution.codes),
            np.where(complete, of_complete.gap, solution.gap),
            np.where(complete, of_complete.iterations, solution.iterations),
        )

    def above_optimum(
        self, rows: Float[np.ndarray, "B D"], solution: LassoSolution, penalty: float
    ) -> Float[np.ndarray, " B"]:
        """By which share of it the objective (10) of each code may be above the least one.

        Zero where it is little, or float32 cannot tell.
        """
        gap, excess = np.asarray(solution.gap), np.zeros(len(rows))
        l1 = penalty * np.abs(solution.codes).sum(axis=1)
        # The objective is no less than its second term, so most need no product.
        unsure = np.flatnonzero(gap > UNSOLVED * l1)
        if not len(unsure):
            return excess
        atoms, rows = np.asarray(self.dictionary), rows[unsure]
        codes = np.asarray(solution.codes, np.float64)[unsure]
        left = np.nan_to_num(rows - codes @ atoms)
        objective = 0.5 * np.sum(left**2, axis=1) + penalty * np.sum(np.abs(codes), axis=1)
        share = gap[unsure] / np.where(objective > 0, objective, 1.0)
        sizes = np.linalg.norm(np.nan_to_num(rows), axis=1) * np.linalg.norm(atoms, axis=1).max()
        excess[unsure] = np.where(share > UNSOLVED + ROUNDING * sizes / penalty, share, 0.0)
        return excess

    def refined(
        self,
        rows: Float[np.ndarray, "B D"],
        start: Float[Array, "B K"],
        penalty: float,
        steps: int,
    ) -> Float[Array, "B K"]:
        """An encoder's codes after so many steps of refinement."""
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
    excess: list[np.ndarray] = []
    has_missing = False
    for part, count in rows.chunks():
        if what.is_solved:
            assert penalty is not None
            solution = what.solve(part, penalty)
            codes = solution.codes
            excess.append(what.above_optimum(part, solution, penalty)[:count])
            has_missing |= bool(np.isnan(part).any())
        else:
            codes = what.encode(part)
            if refine_steps:
                assert penalty is not None
                codes = what.refined(part, codes, penalty, refine_steps)
        yield np.asarray(codes)[:count], part[:count]
    if excess:
        has_better = is_available() and not (what.online or has_missing)
        _warn_of_unsolved(np.concatenate(excess), has_better)


def _warn_of_unsolved(excess: Float[np.ndarray, " N"], has_better: bool) -> None:
    """Warns where a solver ended before codes were as near to the lasso's optimum as is asked."""
    missed = np.count_nonzero(excess)
    if missed:
        other = ", or method='lasso', whose solver is more exact" if has_better else ""
        warnings.warn(
            f"{missed} of {len(excess)} codes were left before the lasso's optimum, above which "
            f"they may be by {100 * excess.max():.2g}%; ask for fewer non-zeros (a lower "
            f"sparsity, or a higher alpha){other}",
            ConvergenceWarning,
            stacklevel=5,
        )


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
    if not correlation:
        return highest
    start: Any = None if what.is_solved else what.encode(part)

    def share(codes: Any) -> float:
        return float(np.mean(np.asarray(codes)[:count] != 0))

    def share_at(penalty: float) -> float:
        if what.is_solved:
            return share(what.solve(part, penalty).codes)
        return share(what.refined(part, start, penalty, refine_steps))

    wanted = share(start) if sparsity is None else sparsity
    penalty, most = penalty_for(share_at, wanted, highest)
    if what.is_solved and most < NEARLY * wanted and count >= FEWEST_ROWS:
        warnings.warn(
            f"sparsity={wanted} cannot be had: at most {100 * most:.2g}% of the lasso's codes are "
            "not zero at any penalty; give a lower sparsity, or look for outliers in the data",
            stacklevel=5,
        )
    return penalty
