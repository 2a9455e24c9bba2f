"""Bounds and consistency of a model against direct computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import NO_STATISTICS, small_batch, small_model

from jvsc.evaluation.posterior_draws import make_best_of_draws, make_bound, make_consistency
from jvsc.model.networks import Encoder, Generator
from jvsc.model.posteriors import Annealing, Gaussian, Unthresholded
from jvsc.model.sampling import datum_keys, draw, first_draws
from jvsc.model.variational import Variational

NUM_FEATURES, VARIANCE, KL_WEIGHT = 3, 0.5, 0.1


def linear_gaussian(loc_scale: float, log_variance: float) -> Variational:
    """Z ~ N(0, v0), x = z + noise: its posterior and likelihood are known."""
    encoder = Encoder(
        lambda key: ({}, {}),
        lambda p, s, data, training, generative: (
            {"loc": loc_scale * data, "log_variance": jnp.full_like(data, log_variance)},
            s,
        ),
    )
    generator = Generator(lambda key: ({}, {}), lambda p, s, codes, training: (codes, s))
    posterior = Unthresholded(Gaussian(VARIANCE))
    return Variational(generator, posterior, encoder, kl_weight=KL_WEIGHT)


def bound_of(model: Variational, data: np.ndarray, num_samples: int, chunk: int = 50):
    measure = make_bound(model, num_samples=num_samples, annealing=Annealing(), chunk=chunk)
    return measure(*model.init(jax.random.key(0)), data, jax.random.key(1))


def log_likelihood(data: np.ndarray) -> np.ndarray:
    total = VARIANCE + KL_WEIGHT * NUM_FEATURES / 2
    return -0.5 * np.sum(np.log(2 * np.pi * total) + data**2 / total, axis=1)


def test_with_the_true_posterior_every_draw_gives_the_likelihood():
    data = np.random.default_rng(0).normal(size=(20, NUM_FEATURES)).astype(np.float32)
    noise = KL_WEIGHT * NUM_FEATURES / 2
    shrink = VARIANCE / (VARIANCE + noise)
    for bound in bound_of(linear_gaussian(shrink, float(np.log(shrink * noise))), data, 3):
        np.testing.assert_allclose(bound, log_likelihood(data), rtol=1e-4)


def test_with_another_posterior_the_bound_is_below_and_closes_with_more_samples():
    data = np.random.default_rng(1).normal(size=(400, NUM_FEATURES)).astype(np.float32)
    model = linear_gaussian(0.5, float(np.log(0.3)))
    exact = log_likelihood(data).mean()
    elbo = bound_of(model, data, 1)[0].mean()
    few, many = (bound_of(model, data, count)[0].mean() for count in (10, 1000))
    assert elbo < few < many < exact + 0.01
    assert exact - many < 0.05 * (exact - elbo)


def test_a_bound_does_not_depend_on_the_chunk():
    data = np.random.default_rng(2).normal(size=(23, NUM_FEATURES)).astype(np.float32)
    model = linear_gaussian(0.5, -1.0)
    for one, other in zip(bound_of(model, data, 5, 23), bound_of(model, data, 5, 10), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(("method", "least"), [("gaussian", 1.0), ("thresholded_laplacian", 0.0)])
def test_consistency_is_that_of_the_supports(method, least):
    model = small_model(method)
    parameters, statistics = model.init(jax.random.key(0))
    data = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    measure = make_consistency(model, num_draws=5, annealing=Annealing(), chunk=10)
    (found,) = measure(parameters, statistics, data, jax.random.key(1))
    assert found.shape == (30,)
    # A code without threshold has no zeros.
    assert found.min() >= least
    assert least == 1.0 or 0 < found.mean() < 1


def test_atoms_of_small_norm_do_not_count():
    model = small_model()
    parameters, statistics = model.init(jax.random.key(0))
    tiny = parameters._replace(generator=0.05 * parameters.generator)
    measure = make_consistency(model, num_draws=5, annealing=Annealing(), chunk=10)
    data = np.ones((10, 16), np.float32)
    (found,) = measure(tiny, statistics, data, jax.random.key(1))
    assert found.tolist() == [1.0] * 10  # nothing is left, so all supports are alike


@pytest.mark.parametrize("num_draws", [1, 7])
def test_the_best_of_draws_is_the_least_objective_among_them(num_draws):
    model = small_model()
    parameters, data = small_batch(model)
    statistics, key, penalty = NO_STATISTICS, jax.random.key(3), 0.5
    measure = make_best_of_draws(
        model, num_draws=num_draws, annealing=Annealing(), penalty=penalty, chunk=4
    )
    (found,) = measure(parameters, statistics, np.asarray(data), key)
    heads, _ = model.heads(parameters, statistics, data)
    posterior = model.posterior
    numbers = first_draws(num_draws, len(data))
    codes = draw(posterior.sample, datum_keys(key, len(data)), heads, numbers, Annealing())
    residual = data - codes @ parameters.generator
    objectives = 0.5 * jnp.sum(residual**2, -1) + penalty * jnp.sum(jnp.abs(codes), -1)
    np.testing.assert_allclose(found, objectives.min(axis=0), rtol=1e-5)
