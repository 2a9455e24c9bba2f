"""The Gaussian base family (Kingma & Welling 2014)."""

import distrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.posteriors.base import Annealing, LocationScale
from jvsc.thresholds import Heads


def gaussian(variance: float = 0.1) -> LocationScale:
    """Gaussian posterior with prior N(0, variance); heads `loc` and `log_variance` (appendix B).

    Args:
      variance: variance v0 of the prior.

    Raises:
      UserError: if `variance` is not positive.
    """
    if not variance > 0:
        raise UserError(f"prior variance is {variance}; give a positive number")
    prior = distrax.Normal(0.0, jnp.sqrt(variance))

    def noise(key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        del annealing
        scale = jnp.exp(heads["log_variance"] / 2)
        return scale * jax.random.normal(key, scale.shape)

    def kl(heads: Heads) -> Float[Array, "*B K"]:
        posterior = distrax.Normal(heads["loc"], jnp.exp(heads["log_variance"] / 2))
        return jnp.asarray(posterior.kl_divergence(prior))

    return LocationScale(("loc", "log_variance"), noise, kl)
