"""The Laplacian base family (Barello et al. 2018; Connor et al. 2020)."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.model.posteriors.base import (
    LARGEST_EXPONENT,
    LARGEST_LOG_PRECISION,
    Annealing,
    LocationScale,
)
from jvsc.model.thresholding import Heads

# -log of the smallest argument that the sampler's logarithm is given (appendix B).
LARGEST_STANDARD_NOISE = -math.log(1e-6)


def laplacian_kl(
    loc: Float[Array, "*B K"],
    log_scale: Float[Array, "*B K"],
    prior_scale: float | Float[Array, "*#B #K"],
) -> Float[Array, "*B K"]:
    """KL(Laplace(loc, b) || Laplace(0, b0)), in log space (Meyer 2021; appendix B).

    |loc|/b0 + log b0 - log b - 1 + (b/b0) exp(-|loc|/b). distrax's form divides by b itself, whose
    underflow makes the gradient NaN.

    Args:
      loc: location of the posterior.
      log_scale: log b.
      prior_scale: b0, one number or broadcast against `loc`.

    Returns:
      Divergence of each latent, not negative up to rounding.
    """
    constant = isinstance(prior_scale, float)
    log_prior_scale = math.log(prior_scale) if constant else jnp.log(prior_scale)
    size = jnp.abs(loc)
    exponent = size * jnp.exp(jnp.minimum(-log_scale, LARGEST_LOG_PRECISION))
    overlap = jnp.exp(log_scale - log_prior_scale - exponent)
    return size / prior_scale + log_prior_scale - log_scale - 1 + overlap


@dataclass(frozen=True)
class Laplacian(LocationScale):
    """Laplacian posterior with prior Laplace(0, scale); heads `loc` and `log_scale` (appendix B).

    Barello et al. (2018), Connor et al. (2020). The noise is multiplied by the warm-up; its size is
    at most log(1e6) scales.

    Attributes:
      scale: scale b0 of the prior.

    Raises:
      UserError: if `scale` is not positive.
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise UserError(f"prior scale is {self.scale}; give a positive number")

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior."""
        return {"loc": 0.0, "log_scale": math.log(self.scale)}

    def noise(self, key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        """Scaled noise of one datum's latents."""
        standard = jax.random.laplace(key, heads["log_scale"].shape, heads["log_scale"].dtype)
        clipped = jnp.clip(standard, -LARGEST_STANDARD_NOISE, LARGEST_STANDARD_NOISE)
        return jnp.asarray(annealing.warmup) * jnp.exp(heads["log_scale"]) * clipped

    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL(q || p) of each latent in nats (`laplacian_kl`)."""
        return laplacian_kl(heads["loc"], heads["log_scale"], self.scale)

    def log_ratio(self, noise: Float[Array, " K"], heads: Heads) -> Float[Array, " K"]:
        """Log p(loc + noise) - log q(loc + noise) of each latent."""
        prior = -math.log(self.scale) - jnp.abs(heads["loc"] + noise) / self.scale
        precision = jnp.exp(jnp.minimum(-heads["log_scale"], LARGEST_EXPONENT))
        return prior + heads["log_scale"] + jnp.abs(noise) * precision

    def tail(self, size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > size) = exp(-size / b), up to where the noise is clipped."""
        standard = size * jnp.exp(jnp.minimum(-heads["log_scale"], LARGEST_LOG_PRECISION))
        return jnp.where(standard < LARGEST_STANDARD_NOISE, jnp.exp(-standard), 0.0)

    def excess_square(self, size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """2 b^2 exp(-size / b): beyond any size the tail is exponential with scale b."""
        return 2 * jnp.exp(2 * heads["log_scale"]) * self.tail(size, heads)

    def warmed(self, heads: Heads, warmup: ArrayLike) -> Heads:
        """Heads whose scale is multiplied by the warm-up."""
        return heads | {"log_scale": heads["log_scale"] + jnp.log(jnp.asarray(warmup))}

    def quantile(self, probability: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """The size with P(|noise| > size) = probability."""
        standard = jnp.minimum(-jnp.log(jnp.asarray(probability)), LARGEST_STANDARD_NOISE)
        return standard * jnp.exp(heads["log_scale"])
