"""The Laplacian base family (Barello et al. 2018; Connor et al. 2020)."""

import distrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.posteriors.base import Annealing, LocationScale
from jvsc.thresholds import Heads

# -log of the smallest argument that the sampler's logarithm is given (appendix B).
LARGEST_STANDARD_NOISE = 6 * jnp.log(10.0)


def laplacian(scale: float = 0.1) -> LocationScale:
    """Laplacian posterior with prior Laplace(0, scale); heads `loc` and `log_scale` (appendix B).

    The noise is multiplied by the warm-up; its size is at most log(1e6) scales.

    Args:
      scale: scale b0 of the prior.

    Raises:
      UserError: if `scale` is not positive.
    """
    if not scale > 0:
        raise UserError(f"prior scale is {scale}; give a positive number")
    prior = distrax.Laplace(0.0, scale)

    def noise(key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        shape = heads["log_scale"].shape
        standard = distrax.Laplace(0.0, 1.0).sample(seed=key, sample_shape=shape)
        clipped = jnp.clip(standard, -LARGEST_STANDARD_NOISE, LARGEST_STANDARD_NOISE)
        return jnp.asarray(annealing.warmup) * jnp.exp(heads["log_scale"]) * clipped

    def kl(heads: Heads) -> Float[Array, "*B K"]:
        posterior = distrax.Laplace(heads["loc"], jnp.exp(heads["log_scale"]))
        return jnp.asarray(posterior.kl_divergence(prior))

    return LocationScale(("loc", "log_scale"), noise, kl)
