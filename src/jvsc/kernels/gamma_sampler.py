"""Standard Gamma samples by their quantile function, differentiable in the concentration.

`jax.random.gamma`, which distrax calls, rejects proposals, which on a CPU is done element by
element, and its gradient is a series until it converges. Here a power of the quantile is a
polynomial in the bent normal score: no loop, and the gradient is the polynomial's own (see
docs/DESIGN.md for the ratios).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.polynomial import chebyshev
from scipy.special import gammainccinv, gammaincinv, ndtr

TINY = float(jnp.finfo(jnp.float32).tiny)
# Degrees in the score and in the coefficient of variation, 1 / sqrt(concentration).
SCORE_DEGREE, VARIATION_DEGREE = 16, 16
# Normal scores of float32 end at 5.4. A score x is bent to x / sqrt(x^2 + 30): that needs three
# quarters of the degree where the concentration is 1, whose cube root is singular at the zeros of
# Phi and 1 - Phi, near +-1.9 +- 2.8i.
LARGEST_SCORE, BEND = 5.6, 30.0
LARGEST_BENT = LARGEST_SCORE / (LARGEST_SCORE**2 + BEND) ** 0.5


@jax.custom_jvp
def sample_standard_gamma(
    key: Key[Array, ""], concentration: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Draws from Gamma(concentration, 1) as the quantile of a normal score.

    Its derivative at a fixed score is the implicit gradient (Figurnov et al. 2018; Jankowiak &
    Obermeyer 2018). Below a concentration a of 1 a draw is one of a + 1 times U^(1/a) (Marsaglia &
    Tsang 2000), differentiated at a fixed U too: the same gradient in the mean.

    Args:
      key: one key for the whole array.
      concentration: shape parameters a > 0, any shape.

    Returns:
      Positive samples of `concentration`'s shape and type; NaN where it is not finite and positive.
      Scores are off by less than 6e-6, beyond +-4 by less than 1e-4, and samples by 4e-7 of their
      size; in double precision too, whose scores end at +-5.6.
      A sample below float32's smallest is that, with a slope of zero.
    """
    return _sample(key, concentration)


@sample_standard_gamma.defjvp
def _sample_standard_gamma_jvp(primals, tangents):
    key, concentration = primals
    # Forward, a slope for each draw: backward, XLA would make the draw again for each coefficient.
    ones = jnp.ones_like(concentration)
    sample, slope = jax.jvp(lambda a: _sample(key, a), (concentration,), (ones,))
    return sample, slope * tangents[1]


def _sample(key: Key[Array, ""], concentration: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """`sample_standard_gamma` as it is computed."""
    score_key, boost_key = jax.random.split(key)
    below_one = concentration < 1
    score = jax.random.normal(score_key, concentration.shape, concentration.dtype)
    sample = standard_gamma_quantile(score, jnp.where(below_one, concentration + 1, concentration))
    exponential = jax.random.exponential(boost_key, score.shape, score.dtype)
    boost = jnp.exp(-exponential / jnp.where(below_one, concentration, 1.0))
    sample = jnp.maximum(jnp.where(below_one, sample * boost, sample), TINY)
    return jnp.where(jnp.isfinite(concentration) & (concentration > 0), sample, jnp.nan)


def standard_gamma_quantile(
    score: Float[Array, "*#B"], concentration: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """The quantile of Gamma(concentration, 1) at the probability Phi(score).

    Args:
      score: normal scores, of the concentration's shape or one that is broadcast to it; beyond
        +-5.6 they count as that.
      concentration: shape parameters >= 1, any shape.

    Returns:
      The quantiles; for their precision see `sample_standard_gamma`.
    """
    variation = jax.lax.rsqrt(concentration)
    series = _chebyshev(2 * variation - 1, VARIATION_DEGREE)
    # All draws of a datum share these. XLA computes a product once, where it would make sums again
    # for each of them; in full precision on every device.
    table = jnp.asarray(_TABLE, concentration.dtype)
    coefficients = jnp.tensordot(table, series, 1, precision=jax.lax.Precision.HIGHEST)
    score = jnp.clip(score, -LARGEST_SCORE, LARGEST_SCORE)
    bent = score * jax.lax.rsqrt(score**2 + BEND) / LARGEST_BENT
    transformed = coefficients[SCORE_DEGREE]
    for power in reversed(range(SCORE_DEGREE)):
        transformed = transformed * bent + coefficients[power]
    return concentration * (1 + variation * transformed) ** 3


def _chebyshev(variable: Float[Array, "*B"], degree: int) -> Float[Array, "degrees *B"]:
    """Chebyshev's polynomials T_0 to T_degree of a variable in [-1, 1]."""
    series = [jnp.ones_like(variable), variable]
    while len(series) <= degree:
        series.append(2 * variable * series[-1] - series[-2])
    return jnp.stack(series)


def _wilson_hilferty(score: np.ndarray, variation: np.ndarray) -> np.ndarray:
    """((z / a)^(1/3) - 1) sqrt(a), of the quantile z: nearly score / 3 (Wilson & Hilferty 1931)."""
    concentration = variation**-2
    below = gammaincinv(concentration, ndtr(score))
    above = gammainccinv(concentration, ndtr(-score))
    quantile = np.where(score < 0, below, above)
    return (np.cbrt(quantile / concentration) - 1) / variation


def _interpolate() -> np.ndarray:
    """Coefficients [power of the bent score, Chebyshev's polynomial of 2 variation - 1]."""
    score_nodes = chebyshev.chebpts1(SCORE_DEGREE + 1)
    variation_nodes = chebyshev.chebpts1(VARIATION_DEGREE + 1)
    bent = LARGEST_BENT * score_nodes[:, None]
    score = bent * np.sqrt(BEND / (1 - bent**2))
    values = _wilson_hilferty(score, (variation_nodes + 1) / 2)
    by_score = np.linalg.solve(np.vander(score_nodes, increasing=True), values)
    return np.linalg.solve(chebyshev.chebvander(variation_nodes, VARIATION_DEGREE), by_score.T).T


_TABLE = _interpolate()
