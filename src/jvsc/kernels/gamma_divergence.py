"""Divergence between Gamma distributions that keeps its digits, with a cheap gradient.

Distrax subtracts numbers as large as the concentration: in float32 7% of the gradient is lost at
1e5. And JAX differentiates the digamma function by a general zeta function, which takes most of
the gradient's time (see docs/DESIGN.md for the measured ratio).
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Float

# Asymptotic series are exact to float32 from so much on.
LARGE = 6
LOG_2_PI = 1.8378770664093453


def gamma_kl(
    concentration: Float[Array, "*B"],
    rate: Float[Array, "*B"],
    prior_concentration: ArrayLike,
    prior_rate: ArrayLike,
) -> Float[Array, "*B"]:
    """KL(Gamma(concentration, rate) || Gamma(prior_concentration, prior_rate)) (appendix B).

    Args:
      concentration: positive, any shape.
      rate: positive.
      prior_concentration: positive.
      prior_rate: positive.

    Returns:
      The divergence of each, in nats.
    """
    return (
        _excess(concentration)
        - prior_concentration * _digamma(concentration)
        + gammaln(prior_concentration)
        + prior_concentration * (jnp.log(rate) - jnp.log(prior_rate))
        + concentration * prior_rate / rate
    )


_digamma = jax.custom_jvp(digamma)
_digamma.defjvps(lambda tangent, value, a: tangent * trigamma(a))


@jax.custom_jvp
def _excess(a: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Digamma(a) a - log Gamma(a) - a (Abramowitz & Stegun 1964, 6.1.41 and 6.3.18)."""
    inverse, square = _inverse_and_square(a)
    series = inverse * (1 / 6 - square * (1 / 90 - square / 210))
    large = 0.5 * (jnp.log(a) - LOG_2_PI - 1) - series
    return jnp.where(a < LARGE, a * digamma(a) - gammaln(a) - a, large)


@_excess.defjvp
def _excess_jvp(primals, tangents):
    (a,) = primals
    inverse, square = _inverse_and_square(a)
    large = inverse * (0.5 + inverse * _trigamma_series(square))
    return _excess(a), jnp.where(a < LARGE, a * trigamma(a) - 1, large) * tangents[0]


def trigamma(a: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """The second derivative of log Gamma at a > 0 (Abramowitz & Stegun 1964, 6.4.6 and 6.4.12).

    Args:
      a: positive, any shape.

    Returns:
      Its values, exact to float32.
    """
    recurrence = sum(1 / (a + i) ** 2 for i in range(LARGE))
    inverse, square = _inverse_and_square(a + LARGE)
    return recurrence + inverse + square / 2 + inverse * square * _trigamma_series(square)


def _trigamma_series(square: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """a^3 (trigamma(a) - 1/a - 1/(2 a^2)) for large a, of 1 / a^2."""
    return 1 / 6 - square * (1 / 30 - square * (1 / 42 - square / 30))


def _inverse_and_square(a: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """1 / a and 1 / a^2 of a >= `LARGE`; of `LARGE` where `a` is less, for which others hold."""
    inverse = 1 / jnp.maximum(a, LARGE)
    return inverse, inverse**2
