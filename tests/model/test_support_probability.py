"""The closed-form probability of a non-zero is the frequency among draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jvsc.model.methods import METHODS, build_posterior
from jvsc.model.posteriors import Annealing

DRAWS = 20_000
K = 16
# 16 latents of 7 methods at 4.5 standard errors: together wrong with probability 8e-4.
STANDARD_ERRORS = 4.5
WITH_ZEROS = [name for name, method in METHODS.items() if method.has_sparsity]


def heads_of(posterior) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(1), len(posterior.prior))
    return {
        name: value + 0.7 * jax.random.normal(key, (K,))
        for key, (name, value) in zip(keys, posterior.prior.items(), strict=True)
    }


@pytest.mark.parametrize("method", WITH_ZEROS)
def test_support_probability_is_the_frequency_of_non_zeros(method):
    posterior = build_posterior(method)
    heads = heads_of(posterior)
    keys = jax.random.split(jax.random.key(0), DRAWS)
    codes = jax.jit(jax.vmap(lambda key: posterior.sample(key, heads, Annealing())))(keys)
    expected = np.asarray(posterior.support_probability(heads), np.float64)
    frequency = np.mean(np.asarray(codes) != 0, axis=0)
    error = np.sqrt(expected * (1 - expected) / DRAWS) + 1 / DRAWS
    assert np.all(np.abs(frequency - expected) < STANDARD_ERRORS * error)
    assert expected.min() < 0.2 < expected.max()


@pytest.mark.parametrize("method", ["gaussian", "laplacian"])
def test_a_posterior_without_threshold_is_never_zero(method):
    posterior = build_posterior(method)
    heads = heads_of(posterior)
    np.testing.assert_array_equal(posterior.support_probability(heads), np.ones(K))


CONCENTRATIONS = np.geomspace(0.05, 2e5, 40)
MEAN_THRESHOLD = 0.25


def gamma_heads(log_scale: dict[str, float]) -> dict[str, jax.Array]:
    """Thresholds of a mean of 0.25 and every concentration."""
    heads = log_scale | {
        "log_concentration": np.log(CONCENTRATIONS),
        "log_rate": np.log(CONCENTRATIONS / MEAN_THRESHOLD),
        "loc": 0.3,
    }
    return {
        name: jnp.broadcast_to(jnp.float32(value), CONCENTRATIONS.shape)
        for name, value in heads.items()
    }


@pytest.mark.parametrize("scale", [0.03, 0.1, 0.5])
def test_a_gamma_threshold_under_laplacian_noise_has_its_own_closed_form(scale):
    """E exp(-t / b) for t ~ Gamma(c, r) is (1 + 1 / (r b))^-c."""
    posterior = build_posterior("thresholded_laplacian_gamma")
    found = posterior.support_probability(gamma_heads({"log_scale": np.log(scale)}))
    ratio = MEAN_THRESHOLD / (CONCENTRATIONS * scale)
    np.testing.assert_allclose(found, np.exp(-CONCENTRATIONS * np.log1p(ratio)), rtol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_a_gamma_threshold_under_gaussian_noise_agrees_with_quantiles_of_the_threshold(scale):
    posterior = build_posterior("thresholded_gaussian_gamma")
    found = posterior.support_probability(gamma_heads({"log_variance": 2 * np.log(scale)}))
    probabilities = (np.arange(20_000) + 0.5) / 20_000
    thresholds = stats.gamma(CONCENTRATIONS[:, None]).ppf(probabilities)
    thresholds *= MEAN_THRESHOLD / CONCENTRATIONS[:, None]
    expected = 2 * stats.norm.sf(thresholds / scale).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("method", ["thresholded_laplacian", "spike_and_slab"])
def test_at_the_prior_the_probability_is_the_wanted_sparsity(method):
    posterior = build_posterior(method)
    heads = {name: jnp.full(K, value) for name, value in posterior.prior.items()}
    wanted = 0.1 if method == "spike_and_slab" else np.exp(-2.5)
    np.testing.assert_allclose(posterior.support_probability(heads), wanted, rtol=1e-5)
