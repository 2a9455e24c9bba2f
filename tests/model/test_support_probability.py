"""The closed-form probability of a non-zero is the frequency among draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_a_gamma_threshold_under_laplacian_noise_has_its_own_closed_form():
    """E exp(-t / b) for t ~ Gamma(c, r) is (r b / (1 + r b))^c."""
    posterior = build_posterior("thresholded_laplacian_gamma")
    heads = heads_of(posterior)
    concentration, rate = jnp.exp(heads["log_concentration"]), jnp.exp(heads["log_rate"])
    scaled = rate * jnp.exp(heads["log_scale"])
    expected = (scaled / (1 + scaled)) ** concentration
    np.testing.assert_allclose(posterior.support_probability(heads), expected, rtol=1e-4)


@pytest.mark.parametrize("method", ["thresholded_laplacian", "spike_and_slab"])
def test_at_the_prior_the_probability_is_the_wanted_sparsity(method):
    posterior = build_posterior(method)
    heads = {name: jnp.full(K, value) for name, value in posterior.prior.items()}
    wanted = 0.1 if method == "spike_and_slab" else np.exp(-2.5)
    np.testing.assert_allclose(posterior.support_probability(heads), wanted, rtol=1e-5)
