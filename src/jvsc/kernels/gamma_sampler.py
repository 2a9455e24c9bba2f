"""Standard Gamma samples by their quantile function, differentiable in the concentration.

`jax.random.gamma`, which distrax calls, rejects proposals, which on a CPU is done element by
element, and its gradient is a series until it converges. Here the quantile is a polynomial in a
normal score: no loop, and the gradient is the polynomial's own (see docs/DESIGN.md for the ratios).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.polynomial import chebyshev
from scipy.special import gammainccinv, gammaincinv, ndtr

TINY = float(jnp.finfo(jnp.float32).tiny)
# Degrees in the score and in the deviation 1 / sqrt(concentration). They leave an error of 5e-7 of
# `_standardised_root`, which is about a third of the score: float32 holds no more.
SCORE_DEGREE, DEVIATION_DEGREE = 16, 16
# Normal scores of float32 end at 5.4. A score x is bent to x / sqrt(x^2 + 30): that needs half of
# the degree, for Phi is zero near 1.9 + 2.8i, where the quantile is singular.
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
      Scores are off by 1e-6 to 1e-5, and by no less than float32's rounding of the sample.
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
    sample = _quantile(score, jnp.where(below_one, concentration + 1, concentration))
    # Not of 1 - U, for U comes closer to zero than to one.
    uniform = jax.random.uniform(boost_key, score.shape, score.dtype, minval=TINY)
    boost = jnp.exp(jnp.log(uniform) / jnp.where(below_one, concentration, 1.0))
    # A tiny concentration underflows to zero.
    sample = jnp.maximum(jnp.where(below_one, sample * boost, sample), TINY)
    return jnp.where(jnp.isfinite(concentration) & (concentration > 0), sample, jnp.nan)


def _quantile(score: Float[Array, "*B"], concentration: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """The Gamma's quantile at the probability Phi(score), of concentrations >= 1."""
    deviation = jax.lax.rsqrt(concentration)
    series = _chebyshev(2 * deviation - 1, DEVIATION_DEGREE)
    # All draws of a datum share these. XLA computes a product once, where it would make sums again
    # for each of them; in full precision on every device.
    table = jnp.asarray(_TABLE, concentration.dtype)
    coefficients = jnp.tensordot(table, series, 1, precision=jax.lax.Precision.HIGHEST)
    score = jnp.clip(score, -LARGEST_SCORE, LARGEST_SCORE)
    bent = score * jax.lax.rsqrt(score**2 + BEND) / LARGEST_BENT
    standardised_root = coefficients[SCORE_DEGREE]
    for power in reversed(range(SCORE_DEGREE)):
        standardised_root = standardised_root * bent + coefficients[power]
    return concentration * jnp.maximum(1 + deviation * standardised_root, 0.0) ** 3


def _chebyshev(variable: Float[Array, "*B"], degree: int) -> Float[Array, "degrees *B"]:
    """Chebyshev's polynomials T_0 to T_degree of a variable in [-1, 1]."""
    series = [jnp.ones_like(variable), variable]
    while len(series) <= degree:
        series.append(2 * variable * series[-1] - series[-2])
    return jnp.stack(series)


def _standardised_root(score: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """((z / a)^(1/3) - 1) sqrt(a), of the quantile z: smooth, and score / 3 as a grows."""
    concentration = deviation**-2
    below = gammaincinv(concentration, ndtr(score))
    above = gammainccinv(concentration, ndtr(-score))
    quantile = np.where(score < 0, below, above)
    return (np.cbrt(quantile / concentration) - 1) / deviation


def _interpolate() -> np.ndarray:
    """Coefficients [power of the bent score, Chebyshev's polynomial of 2 deviation - 1]."""
    score_nodes = chebyshev.chebpts1(SCORE_DEGREE + 1)
    deviation_nodes = chebyshev.chebpts1(DEVIATION_DEGREE + 1)
    bent = LARGEST_BENT * score_nodes[:, None]
    score = bent * np.sqrt(BEND / (1 - bent**2))
    values = _standardised_root(score, (deviation_nodes + 1) / 2)
    by_score = np.linalg.solve(np.vander(score_nodes, increasing=True), values)
    return np.linalg.solve(chebyshev.chebvander(deviation_nodes, DEVIATION_DEGREE), by_score.T).T


_TABLE = _interpolate()
