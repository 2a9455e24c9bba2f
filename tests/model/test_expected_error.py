"""The error of a code under any generator, and what noise of its posterior's variance changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvsc.model.expected_error import charged_squared_error, expected_squared_error
from jvsc.model.networks import Generator, mlp_encoder
from jvsc.model.posteriors import Annealing, InferredThreshold
from jvsc.model.sampling import datum_keys
from jvsc.model.variational import Variational

B, K, D, DRAWS = 3, 5, 7, 40_000
KEYS = jax.random.split(jax.random.key(0), 5)
DATA = jax.random.normal(KEYS[0], (B, D))
MEAN = jax.random.normal(KEYS[1], (B, K))
VARIANCE = jax.random.uniform(KEYS[2], (B, K))
DICTIONARY = jax.random.normal(KEYS[3], (K, D))


def linear(codes):
    return codes @ DICTIONARY, "statistics"


def of_many_draws(function):
    """What `function` gives for each of many keys."""
    return jax.lax.map(function, jax.random.split(KEYS[4], DRAWS), batch_size=1000)


def mean_error(arguments, key):
    mean, variance, dictionary = arguments
    generate = lambda codes: (codes @ dictionary, None)  # noqa: E731
    errors, _ = charged_squared_error(generate, DATA, mean, variance, mean, datum_keys(key, B))
    return jnp.mean(errors)


def exact_error(arguments):
    mean, variance, dictionary = arguments
    return jnp.mean(expected_squared_error(DATA, mean @ dictionary, variance, dictionary))


ARGUMENTS = (MEAN, VARIANCE, DICTIONARY)


@pytest.mark.parametrize("differentiate", [False, True])
def test_of_a_dictionary_and_the_mean_the_expectation_is_the_exact_one(differentiate):
    """And so is its gradient. Five standard errors of 1 or 65 numbers, and float32's rounding.

    Were it right and normal it would fail for one of 34,000 keys. The mean's gradient has no noise.
    """
    drawn, exact = mean_error, exact_error
    if differentiate:
        drawn, exact = jax.grad(mean_error), jax.grad(exact_error)
    values = jax.tree.leaves(of_many_draws(lambda key: drawn(ARGUMENTS, key)))
    for value, right in zip(values, jax.tree.leaves(exact(ARGUMENTS)), strict=True):
        standard_error = np.std(value, axis=0) / DRAWS**0.5
        distance = np.abs(np.mean(value, axis=0) - right)
        assert (distance < 5 * standard_error + 1e-5 * np.max(np.abs(right))).all()


def test_the_code_that_users_get_is_generated_and_its_gradient_is_the_means():
    code = jnp.where(MEAN > 0, 2 * MEAN, 0.0)
    keys = datum_keys(KEYS[4], B)

    def loss(mean, code):
        return charged_squared_error(linear, DATA, mean, 0 * VARIANCE, code, keys)[0].sum()

    by_mean, by_code = jax.grad(loss, argnums=(0, 1))(MEAN, code)
    of_code, moved = (made @ DICTIONARY for made in (code, MEAN))
    expected = jnp.mean((DATA - of_code) ** 2 + (moved - of_code) ** 2, axis=1).sum()
    assert loss(MEAN, code) == pytest.approx(float(expected), rel=1e-5)
    assert not by_code.any()
    # What the noisy code adds to it cancels where the generator is linear.
    np.testing.assert_allclose(by_mean, -2 * (DATA - of_code) @ DICTIONARY.T / D, atol=1e-4)
    _, statistics = charged_squared_error(linear, DATA, MEAN, VARIANCE, code, keys)
    assert statistics == "statistics"


def test_without_variance_it_is_the_error_of_the_code_and_has_a_finite_gradient():
    keys = datum_keys(KEYS[4], B)

    def loss(mean, variance):
        return charged_squared_error(linear, DATA, mean, variance, mean, keys)[0].sum()

    plain = jnp.mean((DATA - MEAN @ DICTIONARY) ** 2, axis=1).sum()
    assert loss(MEAN, 0 * VARIANCE) == pytest.approx(float(plain), rel=1e-5)
    gradients = jax.grad(loss, argnums=(0, 1))(MEAN, 0 * VARIANCE)
    assert all(bool(jnp.isfinite(gradient).all()) for gradient in gradients)


def test_a_generator_gains_nothing_from_noise():
    """One that makes the datum of any noise, but nothing of a code without, is charged for it."""
    mean = jnp.zeros((B, K))
    keys = datum_keys(KEYS[4], B)

    def magic(codes):
        noisy = jnp.any(codes != 0, axis=-1, keepdims=True)
        return jnp.where(noisy, DATA, 0.0), None

    error, _ = charged_squared_error(magic, DATA, mean, VARIANCE, mean, keys)
    np.testing.assert_allclose(error, 2 * jnp.mean(DATA**2, axis=1), rtol=1e-6)


@pytest.mark.parametrize("code", ["deterministic", "best_draw"])
def test_training_by_moments_descends_the_error_of_a_deterministic_code_or_of_the_mean(code):
    def generate(parameters, statistics, codes, training):
        del training
        return jnp.tanh(codes @ parameters), statistics

    posterior = InferredThreshold(0.5, 0.3)
    model = Variational(
        generator=Generator(lambda key: (DICTIONARY, {}), generate),
        posterior=posterior,
        encoder=mlp_encoder(D, K, posterior.heads, (8,)),
        sampling="moments",
        kl_weight=0.1,
        code=code,
    )
    parameters, statistics = model.init(jax.random.key(3))
    key = jax.random.key(4)
    loss, (metrics, _) = model.bound(parameters, statistics, DATA, key, Annealing(), 7)
    heads, _ = model.heads(parameters, statistics, DATA)
    mean, variance = posterior.moments(heads, Annealing())
    chosen = posterior.deterministic_code(heads) if code == "deterministic" else mean
    noise = [jax.random.normal(jax.random.fold_in(key, 7 + place), (K,)) for place in range(B)]
    images, moved = (
        jnp.tanh(made @ DICTIONARY) for made in (chosen, mean + variance**0.5 * jnp.stack(noise))
    )
    errors = jnp.mean((DATA - images) ** 2 + (moved - images) ** 2, axis=1)
    expected = jnp.mean(errors + 0.1 * jnp.sum(posterior.kl(heads), axis=1))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(metrics.mse) == pytest.approx(float(errors.mean()), rel=1e-5)
