"""The Gamma sampler and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from statistics_of_tests import SMALLEST_P, STANDARD_ERRORS

from jvsc.kernels.gamma_sampler import TINY, sample_standard_gamma, standard_gamma_quantile


@pytest.mark.parametrize("concentration", [0.2, 0.5, 1.0, 3.0, 40.0, 1e4])
def test_samples_follow_the_gamma_distribution(concentration):
    samples = sample_standard_gamma(jax.random.key(4), jnp.full(40_000, concentration))
    p = stats.kstest(np.asarray(samples, np.float64), stats.gamma(concentration).cdf).pvalue
    assert p > SMALLEST_P


def exact_quantile(score, concentration):
    below = special.gammaincinv(concentration, special.ndtr(score))
    return np.where(score < 0, below, special.gammainccinv(concentration, special.ndtr(-score)))


def exact_slope(score, concentration):
    """The quantile's derivative in the concentration."""
    step = 1e-4 * concentration
    above = exact_quantile(score, concentration + step)
    return (above - exact_quantile(score, concentration - step)) / (2 * step)


@pytest.mark.parametrize("concentration", [1.0, 1.001, 1.03, 1.2, 2.0, 5.0, 30.0, 1e3, 1e6])
def test_quantiles_and_their_slopes_agree_with_scipy(concentration):
    """At all scores that float32 has."""
    scores = jnp.linspace(-5.42, 5.24, 20_001)
    concentrations = jnp.full(scores.shape, concentration)
    quantiles, slopes = jax.jvp(
        lambda a: standard_gamma_quantile(scores, a),
        (concentrations,),
        (jnp.ones_like(concentrations),),
    )
    score, exact = np.float64(scores), float(concentrations[0])
    expected = exact_quantile(score, exact)
    change = exact_quantile(score + 1e-4, exact) - exact_quantile(score - 1e-4, exact)
    by_score = change / 2e-4
    usual = np.abs(score) < 4
    error = np.abs(quantiles - expected) - 4e-7 * expected
    assert (error[usual] <= 6e-6 * by_score[usual]).all()
    assert (error <= 1e-4 * by_score).all()
    expected_slopes = exact_slope(score, exact)
    np.testing.assert_allclose(slopes[usual], expected_slopes[usual], rtol=4e-5)
    np.testing.assert_allclose(slopes, expected_slopes, rtol=2e-3)


def test_below_one_a_draw_is_one_of_the_next_concentration_times_a_power():
    """And its slope is that of both."""
    key, concentration, shape = jax.random.key(9), 0.4, (1000,)
    score_key, boost_key = jax.random.split(key)
    score = np.float64(jax.random.normal(score_key, shape))
    log_uniform = -np.float64(jax.random.exponential(boost_key, shape))
    of_next = exact_quantile(score, 1 + concentration)
    power = np.exp(log_uniform / concentration)
    samples, slopes = jax.jvp(
        lambda a: sample_standard_gamma(key, a),
        (jnp.full(shape, concentration),),
        (jnp.ones(shape),),
    )
    np.testing.assert_allclose(samples, of_next * power, rtol=5e-5)
    slope_of_next = exact_slope(score, 1 + concentration)
    expected = power * (slope_of_next - of_next * log_uniform / concentration**2)
    np.testing.assert_allclose(slopes, expected, rtol=5e-5)


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


@pytest.mark.timeout(60)
def test_a_concentration_that_is_no_number_passes_through_and_ends():
    samples = sample_standard_gamma(jax.random.key(7), jnp.array([jnp.nan, 3.0, jnp.inf, -1.0]))
    np.testing.assert_array_equal(np.isnan(samples), [True, False, True, True])
    assert samples[1] > 0


@pytest.mark.parametrize("concentration", [1e-6, 1e-3, 0.05, 1e6])
def test_samples_below_the_smallest_number_are_that_and_gradients_finite(concentration):
    num_samples = 100_000
    concentrations = jnp.full(num_samples, concentration)
    samples = sample_standard_gamma(jax.random.key(8), concentrations)
    slopes = jax.grad(lambda a: sample_standard_gamma(jax.random.key(8), a).sum())(concentrations)
    assert jnp.isfinite(slopes).all()
    assert (samples >= TINY).all()
    num_smallest = int((samples == TINY).sum())
    share = special.gammainc(concentration, TINY)
    assert stats.binomtest(num_smallest, num_samples, share).pvalue > SMALLEST_P
