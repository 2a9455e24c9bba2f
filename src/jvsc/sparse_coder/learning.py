"""What an estimator has learned, how it learns it, and what it makes of data."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from jvsc.errors import DivergenceError, UserError
from jvsc.model.methods import VariationalMethod, finds_prior
from jvsc.model.solver_coded import SolverCoded
from jvsc.model.variational import needs_no_draw
from jvsc.sparse_coder.base import CoderBase
from jvsc.sparse_coder.coder import Coder, packed, with_atoms, with_penalty
from jvsc.sparse_coder.coding import (
    CALIBRATION_ROWS,
    FLOAT32_SCALES,
    Learned,
    calibrated_penalty,
    codes_of,
    components_of,
    learned,
)
from jvsc.sparse_coder.fitting import Watch, run_passes
from jvsc.sparse_coder.online import rescaled_online, run_online_passes
from jvsc.sparse_coder.rescaling import rescaled
from jvsc.sparse_coder.settings import Plan, check_parameters
from jvsc.sparse_coder.standardised_rows import Data, Moments, StandardisedRows, moments
from jvsc.training.state import TrainState

# A share of the rows so far, whose units what they taught does not keep to.
FEW = 0.1


class PenaltySoFar(NamedTuple):
    """A penalty in units of data of a scale, and how many rows were seen."""

    penalty: float
    scale: float
    num_rows: int


class LearningCoder(CoderBase):
    """The fit's parts; `SparseCoder` puts them together."""

    components_: np.ndarray
    mean_: np.ndarray
    intercept_: np.ndarray
    scale_: float
    n_iter_: int
    loss_curve_: list[float]
    n_steps_: int
    n_features_in_: int
    penalty_: float
    # Of the parts of `partial_fit`; None after a `fit`.
    _moments: Moments | None
    _seed: int
    _plan: Plan
    _state: TrainState

    dictionary: Any
    dict_init: Any
    kl_weight: float
    sparsity: float | None
    alpha: float | None
    refine_steps: int

    @contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        """Whatever fails within it leaves the estimator as it was."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _begun(
        self, coder: Coder, given: np.ndarray | None, initial: np.ndarray | None
    ) -> TrainState:
        """The state before the first step, with atoms that stay or others to begin with."""
        state = coder.init(jax.random.key(self._seed)[None])
        if given is not None:
            solved = isinstance(coder.model, SolverCoded)
            return with_atoms(state, given / self.scale_, keep_norms=not solved)
        return state if initial is None else with_atoms(state, initial, keep_norms=True)

    def _check_unchanged(self, coder: Coder) -> None:
        """Refuses parameters of another model than the one that was learned."""
        wanted = jax.eval_shape(coder.init, jax.random.key(0)[None])
        wanted = wanted._replace(key=jax.eval_shape(jax.random.key_data, wanted.key))
        shapes = [jax.tree.map(lambda leaf: leaf.shape, state) for state in (wanted, self._state)]
        if shapes[0] != shapes[1]:
            raise UserError(
                "method, n_components or encoder have changed since this was fitted; use fit, or "
                "set them back"
            )

    def _after_more(self, plan: Plan, data: Data) -> tuple[TrainState, float]:
        """The state in the units of all data so far, and how often its dictionary was lengthened.

        Atoms of norm 1 keep it.
        """
        before = self._moments
        if before is None:
            return self._state, 1.0
        self._moments = now = moments(data, before)
        if before.is_constant:  # nothing was learned yet
            return self._state, 1.0
        ratio = before.scale / now.scale
        if plan.learns_online:
            return rescaled_online(self._state, ratio), 1.0
        # The scale of few rows was chance, and so are atoms of its size.
        if before.counts.sum() < FEW * now.counts.sum():
            return self._state, 1.0
        lengthened = 1.0 if plan.config.generator.unit_norm else ratio
        return rescaled(plan, self._state, ratio), lengthened

    def _rows(self, data: Data) -> StandardisedRows:
        """Rows to be coded.

        Raises:
          UserError: for NaN that the encoder, which was trained without, would take for numbers.
        """
        refuses_nan = self.allow_nan and not (self._plan.allows_nan or self._learned().is_solved)
        if refuses_nan and np.isnan(data).any():
            raise UserError("X contains NaN, but the fit was without allow_nan=True; fit again")
        return StandardisedRows(data, self.mean_, self.scale_)

    def _train(
        self,
        plan: Plan,
        coder: Coder,
        state: TrainState,
        rows: StandardisedRows,
        passes: int,
        watch: Watch,
    ) -> list[float]:
        """Runs the passes and keeps what they give; returns the loss of each."""
        penalty = self._given_penalty()
        if penalty is not None:
            state = with_penalty(state, penalty)
        if plan.learns_online and not plan.keeps_dictionary:
            has_start = self.dict_init is not None
            state, losses = run_online_passes(plan, state, rows, passes, watch, has_start)
        else:
            state, losses = run_passes(plan, coder, state, rows, passes, watch)
        components = components_of(state, self.scale_, rows.data.dtype)
        if losses and not (math.isfinite(losses[-1]) and np.isfinite(components).all()):
            method = plan.config.family
            by_draws = isinstance(method, VariationalMethod) and not finds_prior(method)
            remedy = f"raise kl_weight (now {self.kl_weight}), or " if by_draws else ""
            raise DivergenceError(
                f"the loss became {losses[-1]} in training; {remedy}look for outliers in the data, "
                "such as rows far larger than the others"
            )
        self.n_steps_, self.components_ = int(state.step[0]), components
        generator = state.parameters.generator
        bias = np.asarray(generator["bias"][0], np.float64) if isinstance(generator, dict) else 0.0
        self.intercept_ = self.mean_ + bias * self.scale_
        self._plan, self._state = plan, packed(state)
        return losses

    def _learned(self) -> Learned:
        return learned(self._plan, self._state, len(self.mean_), self._seed)

    def _units(self) -> np.ndarray | np.float32:
        """What codes are multiplied by to be those of `components_`."""
        if not self._plan.keeps_dictionary:
            return np.float32(1)
        atoms = np.asarray(self._learned().dictionary, np.float64)
        norms = np.linalg.norm(self.components_.astype(np.float64) / self.scale_, axis=1)
        return (np.linalg.norm(atoms, axis=1) / norms).astype(np.float32)

    def _codes(self, data: Data) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Codes of consecutive rows, and the rows themselves, centred and scaled."""
        penalty = getattr(self, "penalty_", None)
        if self.refine_steps and penalty is None:
            check_parameters(self._settings())  # whether a new fit would serve
        return codes_of(self._learned(), self._rows(data), penalty, int(self.refine_steps))

    def _given_penalty(self) -> float | None:
        """`alpha` in units of the scaled data and the atoms that code them; None where it is.

        Raises:
          UserError: if float32 has no room for it.
        """
        if self.alpha is None:
            return None
        # With norm 1, codes have the data's units; those of given atoms have none.
        penalty = float(self.alpha) / self.scale_ / (1 if self.dictionary is None else self.scale_)
        if not FLOAT32_SCALES[0] < penalty < FLOAT32_SCALES[1]:
            raise UserError(
                f"alpha is {self.alpha}, {penalty:.2g} beside data of scale {self.scale_:.3g}, for "
                "which float32 has no room; give one nearer to that scale"
            )
        return penalty

    def _calibrate(
        self, rows: StandardisedRows, before: PenaltySoFar | None = None, lengthened: float = 1.0
    ) -> None:
        """The penalty: as given, or with the wanted share of non-zeros of codes of data fitted.

        Args:
          rows: of the fit, or a part.
          before: of the parts before it, with which it is averaged as if each had as many rows as
            a calibration has at most: a small part is hardly heard.
          lengthened: how many times as long the dictionary is as it was then.
        """
        self.__dict__.pop("penalty_", None)
        penalty = self._given_penalty()
        if penalty is None:
            what, steps = self._learned(), int(self.refine_steps)
            penalty = calibrated_penalty(what, rows, self.sparsity, steps)
            if penalty is not None and before is not None:
                # A lasso's penalty has the data's units and the atoms'; that of a count of codes
                # has the data's squared.
                ratio = before.scale / self.scale_
                other = ratio if needs_no_draw(what.coder.model) else lengthened
                earlier = before.penalty * ratio * other
                count = min(len(rows), CALIBRATION_ROWS)
                share = count / (count + min(before.num_rows, CALIBRATION_ROWS))
                penalty = earlier ** (1 - share) * penalty**share
        if penalty is not None:
            self.penalty_ = penalty

    def _penalty_so_far(self) -> PenaltySoFar | None:
        """What calibrations before have found for the same share; None where there were none."""
        if not hasattr(self, "penalty_") or self._plan.sparsity != self.sparsity:
            return None
        return PenaltySoFar(
            self.penalty_, self.scale_, self.n_steps_ * self._plan.config.batch_size
        )
