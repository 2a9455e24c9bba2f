"""Closed-form moments and the exact bound, against draws, quadrature and plain formulas."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import NO_STATISTICS, B, D, K, small_batch, small_model
from scipy import stats

from jvsc.model.methods import VARIATIONAL_METHODS, build_posterior
from jvsc.model.posteriors import Annealing, InferredThreshold
from jvsc.model.sampling import datum_keys, draw, first_draws

WITH_MOMENTS = [name for name in VARIATIONAL_METHODS if build_posterior(name).has_moments]
NUM_DRAWS = 20_000
KEY = jax.random.key(11)


def some_heads(posterior, seed=0):
    """Heads of 40 latents around the prior's, so that every term matters."""
    keys = jax.random.split(jax.random.key(seed), len(posterior.prior))
    return {
        name: value + 0.7 * jax.random.normal(key, (40,))
        for key, (name, value) in zip(keys, posterior.prior.items(), strict=True)
    }


@pytest.mark.parametrize("warmup", [1.0, 0.4])
@pytest.mark.parametrize("method", WITH_MOMENTS)
def test_moments_are_those_of_draws(method, warmup):
    """Of 80 z-scores of means and squares one passes 5 by chance once in 20,000 keys."""
    posterior, annealing = build_posterior(method), Annealing(warmup, 0.5)
    heads = some_heads(posterior)
    keys = jax.random.split(KEY, NUM_DRAWS)
    codes = np.asarray(jax.vmap(lambda key: posterior.sample(key, heads, annealing))(keys), float)
    mean, variance = (np.asarray(part, float) for part in posterior.moments(heads, annealing))
    # Of latents that are hardly ever drawn the deviation is not known from the draws.
    seen = np.sum(codes != 0, axis=0) > 200
    assert seen.sum() >= 5
    for found, expected in ((codes, mean), (codes**2, variance + mean**2)):
        error = found.std(axis=0)[seen] / np.sqrt(NUM_DRAWS)
        assert np.abs((found.mean(axis=0) - expected)[seen] / error).max() < 5


@pytest.mark.parametrize("method", ["thresholded_gaussian", "thresholded_laplacian"])
def test_excess_squares_are_those_of_quadrature(method):
    base = build_posterior(method).base
    heads, size = some_heads(base), 0.3
    noise = np.linspace(size, 60, 2_000_001)
    found = base.excess_square(size, heads)
    for k in range(5):
        if method == "thresholded_gaussian":
            density = stats.norm(scale=float(jnp.exp(heads["log_variance"][k] / 2))).pdf(noise)
        else:
            density = stats.laplace(scale=float(jnp.exp(heads["log_scale"][k]))).pdf(noise)
        expected = 2 * np.trapezoid((noise - size) ** 2 * density, noise)
        np.testing.assert_allclose(found[k], expected, rtol=1e-3, atol=1e-7)


def test_gamma_thresholds_have_no_moments_and_say_so():
    posterior = build_posterior("thresholded_laplacian_gamma")
    assert not posterior.has_moments
    with pytest.raises(ValueError, match="sample it"):
        posterior.moments(some_heads(posterior), Annealing())


@pytest.mark.parametrize("method", WITH_MOMENTS)
def test_the_exact_loss_is_the_mean_of_many_draws(method):
    """The mean of 4,000 draws of ten data deviates by 5 standard errors once in a million keys."""
    model = replace(small_model(method), sampling="exact", kl_weight=0.02)
    parameters, data = small_batch(model)
    exact = model.bound(parameters, NO_STATISTICS, data, KEY, Annealing())[1][0]
    heads, _ = model.heads(parameters, NO_STATISTICS, data)
    codes = draw(
        model.posterior.sample, datum_keys(KEY, B), heads, first_draws(4000, B), Annealing()
    )
    errors = np.asarray(jnp.mean((data - codes @ parameters.generator) ** 2, axis=(1, 2)), float)
    assert abs(errors.mean() - float(exact.mse)) < 5 * errors.std() / np.sqrt(len(errors))
    kl = float(jnp.mean(jnp.sum(model.posterior.kl(heads), axis=-1)))
    np.testing.assert_allclose(exact.loss, float(exact.mse) + 0.02 * kl, rtol=1e-5)


@pytest.mark.parametrize("method", ["gaussian", "laplacian"])
def test_its_gradient_is_the_mean_gradient_where_draws_are_unbiased(method):
    """Draws without a threshold are differentiated exactly, so their mean gradient converges."""
    model = replace(small_model(method), kl_weight=0.02)
    parameters, data = small_batch(model)

    def gradient(model, key):
        loss = lambda p: model.bound(p, NO_STATISTICS, data, key, Annealing())  # noqa: E731
        return jax.grad(loss, has_aux=True)(parameters)[0]

    exact = gradient(replace(model, sampling="exact"), KEY)
    many = replace(model, sampling="avg", num_samples=50)
    draws = jax.jit(jax.vmap(lambda key: gradient(many, key)))(jax.random.split(KEY, 200))

    def compare(one, other):
        one, other = np.asarray(one, float), np.asarray(other, float)
        error = other.std(axis=0) / np.sqrt(len(other)) + 1e-6
        # Thousands of parameters: 6 standard errors are passed by chance once in 100,000 keys.
        assert np.abs((other.mean(axis=0) - one) / error).max() < 6

    jax.tree.map(compare, exact, draws)


def test_the_dictionary_descends_the_expected_half_squared_norm():
    """d/dA E 0.5 ||x - s A||^2 = m^T (m A - x) + diag(sum of variances) A, means over the data."""
    model = replace(small_model("thresholded_laplacian"), sampling="exact")
    parameters, data = small_batch(model)
    gradient = jax.grad(
        lambda p: model.bound(p, NO_STATISTICS, data, KEY, Annealing()), has_aux=True
    )(parameters)[0]
    heads, _ = model.heads(parameters, NO_STATISTICS, data)
    mean, variance = model.posterior.moments(heads, Annealing())
    dictionary = parameters.generator
    expected = mean.T @ (mean @ dictionary - data) / B + variance.mean(0)[:, None] * dictionary
    np.testing.assert_allclose(gradient.generator, expected, rtol=1e-4, atol=1e-5)
    assert data.shape == (B, D)
    assert dictionary.shape == (K, D)


def test_an_inferred_threshold_gives_the_gates_probability_and_a_laplacian_slab():
    """Proposition 3.1: share of zeros within 5 standard errors, and a KS test at p > 1e-4."""
    posterior = InferredThreshold()
    gates = jnp.array([-2.0, 0.0, 3.0])
    heads = {"loc": jnp.full(3, 0.7), "log_scale": jnp.full(3, -1.0), "gate": gates}
    keys = jax.random.split(KEY, NUM_DRAWS)
    codes = np.asarray(jax.vmap(lambda key: posterior.sample(key, heads, Annealing()))(keys))
    for latent, gate in enumerate(np.asarray(gates)):
        probability = 1 / (1 + np.exp(-gate))
        error = np.sqrt(probability * (1 - probability) / NUM_DRAWS)
        nonzeros = codes[codes[:, latent] != 0, latent]
        assert abs(len(nonzeros) / NUM_DRAWS - probability) < 5 * error
        assert stats.kstest(nonzeros, stats.laplace(0.7, np.exp(-1.0)).cdf).pvalue > 1e-4
    code = posterior.deterministic_code(heads)
    np.testing.assert_array_equal(code, np.float32([0, 0, 0.7]))


def test_its_divergence_is_the_mean_log_ratio_of_what_is_drawn():
    """Within 5 standard errors of 20,000 draws for each of 40 latents."""
    posterior = InferredThreshold(0.8, 0.1)
    heads = some_heads(posterior)
    keys = jax.random.split(KEY, NUM_DRAWS)
    _, ratios = jax.vmap(lambda key: posterior.sample_and_log_ratio(key, heads, Annealing()))(keys)
    ratios = np.asarray(ratios, float)
    error = ratios.std(axis=0) / np.sqrt(NUM_DRAWS)
    assert np.abs((-ratios.mean(axis=0) - np.asarray(posterior.kl(heads))) / error).max() < 5
    at_prior = {name: jnp.full((1, 1), value) for name, value in posterior.prior.items()}
    np.testing.assert_allclose(posterior.kl(at_prior), 0, atol=1e-6)
