"""The Gamma sampler and its implicit gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from statistics_of_tests import SMALLEST_P, STANDARD_ERRORS

from jvsc.kernels.gamma_sampler import sample_standard_gamma


@pytest.mark.parametrize("concentration", [0.05, 0.5, 1.0, 3.0, 40.0, 1e4])
def test_samples_follow_the_gamma_distribution(concentration):
    samples = sample_standard_gamma(jax.random.key(4), jnp.full(40_000, concentration))
    p = stats.kstest(np.asarray(samples, np.float64), stats.gamma(concentration).cdf).pvalue
    assert p > SMALLEST_P


def test_rejected_proposals_are_replaced_without_bias():
    """At a = 1, where most are rejected, with enough draws to see a wrong second proposal."""
    samples = sample_standard_gamma(jax.random.key(10), jnp.full(8_000_000, 1.0))
    counts = np.histogram(np.asarray(samples), bins=stats.expon.ppf(np.linspace(0, 1, 65)))[0]
    assert stats.chisquare(counts).pvalue > SMALLEST_P


@pytest.mark.parametrize("concentration", [0.5, 3.0, 40.0])
def test_implicit_gradient_is_that_of_the_mean(concentration):
    """d/da E[s] = 1 and d/da E[log s] = trigamma(a)."""
    from scipy.special import polygamma

    def samples(a):
        return sample_standard_gamma(jax.random.key(5), jnp.full(40_000, a))

    def mean_and_error(function):
        slopes = np.asarray(jax.jvp(lambda a: function(samples(a)), (concentration,), (1.0,))[1])
        return slopes.mean(), slopes.std() / np.sqrt(slopes.size)

    mean, error = mean_and_error(lambda s: s)
    assert abs(mean - 1.0) <= STANDARD_ERRORS * error
    mean, error = mean_and_error(jnp.log)
    assert abs(mean - polygamma(1, concentration)) <= STANDARD_ERRORS * error


def test_gradient_agrees_with_jax_at_the_same_samples():
    concentration = jnp.linspace(0.3, 9.0, 50)
    key = jax.random.key(6)
    samples = sample_standard_gamma(key, concentration)
    slopes = jax.grad(lambda a: sample_standard_gamma(key, a).sum())(concentration)
    step = 1e-3
    probability = stats.gamma(np.asarray(concentration, float)).cdf(np.asarray(samples, float))
    above = stats.gamma(np.asarray(concentration, float) + step).ppf(probability)
    below = stats.gamma(np.asarray(concentration, float) - step).ppf(probability)
    np.testing.assert_allclose(slopes, (above - below) / (2 * step), rtol=1e-3)


@pytest.mark.timeout(60)
def test_a_concentration_that_is_no_number_passes_through_and_ends():
    samples = sample_standard_gamma(jax.random.key(7), jnp.array([jnp.nan, 3.0, jnp.inf]))
    assert np.isnan(samples[0])
    assert np.isnan(samples[2])
    assert samples[1] > 0


def test_smallest_concentration_gives_positive_samples_and_finite_gradients():
    concentration = jnp.full(1000, 1e-6)
    samples = sample_standard_gamma(jax.random.key(8), concentration)
    slopes = jax.grad(lambda a: sample_standard_gamma(jax.random.key(8), a).sum())(concentration)
    assert (samples > 0).all()
    assert jnp.isfinite(slopes).all()
