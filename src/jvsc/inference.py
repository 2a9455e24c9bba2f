"""Codes of a data set under a trained model, in chunks of one compiled size."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, Shaped

from jvsc.batches import as_float
from jvsc.model import Model, Parameters, Statistics
from jvsc.objective import Solve, best_draws, squared_error
from jvsc.posteriors import Annealing
from jvsc.sampling import datum_keys
from jvsc.solvers import fista

# Apart from the tags that make a training's keys, so that evaluation shares no draw with it.
_INFERENCE = 2


def inference_key(seed: int) -> Key[Array, ""]:
    """The key of all samples that an evaluation draws."""
    return jax.random.fold_in(jax.random.key(seed), _INFERENCE)


def encode_chunk(
    parameters: Parameters,
    statistics: Statistics,
    data: Shaped[Array, "B D"],
    key: Key[Array, ""],
    first: ArrayLike,
    *,
    model: Model,
    num_samples: int,
    annealing: Annealing,
    sampling_chunk: int | None = None,
) -> tuple[Float[Array, "B K"], Float[Array, "B K"]]:
    """The best of J codes of each datum (eq. 9) and the KL of its posterior, latent by latent.

    Args:
      parameters: of encoder and generator.
      statistics: theirs.
      data: x, or bytes.
      key: the data set's key.
      first: place of the chunk's first datum in the data set.
      model: encoder, posterior and generator.
      num_samples: J.
      annealing: warm-up and temperature.
      sampling_chunk: draws of a datum held in memory at once.
    """
    data = as_float(data)
    heads, _ = model.encode(parameters, statistics, data)
    keys = datum_keys(key, data.shape[0], first)
    codes = best_draws(
        model, parameters, statistics, data, heads, keys, num_samples, annealing, sampling_chunk
    )[0]
    return codes, model.require_posterior().kl(heads)


def in_chunks(
    function: Callable,
    data: Shaped[np.ndarray, "N D"],
    chunk: int,
    first: int = 0,
    filled_to: int | None = None,
) -> tuple[np.ndarray, ...]:
    """Applies `function(chunk of data, place of its first datum)` and joins the results.

    The last chunk is filled up with its first datum, so that one compilation serves all, and the
    results of the filling are cut off.

    Args:
      function: returns a tuple of arrays, each with one row a datum.
      data: N rows.
      chunk: rows at once.
      first: place of the data's first row in the whole data set.
      filled_to: rows that each call gets; by default a chunk, or N if that is less.

    Returns:
      The tuple's arrays on the host, N rows each.
    """
    parts = []
    size = filled_to or min(chunk, len(data))
    for start in range(0, len(data), chunk):
        rows = data[start : start + chunk]
        filled = np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])
        outputs = function(jnp.asarray(filled), first + start)
        parts.append([np.asarray(output)[: len(rows)] for output in outputs])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


class Inferred(NamedTuple):
    """What a model makes of data.

    Attributes:
      codes: [N, K].
      kl: of each datum's posterior, latent by latent, [N, K]; None without a posterior.
      squared_error: mean over the pixels, [N].
    """

    codes: Float[np.ndarray, "N K"]
    kl: Float[np.ndarray, "N K"] | None
    squared_error: Float[np.ndarray, " N"]

    def terms(self) -> "Terms":
        """What of them decides what a run is validated by."""
        kl = None if self.kl is None else np.sum(self.kl, axis=-1)
        return Terms(self.squared_error, np.sum(np.abs(self.codes), axis=-1), kl)


class Terms(NamedTuple):
    """What of each datum decides what a run is validated by.

    Attributes:
      squared_error: mean over the pixels, [N].
      l1: sum of the code's absolute values, [N].
      kl: of its posterior, summed over the latents, [N]; None without a posterior.
    """

    squared_error: Float[np.ndarray, " N"]
    l1: Float[np.ndarray, " N"]
    kl: Float[np.ndarray, " N"] | None


Infer = Callable[[Parameters, Statistics, Shaped[np.ndarray, "N D"], Key[Array, ""]], Inferred]
InferTerms = Callable[[Parameters, Statistics, Shaped[np.ndarray, "N D"], Key[Array, ""]], Terms]
# (parameters, statistics, data, key, place of the first datum) -> codes, and KL of each latent
# where there is a posterior
Encode = Callable[
    [Parameters, Statistics, Shaped[Array, "B D"], Key[Array, ""], ArrayLike],
    tuple[Float[Array, "B K"], ...],
]


def make_encode(
    model: Model,
    *,
    num_samples: int,
    annealing: Annealing,
    solve: Solve,
    penalty: float,
    sampling_chunk: int | None = None,
) -> Encode:
    """The inference of one chunk, not compiled.

    Args:
      model: the method.
      num_samples: J.
      annealing: warm-up and temperature of the samples.
      solve: the solver of a method without encoder.
      penalty: its lambda.
      sampling_chunk: draws of a datum at once; all by default.
    """

    def encode(
        parameters: Parameters,
        statistics: Statistics,
        data: Shaped[Array, "B D"],
        key: Key[Array, ""],
        first: ArrayLike,
    ) -> tuple[Float[Array, "B K"], ...]:
        if model.posterior is None:
            return (solve(parameters, statistics, as_float(data), jnp.float32(penalty)),)
        return encode_chunk(
            parameters,
            statistics,
            data,
            key,
            first,
            model=model,
            num_samples=num_samples,
            annealing=annealing,
            sampling_chunk=sampling_chunk,
        )

    return encode


def make_infer(model: Model, *, chunk: int, **arguments: Any) -> Infer:
    """Compiles the inference of a method: best of J samples, or a solver where it has no encoder.

    Args:
      model: the method.
      chunk: data at once.
      **arguments: those of `make_encode`.

    Returns:
      `(parameters, statistics, data [N, D], key) -> Inferred`.
    """
    infer_all = over_data(jax.jit(_make_chunk_inference(model, **arguments)), chunk)

    def infer(*data: Any) -> Inferred:
        codes, error, *kl = infer_all(*data)
        return Inferred(codes, kl[0] if kl else None, error)

    return infer


def make_infer_terms(model: Model, *, chunk: int, **arguments: Any) -> InferTerms:
    """As `make_infer`, but codes are inferred and summed on the device, and stay there."""
    infer_chunk = _make_chunk_inference(model, **arguments)

    @jax.jit
    def infer_sums(parameters, statistics, data, key, first):
        codes, error, *kl = infer_chunk(parameters, statistics, data, key, first)
        return error, jnp.sum(jnp.abs(codes), axis=-1), *(jnp.sum(each, axis=-1) for each in kl)

    infer_all = over_data(infer_sums, chunk)

    def infer(*data: Any) -> Terms:
        error, l1, *kl = infer_all(*data)
        return Terms(error, l1, kl[0] if kl else None)

    return infer


def over_data(
    infer_chunk: Callable[..., tuple[Any, ...]], chunk: int
) -> Callable[..., tuple[np.ndarray, ...]]:
    """`(parameters, statistics, data [N, D], key)` -> what `infer_chunk` gives, of all data.

    Args:
      infer_chunk: of parameters, statistics, some data, key and the place of the first of them.
      chunk: data at once.
    """

    def infer(
        parameters: Parameters,
        statistics: Statistics,
        data: Shaped[np.ndarray, "N D"],
        key: Key[Array, ""],
    ) -> tuple[np.ndarray, ...]:
        return in_chunks(
            lambda rows, first: infer_chunk(parameters, statistics, rows, key, first), data, chunk
        )

    return infer


def reconstruction_error(
    model: Model,
    parameters: Parameters,
    statistics: Statistics,
    data: Float[Array, "B D"],
    codes: Float[Array, "B K"],
) -> Float[Array, " B"]:
    """Squared error of what codes generate, the mean over the pixels, to full precision."""
    with jax.default_matmul_precision("highest"):
        reconstruction, _ = model.generate(parameters, statistics, codes)
    return squared_error(data, reconstruction)


def _make_chunk_inference(model: Model, **arguments: Any) -> Callable[..., tuple[Array, ...]]:
    """(parameters, statistics, data, key, place of the first) -> codes, squared error, and KL."""
    encode = make_encode(model, **arguments)

    def infer_chunk(
        parameters: Parameters,
        statistics: Statistics,
        data: Shaped[Array, "B D"],
        key: Key[Array, ""],
        first: ArrayLike,
    ) -> tuple[Array, ...]:
        codes, *kl = encode(parameters, statistics, data, key, first)
        error = reconstruction_error(model, parameters, statistics, as_float(data), codes)
        return codes, error, *kl

    return infer_chunk


def solve_lasso(
    data: Float[np.ndarray, "N D"],
    dictionary: Float[Array, "K D"],
    penalty: float,
    *,
    tolerance: float,
    max_iterations: int,
    chunk: int,
) -> tuple[np.ndarray, ...]:
    """FISTA in chunks (see `jvsc.solvers.fista`): codes [N, K], gaps [N], iterations [N]."""

    def solve(rows: Float[Array, "B D"], first: int):
        del first
        return fista(rows, dictionary, penalty, tolerance=tolerance, max_iterations=max_iterations)

    return in_chunks(solve, data, chunk)


def refine(
    data: Float[np.ndarray, "N D"],
    dictionary: Float[Array, "K D"],
    penalty: float,
    codes: Float[np.ndarray, "N K"],
    steps: int,
    chunk: int,
) -> Float[np.ndarray, "N K"]:
    """Codes after so many steps of FISTA from given ones, in chunks."""
    num_features = data.shape[1]

    def solve(rows: Float[Array, "B D_and_K"], first: int):
        del first
        here, initial = rows[:, :num_features], rows[:, num_features:]
        solution = fista(
            here, dictionary, penalty, tolerance=0.0, max_iterations=steps, initial_codes=initial
        )
        return (solution.codes,)

    return in_chunks(solve, np.concatenate([data, codes], axis=1), chunk)[0]
