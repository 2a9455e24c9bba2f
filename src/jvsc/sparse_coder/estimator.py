"""SparseCoder: jvsc's models with scikit-learn's interface."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from jvsc.errors import UserError
from jvsc.model.methods import METHODS, VariationalMethod
from jvsc.sparse_coder.base import MatrixLike, as_known_type
from jvsc.sparse_coder.coder import make_coder, unpacked
from jvsc.sparse_coder.coding import check_sizes, components_of
from jvsc.sparse_coder.fitting import FitState, Watch, settling_passes, shown_passes
from jvsc.sparse_coder.learning import LearningCoder
from jvsc.sparse_coder.settings import ONLINE, SPARSITY, EncoderName, make_plan
from jvsc.sparse_coder.sizes import batch_of, passes_of, sized, warn_of_share
from jvsc.sparse_coder.standardised_rows import (
    StandardisedRows,
    moments,
    ordinary_weights,
    warn_of_dominant_rows,
    weighted_order,
)


def has_posterior(estimator: "SparseCoder") -> bool:
    """Whether the method, of a fitted estimator its fit's, has a posterior; else AttributeError."""
    method = estimator._plan.config.method if hasattr(estimator, "_plan") else estimator.method
    if not isinstance(METHODS.get(method), VariationalMethod):
        raise AttributeError(f"method={method!r} has no posterior, so no probabilities")
    return True


class SparseCoder(LearningCoder):
    """Learns a dictionary, and an encoder whose codes are exactly zero in most latents.

    Data of any scale serve: they are centred by their mean and divided by one scale, which gives
    the columns a mean variance of one. `components_` and `inverse_transform` undo that.

    Of parameters that are set after a fit `refine_steps`, `sparse_output` and `allow_nan` count at
    once, all others from the next fit on.

    Args:
      n_components: K, atoms of the dictionary; by default 256, or four times the features where
        those are fewer.
      method: a name of `jvsc.model.methods.METHODS`. "inferred_threshold", the default, gives the
        best codes, without a draw; "lasso" learns a dictionary for the lasso's codes online (Mairal
        et al. 2010) and `transform` solves the lasso; others are the paper's, "fista", which learns
        for the lasso's codes by gradient steps as the paper does, and sparse autoencoders:
        "topk", "batch_topk", "matryoshka", "jump_relu" and "relu_l1".
      sparsity: wanted share of non-zeros, in (0, 1). A controller holds it in training; data that
        the fit has not seen may take somewhat more, and codes that explain nearly all variance take
        fewer. With None the penalty is `alpha` for "lasso" and "fista", and for
        "inferred_threshold" the share is what the data say: their noise is learned, and
        probabilities are those of the model that makes the data most probable (of few data or
        features perhaps one that uses hardly a latent). For "gaussian" and "laplacian", whose draws
        have no zeros, it applies to `refine_steps` alone.
      n_samples: J, codes drawn for each datum, of which the best one counts (eq. 9), by methods
        that draw.
      refine_steps: steps that improve each code, at a penalty (`penalty_`) for which the share of
        non-zeros is still `sparsity`. For "inferred_threshold" a step changes the latent whose best
        value, or zero, lowers 0.5 ||x - s A||^2 + penalty ||s||_0 most; for the paper's encoders
        it is a proximal-gradient step towards the lasso's optimum. "lasso" and "fista" are there.
      alpha: the lasso's penalty in place of `sparsity`, for "lasso" and "fista"; scikit-learn's of
        the same name, in the data's units. Codes minimise 0.5 ||x - mean_ - u V||^2 + alpha ||u||_1
        with V the atoms at norm 1, u = scale_ times what `transform` gives; or with V and u the
        given `dictionary` and its codes as they are.
      kl_weight: weight of the divergence, of methods that draw; less lets codes leave the prior and
        reconstruct more, and too little lets training diverge. At 1 the divergence holds a latent's
        size as firmly as a residual of unit variance pulls at it.
      max_iter: passes of `fit` over the data; by default 50, but no fewer than make about 1,000
        steps and no more than make about 3,000, and at most 200; "lasso" makes about 400 steps, in
        at most 100 passes. One at least, of however many data.
      batch_size: data a step; less where there are fewer. By default 128, or of few data as many as
        give a pass 20 steps, at least 16; of "lasso" 1,024, or half of few data.
      encoder: the network that infers a posterior: "unrolled", steps of inference that read the
        dictionary; "mlp", dense layers; "linear", one of them; or, for "inferred_threshold",
        "message_passing", inference without parameters. None takes the method's usual one.
      dictionary: atoms [K, D] in the data's units, of any norms, to code by, as scikit-learn's
        SparseCoder does: they stay, `n_components` does not count, the data are not centred, and a
        fit trains the encoder alone ("lasso" and "fista" make no pass).
      dict_init: atoms [n_components, D] in whose directions the dictionary begins.
      positive_code: whether the lasso's codes ("lasso", "fista") may not be negative; a sparse
        autoencoder's never are.
      allow_nan: whether NaN in dense data is an entry that is not there, for "inferred_threshold",
        "lasso" and "fista": mean, scale, bound and lasso are then of the others alone, and
        `inverse_transform` of a row's code fills it in. A row of NaN alone has a code of zeros; a
        column of NaN alone is refused by a fit.
      sparse_output: whether `transform` returns a SciPy CSR array.
      random_state: seed of the start, the order and the draws, or a NumPy `RandomState`.
      verbose: whether `fit` shows its passes, on a progress bar, or as lines where there is no
        terminal.
      tol: ends a fit when the loss of a pass has not been lower by this than the lowest before it
        for `n_iter_no_change` passes in a row. Not counted are the first 500 steps, or the first
        tenth of the passes, in which the loss may rise. None makes all passes. The learning rate is
        planned for all of them, so a fit that ends early ends at a higher rate.
      n_iter_no_change: see `tol`.
      callback: called after each pass with a `FitState` (passes, steps, loss, share of non-zeros,
        components); returns True to end the fit there, as whole as if it had made all passes.

    Attributes:
      components_: the dictionary in the data's units, [K, D].
      mean_: of the data fitted, [D].
      intercept_: what a code of zeros stands for, [D]: mean_, and a sparse autoencoder's bias.
      scale_: what the centred data were divided by.
      n_iter_: passes over the data.
      loss_curve_: what training descends, the mean of each pass.
      n_steps_: gradient steps, of all calls of `partial_fit` together.
      n_features_in_: D.
      penalty_: of `refine_steps`, or of "lasso" and "fista"; in units of the scaled data, so
        `alpha` over scale_, or over its square with a given `dictionary`.

    Source: Fallah & Rozell (2022), Variational Sparse Coding with Learned Thresholding.
    """

    # Also of LearningCoder, which sets them too: a public type is declared where it is assigned.
    components_: np.ndarray
    mean_: np.ndarray
    intercept_: np.ndarray
    scale_: float
    n_iter_: int
    loss_curve_: list[float]
    n_steps_: int
    n_features_in_: int
    penalty_: float

    def __init__(
        self,
        n_components: int | None = None,
        method: str = "inferred_threshold",
        sparsity: float | None = SPARSITY,
        n_samples: int = 20,
        refine_steps: int = 0,
        *,
        alpha: float | None = None,
        kl_weight: float = 0.3,
        max_iter: int | None = None,
        batch_size: int | None = None,
        encoder: EncoderName | None = None,
        dictionary: ArrayLike | None = None,
        dict_init: ArrayLike | None = None,
        positive_code: bool = False,
        allow_nan: bool = False,
        sparse_output: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
        tol: float | None = None,
        n_iter_no_change: int = 10,
        callback: Callable[[FitState], object] | None = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.sparsity = sparsity
        self.n_samples = n_samples
        self.refine_steps = refine_steps
        self.alpha = alpha
        self.kl_weight = kl_weight
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.encoder = encoder
        self.dictionary = dictionary
        self.dict_init = dict_init
        self.positive_code = positive_code
        self.allow_nan = allow_nan
        self.sparse_output = sparse_output
        self.random_state = random_state
        self.verbose = verbose
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.callback = callback

    def fit(
        self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> "SparseCoder":
        """Learns from data; a fit that fails leaves the estimator as it was.

        Args:
          X: [N, D], real numbers: NumPy's, JAX's, memory-mapped or SciPy's CSR (read in parts,
            never copied).
          y: ignored.
          sample_weight: how much each row counts, [N]: a row of weight 2 is as two of them, one of
            weight 0 is not there.

        Raises:
          UserError: for a parameter that does not serve (a ValueError).
          ValueError: for data or weights that are not finite or too few.
          DivergenceError: if the loss becomes non-finite (`jvsc.errors`, a RuntimeError).
        """
        with self._unchanged_by_errors():
            return self._fitted(X, sample_weight)

    def _fitted(self, X: MatrixLike, sample_weight: ArrayLike | None) -> "SparseCoder":
        settings = self._settings()
        data = self._check(X, reset=True, ensure_min_samples=2)
        weights, order, repeats = None, None, 1
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, data, ensure_non_negative=True)
            weights = ordinary_weights(np.asarray(weights, np.float64))
            order, repeats = weighted_order(weights)
        self._moments, self._seed = None, self._drawn_seed()
        found = moments(data, weights=weights)
        given = self._given_atoms("dictionary", data.shape[1])
        initial = self._given_atoms("dict_init", data.shape[1])
        settings = sized(settings, self.n_components, data.shape[1], given, initial)
        if given is not None:
            found = found.uncentred()
        _, self.mean_, _, self.scale_ = found
        check_sizes(given, self.scale_)
        warn_of_dominant_rows(data, self.mean_, self.scale_, weights)
        rows = StandardisedRows(data, self.mean_, self.scale_, order)
        batch = batch_of(settings, len(rows))
        steps = len(rows) // batch
        passes = passes_of(settings, steps)
        if settings.max_iter is not None:  # of as many rows as there are
            passes = math.ceil(passes / repeats)
        plan = make_plan(settings, data.shape[1], batch, steps, passes)
        if given is None:
            warn_of_share(settings, data.shape[1])
        plan = plan._replace(keeps_dictionary=given is not None)
        coder = make_coder(plan, data.shape[1])
        state = self._begun(coder, given, initial)
        if given is not None and settings.method in ("fista", ONLINE):
            passes = 0
        with shown_passes(settings.verbose, passes) as show:
            watch = Watch(
                partial(components_of, scale=self.scale_, kind=data.dtype)
                if given is None
                else lambda state: given.astype(data.dtype),
                self.callback,
                show,
                settings.tol,
                settings.n_iter_no_change,
                settling_passes(passes, steps),
            )
            self.loss_curve_ = self._train(plan, coder, state, rows, passes, watch)
        self.n_iter_ = len(self.loss_curve_)
        if given is not None:
            self.components_ = given.astype(self.components_.dtype)
        self._calibrate(rows)
        return self

    def partial_fit(self, X: MatrixLike, y: object = None) -> "SparseCoder":
        """Goes on learning from more data, one pass over them at a constant rate.

        Centre and scale are those of all parts so far, as scikit-learn's StandardScaler has them,
        and what was learned is put into the new units; after a `fit` they stay what it found. No
        step is made before two rows differ.

        Args:
          X: [n, D], as for `fit`.
          y: ignored.

        Raises:
          UserError: for a parameter that does not serve (a ValueError).
          ValueError: for data that do not.
          DivergenceError: if the loss becomes non-finite.
        """
        settings = self._settings()
        if self.dictionary is not None:
            raise UserError("partial_fit would not change a given dictionary; use fit")
        with self._unchanged_by_errors():
            begins = not hasattr(self, "components_")
            if not begins and self._plan.keeps_dictionary:
                raise UserError(
                    "partial_fit would not keep the dictionary that was given to fit; give it as "
                    "dict_init to a new SparseCoder to begin with it"
                )
            before, lengthened = None if begins else self._penalty_so_far(), 1.0
            data = self._check(X, reset=begins)
            count = data.shape[0]
            initial = self._given_atoms("dict_init", data.shape[1])
            settings = sized(settings, self.n_components, data.shape[1], None, initial)
            batch = batch_of(settings, count, in_parts=True)
            plan = make_plan(settings, data.shape[1], batch)
            coder = make_coder(plan, data.shape[1])
            if begins:
                self._moments, self._seed = moments(data), self._drawn_seed()
                self.n_iter_, self.loss_curve_ = 0, []
                state = self._begun(coder, None, initial)
            else:
                self._check_unchanged(coder)
                packed_state, lengthened = self._after_more(plan, data)
                state = unpacked(packed_state)
            if self._moments is not None:
                _, self.mean_, _, self.scale_ = self._moments
            order = np.arange(-(-count // batch) * batch) % count
            rows = StandardisedRows(data, self.mean_, self.scale_, order)
            waits = self._moments is not None and self._moments.is_constant
            watch = Watch(
                partial(components_of, scale=self.scale_, kind=data.dtype),
                self.callback,
                passes_before=self.n_iter_,
            )
            losses = self._train(plan, coder, state, rows, 0 if waits else 1, watch)
            self.loss_curve_ = self.loss_curve_ + losses
            self.n_iter_ += len(losses)
            self._calibrate(self._rows(data), before, lengthened)
        return self

    def transform(self, X: MatrixLike) -> np.ndarray | scipy.sparse.csr_array:
        """The codes of data: the encoder's, the best of `n_samples` draws, or the lasso's.

        A datum's draws follow from its own values, so its code does not depend on its place or on
        its neighbours, and is the same at every call.

        Args:
          X: [N, D].

        Returns:
          Codes [N, K], float32 for float32 data, else float64; with `sparse_output` a CSR array,
          made in parts.

        Raises:
          NotFittedError: before a fit.
          UserError: for a parameter that does not serve, `refine_steps` that were 0 in the fit, or
            rows far larger than those fitted.
          ValueError: for data of another width, or that are not finite.

        Warns:
          ConvergenceWarning: if the lasso's solver ended before some codes were within a thousandth
            of its least objective.
        """
        data = self._check_fitted(X)
        kind = np.dtype(np.float32 if data.dtype == np.float32 else np.float64)
        width, units = self.components_.shape[0], self._units()
        if self.sparse_output:
            parts = [
                scipy.sparse.csr_array(codes * units, dtype=kind) for codes, _ in self._codes(data)
            ]
            return scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
        codes = np.empty((data.shape[0], width), kind)
        first = 0
        for part, _ in self._codes(data):
            codes[first : first + len(part)] = part * units
            first += len(part)
        return codes

    @available_if(has_posterior)
    def predict_support_proba(self, X: MatrixLike) -> np.ndarray:
        """Probability that each latent is not zero under its posterior (eq. 3), in closed form.

        Args:
          X: [N, D].

        Returns:
          Probabilities [N, K], float32. They are of a draw, before `n_samples` and `refine_steps`.

        Raises:
          AttributeError: for a method without posterior.
          NotFittedError: before a fit.
          UserError: for a parameter that does not serve, or rows far larger than those fitted.
          ValueError: for data of another width, or that are not finite.
        """
        data = self._check_fitted(X)
        coder, parameters, statistics, *_ = self._learned()
        return np.concatenate(
            [
                np.asarray(coder.probability(parameters, statistics, rows))[:count]
                for rows, count in self._rows(data).chunks()
            ]
        )

    def inverse_transform(self, X: MatrixLike) -> np.ndarray:
        """Data of codes, in the units of the data fitted: codes @ components_ + intercept_.

        Args:
          X: codes [N, K], dense or sparse.

        Returns:
          Data [N, D], of the codes' floating type.

        Raises:
          NotFittedError: before a fit.
          ValueError: for codes of another width, or that are not finite.
        """
        check_is_fitted(self)
        kinds: Any = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}
        codes = check_array(as_known_type(X), **kinds)
        if codes.shape[1] != len(self.components_):
            raise ValueError(
                f"codes have {codes.shape[1]} columns, but SparseCoder has "
                f"{len(self.components_)} components; give what transform returns"
            )
        data = codes @ self.components_.astype(codes.dtype)
        return data + self.intercept_.astype(codes.dtype)

    def score(self, X: MatrixLike, y: object = None) -> float:
        """Share of the data's variance that the codes' reconstruction explains (R^2).

        Args:
          X: [N, D].
          y: ignored.

        Returns:
          1 - sum (x - x_hat)^2 / sum (x - mean_)^2 over all entries but NaN; 1 is perfect. Of data
          that do not differ from `mean_` but by rounding, 1 if the codes give them exactly, else 0.
          With a given `dictionary`, whose `mean_` is zero, it is the share of the data's energy.

        Raises:
          UserError: for a parameter that does not serve, or data of NaN alone.
          ValueError: for data of another width, or that are not finite.
        """
        data = self._check_fitted(X)
        if self.allow_nan and np.isnan(data).all():
            raise UserError("X holds nothing but NaN, of which there is no score; give numbers")
        what = self._learned()
        error = total = 0.0
        for codes, rows in self._codes(data):
            error += float(np.nansum(what.residual(rows, codes) ** 2, dtype=np.float64))
            total += float(np.nansum(rows**2, dtype=np.float64))
        # A mean of many numbers is off by some tens of roundings.
        rounding = 1e3 * np.finfo(np.float64).eps * np.abs(self.mean_) / self.scale_
        varies = total > data.shape[0] * float(np.sum(rounding**2))
        return 1 - error / total if varies else float(error == 0)
