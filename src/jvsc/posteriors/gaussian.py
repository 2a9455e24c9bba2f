"""The Gaussian base family (Kingma & Welling 2014)."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.posteriors.base import Annealing, LocationScale
from jvsc.thresholds import Heads


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


def gaussian(variance: float = 0.1) -> LocationScale:
    """Gaussian posterior with prior N(0, variance); heads `loc` and `log_variance` (appendix B).

    Kingma & Welling (2014). The warm-up does not apply.

    Args:
      variance: variance v0 of the prior.

    Raises:
      UserError: if `variance` is not positive.
    """
    if not variance > 0:
        raise UserError(f"prior variance is {variance}; give a positive number")

    def noise(key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        del annealing
        scale = jnp.exp(heads["log_variance"] / 2)
        return scale * jax.random.normal(key, scale.shape)

    def kl(heads: Heads) -> Float[Array, "*B K"]:
        return gaussian_kl(heads["loc"], heads["log_variance"], variance)

    def log_ratio(noise: Float[Array, " K"], heads: Heads) -> Float[Array, " K"]:
        prior = -0.5 * (math.log(variance) + (heads["loc"] + noise) ** 2 / variance)
        return prior + 0.5 * (heads["log_variance"] + noise**2 * jnp.exp(-heads["log_variance"]))

    def tail(size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        return 2 * norm.cdf(-jnp.asarray(size) * jnp.exp(-heads["log_variance"] / 2))

    def quantile(probability: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        return -norm.ppf(jnp.asarray(probability) / 2) * jnp.exp(heads["log_variance"] / 2)

    prior = {"loc": 0.0, "log_variance": math.log(variance)}
    return LocationScale(prior, noise, kl, log_ratio, tail, quantile)
