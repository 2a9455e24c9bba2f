"""The Laplacian base family (Barello et al. 2018; Connor et al. 2020)."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.posteriors.base import Annealing, LocationScale
from jvsc.thresholds import Heads

# -log of the smallest argument that the sampler's logarithm is given (appendix B).
LARGEST_STANDARD_NOISE = -math.log(1e-6)
# Beyond exp(40) scales `|loc| / scale` is far past where exp(-|loc| / scale) is zero in float32;
# the limit keeps its gradient from becoming inf * 0.
LARGEST_LOG_PRECISION = 40.0


def laplacian_kl(
    loc: Float[Array, "*B K"], log_scale: Float[Array, "*B K"], prior_scale: float
) -> Float[Array, "*B K"]:
    """KL(Laplace(loc, b) || Laplace(0, b0)), in log space (Meyer 2021; appendix B).

    |loc|/b0 + log b0 - log b - 1 + (b/b0) exp(-|loc|/b). distrax's form divides by b itself, whose
    underflow makes the gradient NaN.

    Args:
      loc: location of the posterior.
      log_scale: log b.
      prior_scale: b0.

    Returns:
      Divergence of each latent, not negative up to rounding.
    """
    log_prior_scale = math.log(prior_scale)
    size = jnp.abs(loc)
    exponent = size * jnp.exp(jnp.minimum(-log_scale, LARGEST_LOG_PRECISION))
    overlap = jnp.exp(log_scale - log_prior_scale - exponent)
    return size / prior_scale + log_prior_scale - log_scale - 1 + overlap


def laplacian(scale: float = 0.1) -> LocationScale:
    """Laplacian posterior with prior Laplace(0, scale); heads `loc` and `log_scale` (appendix B).

    Barello et al. (2018), Connor et al. (2020). The noise is multiplied by the warm-up; its size is
    at most log(1e6) scales.

    Args:
      scale: scale b0 of the prior.

    Raises:
      UserError: if `scale` is not positive.
    """
    if not scale > 0:
        raise UserError(f"prior scale is {scale}; give a positive number")

    def noise(key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        standard = jax.random.laplace(key, heads["log_scale"].shape)
        clipped = jnp.clip(standard, -LARGEST_STANDARD_NOISE, LARGEST_STANDARD_NOISE)
        return jnp.asarray(annealing.warmup) * jnp.exp(heads["log_scale"]) * clipped

    def kl(heads: Heads) -> Float[Array, "*B K"]:
        return laplacian_kl(heads["loc"], heads["log_scale"], scale)

    def log_ratio(noise: Float[Array, " K"], heads: Heads) -> Float[Array, " K"]:
        prior = -math.log(scale) - jnp.abs(heads["loc"] + noise) / scale
        return prior + heads["log_scale"] + jnp.abs(noise) * jnp.exp(-heads["log_scale"])

    def tail(size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        # The clip of the noise ends the tail.
        standard = size * jnp.exp(jnp.minimum(-heads["log_scale"], LARGEST_LOG_PRECISION))
        return jnp.where(standard < LARGEST_STANDARD_NOISE, jnp.exp(-standard), 0.0)

    def quantile(probability: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        standard = jnp.minimum(-jnp.log(jnp.asarray(probability)), LARGEST_STANDARD_NOISE)
        return standard * jnp.exp(heads["log_scale"])

    prior = {"loc": 0.0, "log_scale": math.log(scale)}
    return LocationScale(prior, noise, kl, log_ratio, tail, quantile)
