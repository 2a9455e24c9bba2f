"""Posterior of a latent that is observed with noise, under a spike-and-Laplacian prior.

In units of the noise's deviation the observation's size is u, and r is the deviation over the
prior's scale b0. Given that the latent is not zero, its size is for each sign a normal variable of
variance one, cut off at zero, with means u - r and -(u + r) before the cut; the masses left give
the evidence. With w the share of the wrong sign and 1 / g = Phi(u - r) / phi(u - r) + Phi(-u - r) /
phi(u + r), mean and variance are

    m = u - r + 2 r w,    v = 1 + 4 r^2 w (1 - w) - 2 r g,

and as log evidence is a cumulant generating function in u, all derivatives are closed in u, r, w
and g: training differentiates no exponential. In float32 v is good to 1e-3 for r up to 10.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SQRT_2PI = math.sqrt(2 * math.pi)
# A slab's variance is at least this share of its channel's, so that its logarithm is finite.
SMALLEST_SHARE = 1e-4
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
    log_odds, mean, variance = _log_odds_and_moments(size, ratio)
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
    log_odds = _with_axes(jnp.asarray(prior_log_odds), observed.ndim)
    probability, mean, variance = _probability_and_moments(size, ratio, log_odds)
    return probability, *_in_units(observed, deviation, mean, variance)


def scaled_tail(value: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Phi(-z) exp(z^2 / 2) of the normal distribution, for z >= 0, accurate far out."""
    inverse = 1 / (1 + value * (1 / TAIL_WIDTH))
    polynomial = jnp.full_like(inverse, TAIL_COEFFICIENTS[-1])
    for coefficient in TAIL_COEFFICIENTS[-2::-1]:
        polynomial = polynomial * inverse + coefficient
    return polynomial * inverse


class _Masses(NamedTuple):
    """Of a latent's two signs, in units of the noise's deviation.

    Attributes:
      log_odds: the log of p(c | s not zero) / p(c | s = 0).
      evidence_ratio: p(c | s = 0) / p(c | s not zero).
      wrong: w.
      hazard: g.
    """

    log_odds: Array
    evidence_ratio: Array
    wrong: Array
    hazard: Array


def _standardised(observed: Array, deviation: Array, prior_scale: Array) -> tuple[Array, Array]:
    """U, and r with as many axes."""
    ratio = jnp.asarray(deviation / prior_scale)
    return jnp.abs(observed) / deviation, _with_axes(ratio, observed.ndim)


def _with_axes(array: Array, count: int) -> Array:
    """The array with axes of one in front, so many in all."""
    return array.reshape((1,) * (count - array.ndim) + array.shape)


def _in_units(
    observed: Array, deviation: Array, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """Mean and variance as they are observed."""
    variance = deviation**2 * jnp.maximum(variance, SMALLEST_SHARE)
    return jnp.sign(observed) * deviation * mean, variance


def _masses(size: Array, ratio: Array) -> _Masses:
    same = size - ratio
    above = same > 0
    # Phi / phi of each sign's mean, times exp(-exponent) / sqrt(2 pi): neither overflows.
    exponent = 0.5 * jnp.maximum(same, 0) ** 2
    density = jnp.exp(-exponent)
    tail = scaled_tail(jnp.abs(same))
    mass_same = jnp.where(above, 1 - tail * density, tail)
    mass_other = scaled_tail(size + ratio) * density
    inverse = 1 / (mass_same + mass_other)
    hazard = inverse * (1 / SQRT_2PI)
    spike = 2 * hazard / ratio
    return _Masses(
        exponent - jnp.log(spike), spike * density, mass_other * inverse, hazard * density
    )


def _moments(size: Array, ratio: Array, masses: _Masses) -> tuple[Array, Array]:
    """M and v."""
    wrong, twice = masses.wrong, 2 * ratio
    mean = size - ratio + twice * wrong
    return mean, 1 + twice * (twice * wrong * (1 - wrong) - masses.hazard)


class _Slopes(NamedTuple):
    """Derivatives by u and by r."""

    log_odds_by_ratio: Array
    mean_by_ratio: Array
    variance_by_size: Array
    variance_by_ratio: Array


def _slopes(size: Array, ratio: Array, masses: _Masses, mean: Array) -> _Slopes:
    """Those of log evidence and mean by u are m and v, and the others follow from these.

    E|s| = u - r - 2 u w + 2 g, w_u = w (u + r - m) - g, w_r = w (u + r + E|s|) - g, g_u = -g m and
    g_r = g E|s|.
    """
    wrong, hazard = masses.wrong, masses.hazard
    mean_size = size - ratio - 2 * wrong * size + 2 * hazard
    wrong_by_size = wrong * (size + ratio - mean) - hazard
    wrong_by_ratio = wrong * (size + ratio + mean_size) - hazard
    skewed = 4 * ratio**2 * (1 - 2 * wrong)
    variance_by_ratio = 8 * ratio * wrong * (1 - wrong) + skewed * wrong_by_ratio
    return _Slopes(
        1 / ratio - mean_size,
        2 * wrong + 2 * ratio * wrong_by_ratio - 1,
        skewed * wrong_by_size + 2 * ratio * hazard * mean,
        variance_by_ratio - 2 * hazard - 2 * ratio * hazard * mean_size,
    )


@jax.custom_jvp
def _log_odds_and_moments(size: Array, ratio: Array) -> tuple[Array, Array, Array]:
    masses = _masses(size, ratio)
    return masses.log_odds, *_moments(size, ratio, masses)


@_log_odds_and_moments.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]):
    size, ratio = primals
    size_moves, ratio_moves = tangents
    masses = _masses(size, ratio)
    mean, variance = _moments(size, ratio, masses)
    slopes = _slopes(size, ratio, masses, mean)
    return (masses.log_odds, mean, variance), (
        mean * size_moves + slopes.log_odds_by_ratio * ratio_moves,
        variance * size_moves + slopes.mean_by_ratio * ratio_moves,
        slopes.variance_by_size * size_moves + slopes.variance_by_ratio * ratio_moves,
    )


@jax.custom_jvp
def _probability_and_moments(
    size: Array, ratio: Array, prior_log_odds: Array
) -> tuple[Array, Array, Array]:
    masses = _masses(size, ratio)
    probability = 1 / (1 + masses.evidence_ratio * jnp.exp(-prior_log_odds))
    return probability, *_moments(size, ratio, masses)


@_probability_and_moments.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]):
    size, ratio, prior_log_odds = primals
    size_moves, ratio_moves, odds_move = tangents
    masses = _masses(size, ratio)
    off = masses.evidence_ratio * jnp.exp(-prior_log_odds)
    probability = 1 / (1 + off)
    mean, variance = _moments(size, ratio, masses)
    slopes = _slopes(size, ratio, masses, mean)
    log_odds_move = mean * size_moves + slopes.log_odds_by_ratio * ratio_moves + odds_move
    return (probability, mean, variance), (
        probability * (1 - probability) * log_odds_move,
        variance * size_moves + slopes.mean_by_ratio * ratio_moves,
        slopes.variance_by_size * size_moves + slopes.variance_by_ratio * ratio_moves,
    )
