"""The Gamma sampler and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from statistics_of_tests import SMALLEST_P, STANDARD_ERRORS

from jvsc.kernels.gamma_sampler import sample_standard_gamma


@pytest.mark.parametrize("concentration", [0.05, 0.5, 1.0, 3.0, 40.0, 1e4])
def test_samples_follow_the_gamma_distribution(concentration):
    samples = sample_standard_gamma(jax.random.key(4), jnp.full(40_000, concentration))
    p = stats.kstest(np.asarray(samples, np.float64), stats.gamma(concentration).cdf).pvalue
    assert p > SMALLEST_P


@pytest.mark.parametrize("concentration", [0.999, 1.0])
def test_many_samples_follow_it_where_the_polynomial_is_least_exact(concentration):
    """At its end, and where a draw is the product of two."""
    samples = sample_standard_gamma(jax.random.key(10), jnp.full(8_000_000, concentration))
    edges = stats.gamma(concentration).ppf(np.linspace(0, 1, 65))
    assert stats.chisquare(np.histogram(np.asarray(samples), bins=edges)[0]).pvalue > SMALLEST_P


@pytest.mark.parametrize("concentration", [1.0, 1.3, 2.0, 5.0, 30.0, 1e3, 1e6])
def test_a_sample_is_the_quantile_of_its_score(concentration):
    key = jax.random.key(9)
    samples = np.float64(sample_standard_gamma(key, jnp.full(200_000, concentration)))
    score = np.float64(jax.random.normal(jax.random.split(key)[0], samples.shape))
    below = special.gammaincinv(concentration, special.ndtr(score))
    above = special.gammainccinv(concentration, special.ndtr(-score))
    quantile = np.where(score < 0, below, above)
    error = np.abs(samples - quantile)
    # In units of the distribution's width, but for the rounding of a float32 of the sample's size.
    width = np.minimum(quantile, np.sqrt(concentration))
    assert (error <= 1e-5 * width + 4e-7 * quantile).mean() > 0.9999
    assert (error <= 3e-4 * width + 4e-7 * quantile).all()


@pytest.mark.parametrize("concentration", [0.5, 3.0, 40.0])
def test_gradient_is_that_of_the_mean(concentration):
    """d/da E[s] = 1 and d/da E[log s] = trigamma(a)."""

    def samples(a):
        return sample_standard_gamma(jax.random.key(5), jnp.full(40_000, a))

    def mean_and_error(function):
        slopes = np.asarray(jax.jvp(lambda a: function(samples(a)), (concentration,), (1.0,))[1])
        return slopes.mean(), slopes.std() / np.sqrt(slopes.size)

    mean, error = mean_and_error(lambda s: s)
    assert abs(mean - 1.0) <= STANDARD_ERRORS * error
    mean, error = mean_and_error(jnp.log)
    assert abs(mean - special.polygamma(1, concentration)) <= STANDARD_ERRORS * error


def test_gradient_is_the_quantile_s_at_the_same_probability():
    concentration = jnp.geomspace(1.01, 1e5, 2000)
    key = jax.random.key(6)
    samples = np.float64(sample_standard_gamma(key, concentration))
    slopes = jax.grad(lambda a: sample_standard_gamma(key, a).sum())(concentration)
    exact = np.float64(concentration)
    probability = stats.gamma(exact).cdf(samples)
    step = 1e-4 * exact
    above, below = (stats.gamma(exact + side).ppf(probability) for side in (step, -step))
    np.testing.assert_allclose(slopes, (above - below) / (2 * step), rtol=1e-3)


@pytest.mark.timeout(60)
def test_a_concentration_that_is_no_number_passes_through_and_ends():
    samples = sample_standard_gamma(jax.random.key(7), jnp.array([jnp.nan, 3.0, jnp.inf, -1.0]))
    np.testing.assert_array_equal(np.isnan(samples), [True, False, True, True])
    assert samples[1] > 0


@pytest.mark.parametrize("concentration", [1e-6, 1e-3, 1e6])
def test_extreme_concentrations_give_positive_samples_and_finite_gradients(concentration):
    concentrations = jnp.full(1000, concentration)
    samples = sample_standard_gamma(jax.random.key(8), concentrations)
    slopes = jax.grad(lambda a: sample_standard_gamma(jax.random.key(8), a).sum())(concentrations)
    assert (samples > 0).all()
    assert jnp.isfinite(slopes).all()
