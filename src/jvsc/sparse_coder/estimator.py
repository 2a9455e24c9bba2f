"""SparseCoder: jvsc's models with scikit-learn's interface."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from jvsc.errors import DivergenceError, UserError
from jvsc.model.methods import METHODS, AutoencoderMethod, VariationalMethod
from jvsc.model.solver_coded import SolverCoded
from jvsc.runs.config import Config, check_method, validated
from jvsc.sparse_coder.coder import (
    Coder,
    CoderSettings,
    coder_config,
    make_coder,
    packed,
    unpacked,
    usable_batch_size,
)
from jvsc.sparse_coder.refining import highest_penalty, lasso_codes, penalty_for, refinement
from jvsc.sparse_coder.standardised_rows import (
    StandardisedRows,
    centre_and_scale,
    warn_of_dominant_rows,
)
from jvsc.training.feed import Feed, streamed_feed
from jvsc.training.mesh import DATA_AXIS, replicate
from jvsc.training.state import TrainState

CODER_METHODS = tuple(
    name for name, method in METHODS.items() if not isinstance(method, AutoencoderMethod)
)
# Without `max_iter` a fit takes about so many steps, but at most so many passes over the data.
DEFAULT_STEPS = 3000
MOST_PASSES = 200
# Read ahead from the data at once; small, so that much larger data than memory serve.
SEGMENT_BYTES = 1 << 20
# Data whose share of non-zeros decides `penalty_`.
CALIBRATION_ROWS = 1024


def has_posterior(estimator: "SparseCoder") -> bool:
    """Whether the method has a posterior; if not, an AttributeError, as `available_if` asks."""
    if not isinstance(METHODS.get(estimator.method), VariationalMethod):
        raise AttributeError(f"method={estimator.method!r} has no posterior, so no probabilities")
    return True


class SparseCoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learns a dictionary, and an encoder whose codes are exactly zero in most latents.

    Data of any scale serve: they are centred by their mean and divided by one scale, which gives
    the columns a mean variance of one. `components_` and `inverse_transform` undo that.

    Args:
      n_components: K, atoms of the dictionary.
      method: a name of `jvsc.model.methods.METHODS`. "inferred_threshold", the default, gives the
        best codes, without a draw; the others are the paper's, and "fista", with which the
        dictionary is learnt with the lasso's codes and `transform` solves the lasso.
      sparsity: wanted share of non-zeros, in (0, 1). A controller holds it in training; data that
        the fit has not seen may take somewhat more. With None, for "inferred_threshold" alone, the
        share is what the data say: the variance of their noise is learned, and probabilities are
        those of the model that makes the data most probable. For "gaussian" and "laplacian",
        whose draws have no zeros, it applies to `refine_steps` alone.
      n_samples: J, codes drawn for each datum, of which the best one counts (eq. 9), by methods
        that draw.
      refine_steps: steps that improve each code, at a penalty (`penalty_`) for which the share of
        non-zeros is still `sparsity`. For "inferred_threshold" a step changes the latent whose best
        value, or zero, lowers 0.5 ||x - s A||^2 + penalty ||s||_0 most; for the others it is a
        proximal-gradient step towards the lasso's optimum.
      kl_weight: weight of the divergence, of methods that draw; less lets codes leave the prior and
        reconstruct more, and too little lets training diverge. At 1 the divergence holds a latent's
        size as firmly as a residual of unit variance pulls at it.
      max_iter: passes of `fit` over the data; by default as many as make about 3,000 steps, at
        most 200.
      batch_size: data a step; less where there are fewer.
      sparse_output: whether `transform` returns a SciPy CSR array.
      random_state: seed of the start, the order and the draws, or a NumPy `RandomState`.

    Attributes:
      components_: the dictionary in the data's units, [K, D].
      mean_: of the data fitted, [D].
      scale_: what the centred data were divided by.
      n_iter_: passes over the data.
      n_steps_: gradient steps, of all calls of `partial_fit` together.
      n_features_in_: D.
      penalty_: of `refine_steps`, or of method="fista"; in units of the scaled data.

    Source: Fallah & Rozell (2022), Variational Sparse Coding with Learned Thresholding.
    """

    components_: np.ndarray
    mean_: np.ndarray
    scale_: float
    n_iter_: int
    n_steps_: int
    n_features_in_: int
    penalty_: float

    def __init__(
        self,
        n_components: int = 256,
        method: str = "inferred_threshold",
        sparsity: float | None = 0.1,
        n_samples: int = 20,
        refine_steps: int = 0,
        *,
        kl_weight: float = 0.3,
        max_iter: int | None = None,
        batch_size: int = 128,
        sparse_output: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.sparsity = sparsity
        self.n_samples = n_samples
        self.refine_steps = refine_steps
        self.kl_weight = kl_weight
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.sparse_output = sparse_output
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> "SparseCoder":
        """Learns from data.

        Args:
          X: [N, D], real numbers: NumPy's, JAX's, or memory-mapped (read in parts, never copied).
          y: ignored.

        Raises:
          UserError: for a parameter that does not serve (a ValueError).
          ValueError: for data that are not finite or too few.
          TypeError: for sparse data.
          DivergenceError: if the loss becomes non-finite (`jvsc.errors`, a RuntimeError).
        """
        settings = self._settings()
        data = self._check(X, reset=True, ensure_min_samples=2)
        self._start(data)
        batch = usable_batch_size(settings.batch_size, len(data))
        steps = len(data) // batch
        self.n_iter_ = settings.max_iter or min(math.ceil(DEFAULT_STEPS / steps), MOST_PASSES)
        config = coder_config(settings, data.shape[1], batch, steps, self.n_iter_)
        coder = make_coder(config, data.shape[1])
        state = coder.init(jax.random.key(self._seed)[None])
        self._train(config, coder, state, self._rows(data), self.n_iter_)
        self._calibrate(data)
        return self

    def partial_fit(self, X: ArrayLike, y: object = None) -> "SparseCoder":
        """Goes on learning from more data, one pass over them at a constant rate.

        The first call's data decide centre and scale, unless `fit` has.

        Args:
          X: [n, D], as for `fit`.
          y: ignored.

        Raises:
          UserError: for a parameter that does not serve (a ValueError).
          ValueError: for data that do not.
          DivergenceError: if the loss becomes non-finite.
        """
        settings = self._settings()
        begins = not hasattr(self, "components_")
        data = self._check(X, reset=begins, ensure_min_samples=2 if begins else 1)
        if begins:
            self._start(data)
            self.n_iter_ = 0
        batch = usable_batch_size(settings.batch_size, len(data))
        config = coder_config(settings, data.shape[1], batch)
        coder = make_coder(config, data.shape[1])
        state = coder.init(jax.random.key(self._seed)[None]) if begins else unpacked(self._state)
        self._train(
            config,
            coder,
            state,
            self._rows(data, -(-len(data) // batch) * batch),
            1,
        )
        self.n_iter_ += 1
        self._calibrate(data)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray | scipy.sparse.csr_array:
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
          UserError: for a parameter that does not serve, or `refine_steps` that were 0 in the fit.
          ValueError: for data of another width, or that are not finite.
        """
        data = self._check_fitted(X)
        kind = np.dtype(np.float32 if data.dtype == np.float32 else np.float64)
        width = self.components_.shape[0]
        if self.sparse_output:
            parts = [scipy.sparse.csr_array(codes, dtype=kind) for codes, _ in self._codes(data)]
            return scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
        codes = np.empty((len(data), width), kind)
        first = 0
        for part, _ in self._codes(data):
            codes[first : first + len(part)] = part
            first += len(part)
        return codes

    @available_if(has_posterior)
    def predict_support_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability that each latent is not zero under its posterior (eq. 3), in closed form.

        Args:
          X: [N, D].

        Returns:
          Probabilities [N, K], float32. They are of a draw, before `n_samples` and `refine_steps`.

        Raises:
          AttributeError: for a method without posterior ("fista").
          NotFittedError: before a fit.
          UserError: for a parameter that does not serve.
          ValueError: for data of another width, or that are not finite.
        """
        data = self._check_fitted(X)
        coder, parameters, statistics = self._coder()
        return np.concatenate(
            [
                np.asarray(coder.probability(parameters, statistics, rows))[:count]
                for rows, count in self._rows(data).chunks()
            ]
        )

    def inverse_transform(self, X: ArrayLike | scipy.sparse.csr_array) -> np.ndarray:
        """Data of codes, in the units of the data fitted: codes @ components_ + mean_.

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
        codes = check_array(X, **kinds)
        if codes.shape[1] != len(self.components_):
            raise ValueError(
                f"codes have {codes.shape[1]} columns, but SparseCoder has "
                f"{len(self.components_)} components; give what transform returns"
            )
        data = codes @ self.components_.astype(codes.dtype)
        return data + self.mean_.astype(codes.dtype)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Share of the data's variance that the codes' reconstruction explains (R^2).

        Args:
          X: [N, D].
          y: ignored.

        Returns:
          1 - sum (x - x_hat)^2 / sum (x - mean_)^2 over all entries; 1 is perfect.
        """
        data = self._check_fitted(X)
        dictionary = self._coder()[1].generator
        error = total = 0.0
        for codes, rows in self._codes(data):
            error += float(np.sum((rows - codes @ dictionary) ** 2, dtype=np.float64))
            total += float(np.sum(rows**2, dtype=np.float64))
        return 1 - error / total if total else float(error == 0)

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _settings(self) -> CoderSettings:
        given = {name: getattr(self, name) for name in CoderSettings.model_fields}
        plain = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in given.items()
        }
        settings = validated(CoderSettings, plain)
        check_method(settings.method, CODER_METHODS)
        output = getattr(self, "_sklearn_output_config", {}).get("transform", "default")
        if settings.sparse_output and output != "default":
            raise UserError(
                f"sparse_output=True gives SciPy's arrays, but set_output asks for {output}; "
                "leave one of them out"
            )
        return settings

    def _check(self, X: Any, reset: bool, **limits: Any) -> np.ndarray:
        data: Any = validate_data(self, X, reset=reset, dtype="numeric", **limits)
        return data

    def _check_fitted(self, X: ArrayLike) -> np.ndarray:
        check_is_fitted(self)
        self._settings()
        return self._check(X, reset=False)

    def _start(self, data: np.ndarray) -> None:
        self.mean_, self.scale_ = centre_and_scale(data)
        warn_of_dominant_rows(data, self.mean_)
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _rows(self, data: np.ndarray, count: int | None = None) -> StandardisedRows:
        return StandardisedRows(data, self.mean_, self.scale_, count)

    def _train(
        self, config: Config, coder: Coder, state: TrainState, rows: StandardisedRows, passes: int
    ) -> None:
        mesh = jax.make_mesh(
            (1,),
            (DATA_AXIS,),
            axis_types=(jax.sharding.AxisType.Auto,),
            devices=jax.local_devices()[:1],
        )
        state = replicate(state, mesh)
        feed: Feed = streamed_feed(
            rows,
            coder.loss,
            coder.optimizer,
            config.batch_size,
            coder.prepare,
            mesh,
            state.key,
            SEGMENT_BYTES,
        )
        state, metrics = feed.run_epoch(state)
        for _ in range(passes - 1):
            state, metrics = feed.run_epoch(state)
        loss = float(metrics.loss[0, -1])
        dictionary = np.asarray(state.parameters.generator[0])
        if not (math.isfinite(loss) and np.isfinite(dictionary).all()):
            raise DivergenceError(
                f"the loss became {loss} in training; raise kl_weight (now {self.kl_weight}), or "
                "look for outliers in the data"
            )
        self.n_steps_ = int(state.step[0])
        self.components_ = (dictionary * self.scale_).astype(
            np.float32 if rows.data.dtype == np.float32 else np.float64
        )
        self._config, self._state = config, packed(state)

    def _coder(self) -> tuple[Coder, Any, Any]:
        coder = make_coder(self._config, len(self.mean_))
        first = partial(jax.tree.map, lambda leaf: leaf[0])
        return coder, first(self._state.parameters), first(self._state.statistics)

    def _codes(self, data: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Codes of consecutive rows, and the rows themselves, centred and scaled."""
        coder, parameters, statistics = self._coder()
        if self.refine_steps and not hasattr(self, "penalty_"):
            raise UserError(
                f"refine_steps is {self.refine_steps} but was 0 in the fit, which finds their "
                "penalty; fit again"
            )
        key = jax.random.key(self._seed)
        for rows, count in self._rows(data).chunks():
            if isinstance(coder.model, SolverCoded):
                codes = lasso_codes(rows, parameters.generator, self.penalty_)
            else:
                codes = coder.codes(parameters, statistics, rows, key)
                if self.refine_steps:
                    codes = refinement(coder.model)(
                        rows, parameters.generator, codes, self.penalty_, int(self.refine_steps)
                    )
            yield np.asarray(codes)[:count], rows[:count]

    def _calibrate(self, data: np.ndarray) -> None:
        """Finds the penalty at which codes of data fitted have the wanted share of non-zeros."""
        self.__dict__.pop("penalty_", None)
        coder, parameters, statistics = self._coder()
        solved = isinstance(coder.model, SolverCoded)
        if not (solved or self.refine_steps):
            return
        places = np.linspace(0, len(data) - 1, min(len(data), CALIBRATION_ROWS), dtype=int)
        rows, count = next(self._rows(data[places]).chunks())
        dictionary = parameters.generator
        correlation = float(np.max(np.abs(rows @ dictionary.T)))
        highest = highest_penalty(coder.model, statistics, correlation, rows.shape[1])
        refine = refinement(coder.model)
        start = None
        if not solved:
            start = coder.codes(parameters, statistics, rows, jax.random.key(self._seed))

        def share(penalty: float) -> float:
            if start is None:
                codes = lasso_codes(rows, dictionary, penalty)
            else:
                codes = refine(rows, dictionary, start, penalty, int(self.refine_steps))
            return float(np.mean(np.asarray(codes)[:count] != 0))

        wanted = self.sparsity
        if wanted is None:
            wanted = float(np.mean(np.asarray(start)[:count] != 0))
        self.penalty_ = penalty_for(share, wanted, highest)
