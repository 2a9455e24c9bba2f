"""Codes of a Thresholded Laplacian by drawing their non-zeros alone, on the host.

Of thousands of latents a draw uses a hundred. Which ones is known in closed form (Proposition 3.1),
and beyond the threshold a Laplacian is exponential, so the others need be neither drawn nor
multiplied. The draws have the posterior's distribution, but are other numbers than JAX's.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key, Shaped, UInt32

from jvsc.data.pixels import as_float
from jvsc.errors import UserError
from jvsc.evaluation.inference import InferChunk
from jvsc.model.model import Inference
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors.laplacian import LARGEST_STANDARD_NOISE
from jvsc.model.sampling import datum_keys
from jvsc.model.variational import Variational

# Latents are zero at least once in exp(30) draws.
LARGEST_HAZARD = 30.0


def hazards(probability: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """-log P(zero) of each latent, at most 30.

    Args:
      probability: that a latent is not zero, `Posterior.support_probability` (eq. 3).
    """
    return jnp.minimum(-jnp.log1p(-probability), LARGEST_HAZARD)


def best_of_nonzeros(
    data: Float32[np.ndarray, "N D"],
    atoms: Float32[np.ndarray, "blocks K features"],
    loc: Float32[np.ndarray, "N K"],
    scale: Float32[np.ndarray, "N K"],
    hazard: Float32[np.ndarray, "N K"],
    threshold: float,
    seeds: UInt32[np.ndarray, "N 2"],
    num_samples: int,
) -> Float32[np.ndarray, "N K"]:
    """The draw of the least squared error among J draws of each datum's code (eq. 9).

    Args:
      data: x.
      atoms: the dictionary as `blocked` gives it.
      loc: of the posteriors.
      scale: b of the posteriors.
      hazard: theirs (`hazards`).
      threshold: lambda.
      seeds: a datum's draws follow from its seed, its posterior and J alone.
      num_samples: J.

    Returns:
      Codes, with exact zeros.

    Raises:
      UserError: if a posterior is not finite.
    """
    from jvsc.kernels.nonzero_draws import draw_and_choose

    if not (np.isfinite(loc).all() and np.isfinite(scale).all()):
        raise UserError("the encoder gives posteriors that are not finite; look at the data")
    codes = np.zeros(loc.shape, np.float32)
    numbers = seeds.astype(np.uint64)
    draw_and_choose(
        in_blocks(data),
        atoms,
        loc,
        scale,
        hazard,
        hazard.sum(axis=1, dtype=np.float64),
        np.float32(threshold),
        np.float32(LARGEST_STANDARD_NOISE),
        (numbers[:, 0] << np.uint64(32)) | numbers[:, 1],
        num_samples,
        codes,
    )
    return codes


def in_blocks(rows: Float32[np.ndarray, "N D"]) -> Float32[np.ndarray, "N blocks features"]:
    """Rows cut into blocks of features, the last one filled up with zeros."""
    from jvsc.kernels.nonzero_draws import FEATURES

    missing = -rows.shape[1] % FEATURES
    return np.pad(rows, ((0, 0), (0, missing))).reshape(len(rows), -1, FEATURES)


def blocked(dictionary: Float32[np.ndarray, "K D"]) -> Float32[np.ndarray, "blocks K features"]:
    """A dictionary with each block of features apart."""
    return np.ascontiguousarray(in_blocks(dictionary).transpose(1, 0, 2))


def require_numba() -> None:
    """Raises `UserError` if Numba, which the draws need, is not installed."""
    try:
        import jvsc.kernels.nonzero_draws  # noqa: F401
    except ImportError as error:
        raise UserError(
            "eval.only_nonzeros needs Numba: pip install 'jvsc[numba]', or leave it out"
        ) from error


def make_nonzero_infer_chunk(model: Variational, threshold: float) -> InferChunk:
    """The best of J codes, as `inference.make_infer_chunk` gives them, of draws made here.

    Args:
      model: a Thresholded Laplacian with a fixed threshold, and a dictionary.
      threshold: lambda.

    Raises:
      UserError: if Numba is not installed.
    """
    require_numba()
    num_samples = model.num_samples if model.sampling == "max" else 1  # as `Variational.infer`

    @jax.jit
    def infer(parameters: Parameters, statistics: Statistics, data: Any, key: Any, first: Any):
        data = as_float(data)
        heads, _ = model.heads(parameters, statistics, data)
        seeds = jax.random.key_data(datum_keys(key, data.shape[0], first))
        loc, log_scale = (heads[name].astype(jnp.float32) for name in ("loc", "log_scale"))
        hazard = hazards(model.posterior.support_probability(heads)).astype(jnp.float32)
        return (data, loc, jnp.exp(log_scale), hazard, seeds), model.posterior.kl(heads)

    # The dictionary that was cut into blocks last, and these: once for all chunks of the data.
    last: list[Any] = [None, None]

    def infer_chunk(
        parameters: Parameters,
        statistics: Statistics,
        data: Shaped[Array, "B D"],
        key: Key[Array, ""],
        first: ArrayLike,
    ) -> Inference:
        if last[0] is not parameters.generator:
            last[:] = parameters.generator, blocked(np.asarray(parameters.generator, np.float32))
        inferred, kl = infer(parameters, statistics, data, key, first)
        rows, loc, scale, hazard, seeds = map(np.asarray, inferred)
        rows = rows.astype(np.float32, copy=False)
        codes = best_of_nonzeros(rows, last[1], loc, scale, hazard, threshold, seeds, num_samples)
        return Inference(jnp.asarray(codes), kl)

    return infer_chunk
