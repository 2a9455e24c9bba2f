"""Posterior of a latent that is observed with noise, under a spike-and-Laplacian prior."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

LOG_2PI = math.log(2 * math.pi)
# A slab's variance is at least this share of its channel's, so that its logarithm is finite.
SMALLEST_SHARE = 1e-4
# Of log(erfcx(z) (1 + z / 2)) in powers of 1 / (1 + z / 2), to 1.2e-7 (Press et al. 2007, 6.2.2).
ERFCX_COEFFICIENTS = (
    -1.26551223,
    1.00002368,
    0.37409196,
    0.09678418,
    -0.18628806,
    0.27886807,
    -1.13520398,
    1.48851587,
    -0.82215223,
    0.17087277,
)


def laplacian_slab(
    observed: Float[Array, "*S"],
    noise_variance: Float[Array, "*#S"],
    prior_scale: Float[Array, "*#S"],
) -> tuple[Float[Array, "*S"], Float[Array, "*S"], Float[Array, "*S"]]:
    """Posterior of a latent observed as c = s + noise, where s is zero or from Laplace(0, b0).

    Given that s is not zero, it is for each sign a normal variable cut off at zero, with means
    |c| - tau^2 / b0 and -(|c| + tau^2 / b0) and variance tau^2. Their masses give the evidence.

    Args:
      observed: c.
      noise_variance: tau^2 of the noise.
      prior_scale: b0.

    Returns:
      log p(c | s not zero) - log p(c | s = 0), and mean and variance of s given c and s not zero.
    """
    deviation = jnp.sqrt(noise_variance)
    size, ratio = jnp.abs(observed) / deviation, deviation / prior_scale
    same, other = size - ratio, -size - ratio
    mass_same, mass_other = log_scaled_cdf(same), log_scaled_tail(size + ratio)
    mass = jnp.logaddexp(mass_same, mass_other)
    log_odds = mass + jnp.log(ratio) + 0.5 * LOG_2PI - math.log(2)
    wrong_sign = jnp.exp(mass_other - mass)
    # Mean of a normal variable above zero, in deviations: its own and phi / Phi.
    mean_same = same + jnp.exp(-mass_same - 0.5 * LOG_2PI)
    mean_other = other + jnp.exp(-mass_other - 0.5 * LOG_2PI)
    mean = (1 - wrong_sign) * mean_same - wrong_sign * mean_other
    square = (1 - wrong_sign) * (1 + same * mean_same) + wrong_sign * (1 + other * mean_other)
    variance = jnp.maximum(square - mean**2, SMALLEST_SHARE)
    return log_odds, jnp.sign(observed) * deviation * mean, noise_variance * variance


def log_scaled_tail(value: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """log(Phi(-z) exp(z^2 / 2)) of the normal distribution, for z >= 0, accurate far out."""
    inverse = 1 / (1 + value / math.sqrt(8))
    polynomial = jnp.full_like(inverse, ERFCX_COEFFICIENTS[-1])
    for coefficient in ERFCX_COEFFICIENTS[-2::-1]:
        polynomial = polynomial * inverse + coefficient
    return jnp.log(inverse) + polynomial - math.log(2)


def log_scaled_cdf(value: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """log(Phi(z) exp(z^2 / 2)) of the normal distribution, for any z."""
    below = value < 0
    half_square = 0.5 * value**2
    tail = log_scaled_tail(jnp.abs(value))
    beyond = jnp.where(below, 0.0, jnp.exp(tail - half_square))
    return jnp.where(below, tail, half_square + jnp.log1p(-beyond))
