"""Posterior of a latent that is observed with noise, under a spike-and-Laplacian prior."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

LOG_2PI, SQRT_2PI = math.log(2 * math.pi), math.sqrt(2 * math.pi)
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
    # Phi of each sign's mean in deviations, times exp(same^2 / 2) where that does not overflow.
    above = same > 0
    density = jnp.where(above, jnp.exp(-0.5 * same**2), 1.0)
    tail_same, tail_other = scaled_tail(jnp.abs(same)), scaled_tail(size + ratio)
    mass_same = jnp.where(above, 1 - tail_same * density, tail_same)
    mass_other = tail_other * density
    mass = mass_same + mass_other
    log_odds = jnp.log(mass) + jnp.where(above, 0.5 * same**2, 0.0)
    log_odds += jnp.log(ratio) + 0.5 * LOG_2PI - math.log(2)
    wrong_sign = mass_other / mass
    # A normal variable above zero has, in deviations, the mean a + h and the variance 1 - h (a + h)
    # with h = phi / Phi.
    hazard_same, hazard_other = density / mass_same / SQRT_2PI, 1 / tail_other / SQRT_2PI
    mean_same, mean_other = same + hazard_same, other + hazard_other
    mean = (1 - wrong_sign) * mean_same - wrong_sign * mean_other
    variance = (1 - wrong_sign) * (1 - hazard_same * mean_same)
    variance += wrong_sign * (1 - hazard_other * mean_other)
    variance += wrong_sign * (1 - wrong_sign) * (mean_same + mean_other) ** 2
    variance = noise_variance * jnp.maximum(variance, SMALLEST_SHARE)
    return log_odds, jnp.sign(observed) * deviation * mean, variance


def scaled_tail(value: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Phi(-z) exp(z^2 / 2) of the normal distribution, for z >= 0, accurate far out."""
    inverse = 1 / (1 + value / math.sqrt(8))
    polynomial = jnp.full_like(inverse, ERFCX_COEFFICIENTS[-1])
    for coefficient in ERFCX_COEFFICIENTS[-2::-1]:
        polynomial = polynomial * inverse + coefficient
    return 0.5 * inverse * jnp.exp(polynomial)
