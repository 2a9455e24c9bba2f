"""Divergence between Gamma distributions, with a gradient that takes a few products and sums.

Distrax has the same value; JAX differentiates its digamma function by a general zeta function,
which takes most of the gradient's time (see docs/DESIGN.md for the measured ratio).
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Float

# Trigamma's asymptotic series, from so much on, is exact to float32.
ASYMPTOTIC_FROM = 6


def gamma_kl(
    concentration: Float[Array, "*B"],
    rate: Float[Array, "*B"],
    prior_concentration: ArrayLike,
    prior_rate: ArrayLike,
) -> Float[Array, "*B"]:
    """KL(Gamma(concentration, rate) || Gamma(prior_concentration, prior_rate)) (eq. 5, appendix B).

    It loses digits to cancellation where a concentration passes 1e3.

    Args:
      concentration: positive, any shape.
      rate: positive.
      prior_concentration: positive.
      prior_rate: positive.

    Returns:
      The divergence of each, in nats.
    """
    return (
        (concentration - prior_concentration) * _digamma(concentration)
        - gammaln(concentration)
        + gammaln(prior_concentration)
        + prior_concentration * (jnp.log(rate) - jnp.log(prior_rate))
        + concentration * (prior_rate / rate - 1)
    )


@jax.custom_jvp
def _digamma(a: Float[Array, "*B"]) -> Float[Array, "*B"]:
    return digamma(a)


_digamma.defjvps(lambda tangent, value, a: tangent * trigamma(a))


def trigamma(a: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """The second derivative of log Gamma at a > 0 (Abramowitz & Stegun 1964, 6.4.6 and 6.4.12)."""
    recurrence = sum(1 / (a + i) ** 2 for i in range(ASYMPTOTIC_FROM))
    inverse = 1 / (a + ASYMPTOTIC_FROM)
    square = inverse**2
    series = 1 / 6 - square * (1 / 30 - square * (1 / 42 - square / 30))
    return recurrence + inverse + square / 2 + inverse * square * series
