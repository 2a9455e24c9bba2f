"""Posterior of a latent that is observed with noise, under a spike-and-Laplacian prior.

In units of the noise's deviation the observation's size is u, and r is the deviation over the
prior's scale b0. Given that the latent is not zero, its size is for each sign a normal variable of
variance one, cut off at zero, with means u - r and -(u + r) before the cut; the masses left give
the evidence. With w the share of the wrong sign and 1 / g = Phi(u - r) / phi(u - r) + Phi(-u - r) /
phi(u + r), mean and variance are

    m = u - r + 2 r w,    v = 1 + 4 r^2 w (1 - w) - 2 r g,

and as log evidence is a cumulant generating function in u, all derivatives are closed in u, r, w
and g: training differentiates no exponential. They are differences of terms that grow with r, of
which float32 keeps nothing once r is tens. So from r - u = 12 on, where a size is nearly
exponential,

    m = 2 u / (r^2 + 5 - u^2),

which is good to 1%, its derivatives to 3% and those of v to 7%. For smaller r - u, and r up to 50,
v is good to 3e-4 and its derivatives to 1e-2.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SQRT_2PI = math.sqrt(2 * math.pi)
# A slab's variance is at least this share of its channel's, so that its logarithm is finite.
SMALLEST_SHARE = 1e-4
# From this r - u on m is in its simple form; FAR_CURVATURE is the 5 in it.
FAR, FAR_CURVATURE = 12.0, 5.0
# Phi(-z) exp(z^2 / 2) over t = 1 / (1 + z / 3.5) in powers of t, to 1.7e-7: a least-squares fit to
# its largest relative error, in a variable like that of Shepherd & Laframboise (1981).
TAIL_WIDTH = 3.5
TAIL_COEFFICIENTS = (
    0.1139834893,
    0.1139841452,
    0.1047038594,
    0.0853703875,
    0.06664841231,
    0.005393312051,
    0.07054999407,
    -0.08501629138,
    0.02438277671,
)


def laplacian_slab(
    observed: Float[Array, "*S"],
    noise_variance: Float[Array, "*#S"],
    prior_scale: Float[Array, "*#S"],
) -> tuple[Float[Array, "*S"], Float[Array, "*S"], Float[Array, "*S"]]:
    """Posterior of a latent observed as c = s + noise, where s is zero or from Laplace(0, b0).

    Args:
      observed: c.
      noise_variance: tau^2 of the noise.
      prior_scale: b0.

    Returns:
      log p(c | s not zero) - log p(c | s = 0), and mean and variance of s given c and s not zero.
    """
    deviation = jnp.sqrt(noise_variance)
    size, ratio = _standardised(observed, deviation, prior_scale)
    log_odds, _, mean, variance = _evidence_and_moments(size, ratio)
    return log_odds, *_in_units(observed, deviation, mean, variance)


def spike_and_slab(
    observed: Float[Array, "*S"],
    noise_variance: Float[Array, "*#S"],
    prior_scale: Float[Array, "*#S"],
    prior_log_odds: Float[Array, "*#S"],
) -> tuple[Float[Array, "*S"], Float[Array, "*S"], Float[Array, "*S"]]:
    """As `laplacian_slab`, with P(s != 0 | c) in the place of the evidence, without a logarithm.

    Args:
      observed: c.
      noise_variance: tau^2 of the noise.
      prior_scale: b0.
      prior_log_odds: log p0 - log(1 - p0).
    """
    deviation = jnp.sqrt(noise_variance)
    size, ratio = _standardised(observed, deviation, prior_scale)
    _, spike_to_slab, mean, variance = _evidence_and_moments(size, ratio)
    probability = 1 / (1 + spike_to_slab * jnp.exp(-jnp.asarray(prior_log_odds)))
    return probability, *_in_units(observed, deviation, mean, variance)


def scaled_tail(value: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Phi(-z) exp(z^2 / 2) of the normal distribution, for z >= 0, accurate far out."""
    inverse = 1 / (1 + value * (1 / TAIL_WIDTH))
    polynomial = jnp.full_like(inverse, TAIL_COEFFICIENTS[-1])
    for coefficient in TAIL_COEFFICIENTS[-2::-1]:
        polynomial = polynomial * inverse + coefficient
    return polynomial * inverse


def _standardised(observed: Array, deviation: Array, prior_scale: Array) -> tuple[Array, Array]:
    """U, and r with as many axes, in front of its own."""
    ratio = jnp.asarray(deviation / prior_scale)
    missing = observed.ndim - ratio.ndim
    return jnp.abs(observed) / deviation, ratio.reshape((1,) * missing + ratio.shape)


def _in_units(
    observed: Array, deviation: Array, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """Mean and variance as they are observed."""
    variance = deviation**2 * jnp.maximum(variance, SMALLEST_SHARE)
    return jnp.sign(observed) * deviation * mean, variance


def _far_out(size: Array, ratio: Array) -> tuple[Array, Array, Array]:
    """Whether m has its simple form; r^2 + 5 in it, and 1 / (r^2 + 5 - u^2)."""
    width = ratio**2 + FAR_CURVATURE
    return ratio - size > FAR, width, 1 / (width - size**2)


def _posterior(size: Array, ratio: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """What `_evidence_and_moments` gives, and w and g, which its derivatives need."""
    same, twice = size - ratio, 2 * ratio
    above = same > 0
    # Phi / phi of each sign's mean, times exp(-exponent) / sqrt(2 pi): neither overflows.
    exponent = 0.5 * jnp.maximum(same, 0) ** 2
    density = jnp.exp(-exponent)
    tail = scaled_tail(jnp.abs(same))
    mass_same = jnp.where(above, 1 - tail * density, tail)
    mass_other = scaled_tail(size + ratio) * density
    inverse = 1 / (mass_same + mass_other)
    spike = 2 * inverse / (SQRT_2PI * ratio)
    wrong, hazard = mass_other * inverse, density * inverse * (1 / SQRT_2PI)
    far, _, rest = _far_out(size, ratio)
    mean = jnp.where(far, 2 * size * rest, same + twice * wrong)
    variance = 1 + twice * (twice * wrong * (1 - wrong) - hazard)
    variance = jnp.where(far, 2 * rest * (1 + 2 * size**2 * rest), variance)
    return exponent - jnp.log(spike), spike * density, mean, variance, wrong, hazard


@jax.custom_jvp
def _evidence_and_moments(size: Array, ratio: Array) -> tuple[Array, Array, Array, Array]:
    """Log of p(c | s not zero) / p(c | s = 0), that ratio's inverse, m and v; of u and r.

    Whichever of the first two is not used is not computed in a compiled function.
    """
    return _posterior(size, ratio)[:4]


@_evidence_and_moments.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]):
    """By u, log evidence and mean have the derivatives m and v; the others follow from these.

    E|s| = u - r - 2 u w + 2 g, w_u = w (u + r - m) - g, w_r = w (u + r + E|s|) - g, g_u = -g m and
    g_r = g E|s|. Far out they are those of m's simple form.
    """
    (size, ratio), (size_moves, ratio_moves) = primals, tangents
    log_odds, spike_to_slab, mean, variance, wrong, hazard = _posterior(size, ratio)
    mean_size = size - ratio - 2 * wrong * size + 2 * hazard
    wrong_by_size = wrong * (size + ratio - mean) - hazard
    wrong_by_ratio = wrong * (size + ratio + mean_size) - hazard
    skewed = 4 * ratio**2 * (1 - 2 * wrong)
    mean_by_ratio = 2 * wrong + 2 * ratio * wrong_by_ratio - 1
    variance_by_size = skewed * wrong_by_size + 2 * ratio * hazard * mean
    variance_by_ratio = 8 * ratio * wrong * (1 - wrong) + skewed * wrong_by_ratio
    variance_by_ratio -= 2 * hazard * (1 + ratio * mean_size)
    far, width, rest = _far_out(size, ratio)
    mean_by_ratio = jnp.where(far, -4 * size * ratio * rest**2, mean_by_ratio)
    by_size = 4 * size * (3 * width + size**2) * rest**3
    variance_by_size = jnp.where(far, by_size, variance_by_size)
    by_ratio = -4 * ratio * (width + 3 * size**2) * rest**3
    variance_by_ratio = jnp.where(far, by_ratio, variance_by_ratio)
    log_odds_move = mean * size_moves + (1 / ratio - mean_size) * ratio_moves
    return (log_odds, spike_to_slab, mean, variance), (
        log_odds_move,
        -spike_to_slab * log_odds_move,
        variance * size_moves + mean_by_ratio * ratio_moves,
        variance_by_size * size_moves + variance_by_ratio * ratio_moves,
    )
