"""The Gaussian base family (Kingma & Welling 2014)."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
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


def gaussian_kl(
    loc: Float[Array, "*B K"], log_variance: Float[Array, "*B K"], prior_variance: float
) -> Float[Array, "*B K"]:
    """KL(N(loc, v) || N(0, v0)) = (log v0 - log v - 1 + (loc^2 + v) / v0) / 2 (appendix B).

    In log space: distrax's form takes the logarithm of a scale that may have underflowed.

    Args:
      loc: mean of the posterior.
      log_variance: log v.
      prior_variance: v0.

    Returns:
      Divergence of each latent, not negative up to rounding.
    """
    quadratic = (loc**2 + jnp.exp(log_variance)) / prior_variance
    return 0.5 * (math.log(prior_variance) - log_variance - 1 + quadratic)


def _in_scales(size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
    """A size over sigma, its square finite where sigma has underflowed."""
    precision = jnp.exp(jnp.minimum(-heads["log_variance"] / 2, LARGEST_LOG_PRECISION))
    return jnp.asarray(size) * precision


@dataclass(frozen=True)
class Gaussian(LocationScale):
    """Gaussian posterior with prior N(0, variance); heads `loc` and `log_variance` (appendix B).

    Kingma & Welling (2014). The warm-up does not apply.

    Attributes:
      variance: variance v0 of the prior.

    Raises:
      UserError: if `variance` is not positive.
    """

    variance: float = 0.1

    def __post_init__(self) -> None:
        if not self.variance > 0:
            raise UserError(f"prior variance is {self.variance}; give a positive number")

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior."""
        return {"loc": 0.0, "log_variance": math.log(self.variance)}

    def noise(self, key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        """Scaled noise of one datum's latents."""
        del annealing
        scale = jnp.exp(heads["log_variance"] / 2)
        return scale * jax.random.normal(key, scale.shape, scale.dtype)

    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL(q || p) of each latent in nats (`gaussian_kl`)."""
        return gaussian_kl(heads["loc"], heads["log_variance"], self.variance)

    def log_ratio(self, noise: Float[Array, " K"], heads: Heads) -> Float[Array, " K"]:
        """Log p(loc + noise) - log q(loc + noise) of each latent."""
        sample = heads["loc"] + noise
        prior = -0.5 * (math.log(self.variance) + sample**2 / self.variance)
        standard = noise * jnp.exp(jnp.minimum(-heads["log_variance"] / 2, LARGEST_EXPONENT))
        return prior + 0.5 * (heads["log_variance"] + standard**2)

    def tail(self, size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > size) = 2 Phi(-size / sigma)."""
        return 2 * norm.cdf(-_in_scales(size, heads))

    def excess_square(self, size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """2 [(sigma^2 + t^2) Phi(-t / sigma) - t sigma phi(t / sigma)], t the size."""
        scale, size = jnp.exp(heads["log_variance"] / 2), jnp.asarray(size)
        standard = _in_scales(size, heads)
        return 2 * ((scale**2 + size**2) * norm.cdf(-standard) - size * scale * norm.pdf(standard))

    def quantile(self, probability: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """The size with P(|noise| > size) = probability."""
        return -norm.ppf(jnp.asarray(probability) / 2) * jnp.exp(heads["log_variance"] / 2)
