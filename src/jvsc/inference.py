"""Codes of a data set under a trained model, in chunks of one compiled size."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.model import Model, Parameters
from jvsc.objective import best_draws, total_kl
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
    data: Float[Array, "B D"],
    key: Key[Array, ""],
    first: ArrayLike,
    *,
    model: Model,
    num_samples: int,
    annealing: Annealing,
    sampling_chunk: int | None = None,
) -> tuple[Float[Array, "B K"], Float[Array, " B"]]:
    """The best of J codes of each datum (eq. 9) and the KL of its posterior.

    Args:
      parameters: of encoder and generator.
      data: x.
      key: the data set's key.
      first: place of the chunk's first datum in the data set.
      model: encoder, posterior and generator.
      num_samples: J.
      annealing: warm-up and temperature.
      sampling_chunk: draws of a datum held in memory at once.
    """
    heads = model.encode(parameters, data)
    keys = datum_keys(key, data.shape[0], first)
    codes = best_draws(
        model, parameters, data, heads, keys, num_samples, annealing, sampling_chunk
    )[0]
    return codes, total_kl(model.require_posterior().kl, heads)


def in_chunks(
    function: Callable, data: Float[np.ndarray, "N D"], chunk: int
) -> tuple[np.ndarray, ...]:
    """Applies `function(chunk of data, place of its first datum)` and joins the results.

    The last chunk is filled up with its first datum, so that one compilation serves all, and the
    results of the filling are cut off.

    Args:
      function: returns a tuple of arrays, each with one row a datum.
      data: N rows.
      chunk: rows at once.

    Returns:
      The tuple's arrays on the host, N rows each.
    """
    parts = []
    for first in range(0, len(data), chunk):
        rows = data[first : first + chunk]
        missing = min(chunk, len(data)) - len(rows) if first else 0
        filled = np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])
        outputs = function(jnp.asarray(filled), first)
        parts.append([np.asarray(output)[: len(rows)] for output in outputs])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


Codes = tuple[Float[np.ndarray, "N K"], Float[np.ndarray, " N"] | None]


def make_infer(
    model: Model,
    *,
    num_samples: int,
    annealing: Annealing,
    penalty: float,
    tolerance: float,
    max_iterations: int,
    chunk: int,
    sampling_chunk: int | None = None,
) -> Callable[[Parameters, Float[np.ndarray, "N D"], Key[Array, ""]], Codes]:
    """Compiles the inference of a method: best of J samples, or FISTA where there is no encoder.

    Args:
      model: the method.
      num_samples: J.
      annealing: warm-up and temperature of the samples.
      penalty: FISTA's lambda.
      tolerance: FISTA's relative duality gap.
      max_iterations: FISTA's limit.
      chunk: data at once.
      sampling_chunk: draws of a datum at once; all by default.

    Returns:
      `(parameters, data [N, D], key) -> (codes [N, K], KL of each datum or None)`.
    """
    if model.posterior is None:

        def solve(
            parameters: Parameters, data: Float[np.ndarray, "N D"], key: Key[Array, ""]
        ) -> Codes:
            del key
            return solve_lasso(
                data,
                parameters.generator,
                penalty,
                tolerance=tolerance,
                max_iterations=max_iterations,
                chunk=chunk,
            )[0], None

        return solve

    @jax.jit
    def encode(parameters, data, key, first):
        return encode_chunk(
            parameters,
            data,
            key,
            first,
            model=model,
            num_samples=num_samples,
            annealing=annealing,
            sampling_chunk=sampling_chunk,
        )

    def infer(parameters: Parameters, data: Float[np.ndarray, "N D"], key: Key[Array, ""]) -> Codes:
        codes, kl = in_chunks(lambda rows, first: encode(parameters, rows, key, first), data, chunk)
        return codes, kl

    return infer


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
