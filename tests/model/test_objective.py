"""The losses that training differentiates, against plain formulas."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import NO_STATISTICS, B, D, K, small_batch, small_model

from jvsc.model.methods import VARIATIONAL_METHODS
from jvsc.model.networks import dictionary_generator
from jvsc.model.objective import (
    dictionary_objective,
    encoder_objective,
    sparse_coding_objective,
)
from jvsc.model.posteriors import Annealing
from jvsc.model.sampling import SAMPLINGS, combine, datum_keys, draw, first_draws, weights
from jvsc.model.solver_coded import SolverCoded
from jvsc.solvers import fista

ENCODERS = list(VARIATIONAL_METHODS)
ANNEALING = Annealing(0.6, 0.7)
KEY = jax.random.key(5)
KL_WEIGHT, FROBENIUS = 1e-2, 1e-4


def all_samples_losses(model, parameters, data, num_samples, sampling):
    """Encoder's and dictionary's loss differentiated through all J samples, written plainly."""
    heads = model.heads(parameters, NO_STATISTICS, data)[0]
    codes = draw(
        model.posterior.sample,
        datum_keys(KEY, B),
        heads,
        first_draws(num_samples, B),
        ANNEALING,
    )
    kl = model.posterior.kl(heads)
    losses = encoder_objective(data, codes @ parameters.generator, kl, KL_WEIGHT).total()
    reconstruction = jax.lax.stop_gradient(codes) @ parameters.generator
    terms = dictionary_objective(data, reconstruction, parameters.generator, FROBENIUS)
    share = weights(losses, sampling)
    dictionary = jnp.mean(jnp.sum(share * terms.data, 0)) + terms.norm
    return combine(losses, sampling).mean(), dictionary


# One method of each kind, and "max", which selects, with inferred thresholds too.
QUICK = ("spike_and_slab", "thresholded_laplacian")
COMBINATIONS = [
    pytest.param(
        method,
        sampling,
        marks=()
        if method in QUICK or (method, sampling) == ("thresholded_laplacian_gamma", "max")
        else pytest.mark.slow,
    )
    for method in ENCODERS
    for sampling in SAMPLINGS
]


@pytest.mark.parametrize(("method", "sampling"), COMBINATIONS)
def test_select_then_differentiate_equals_differentiating_through_all_samples(method, sampling):
    settings = {"kl_weight": KL_WEIGHT, "frobenius": FROBENIUS}
    model = replace(small_model(method), sampling=sampling, num_samples=7, **settings)
    parameters, data = small_batch(model)

    def loss(parameters):
        return model.bound(parameters, NO_STATISTICS, data, KEY, ANNEALING)

    def reference(parameters):
        return all_samples_losses(model, parameters, data, 7, sampling)

    gradient, (metrics, _) = jax.jit(jax.grad(loss, has_aux=True))(parameters)
    # Compiled, as operation by operation they take longer.
    encoder_loss, to_encoder = jax.jit(
        jax.value_and_grad(lambda e: reference(parameters._replace(encoder=e))[0])
    )(parameters.encoder)
    to_dictionary = jax.jit(jax.grad(lambda g: reference(parameters._replace(generator=g))[1]))(
        parameters.generator
    )

    np.testing.assert_allclose(metrics.loss, encoder_loss, rtol=1e-5)
    np.testing.assert_allclose(gradient.generator, to_dictionary, rtol=1e-4, atol=1e-6)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6),
        gradient.encoder,
        to_encoder,
    )


def test_dictionary_gradient_is_the_residuals_outer_product_with_the_codes():
    """d/dA of mean_b 0.5 ||x - sA||^2 + f ||A||^2 is s^T (sA - x) / B + 2 f A."""
    model = replace(small_model(), kl_weight=KL_WEIGHT, frobenius=FROBENIUS)
    parameters, data = small_batch(model)

    def loss(parameters):
        return model.bound(parameters, NO_STATISTICS, data, KEY, ANNEALING)[0]

    heads = model.heads(parameters, NO_STATISTICS, data)[0]
    codes = draw(model.posterior.sample, datum_keys(KEY, B), heads, first_draws(1, B), ANNEALING)[0]
    dictionary = parameters.generator
    expected = codes.T @ (codes @ dictionary - data) / B + 2 * FROBENIUS * dictionary
    np.testing.assert_allclose(jax.grad(loss)(parameters).generator, expected, atol=1e-6)


def test_loss_is_mean_squared_error_plus_weighted_divergence():
    model = small_model("gaussian")
    parameters, data = small_batch(model)
    heads = model.heads(parameters, NO_STATISTICS, data)[0]
    codes = draw(model.posterior.sample, datum_keys(KEY, B), heads, first_draws(1, B), ANNEALING)[0]
    error = np.mean((np.asarray(data) - np.asarray(codes @ parameters.generator)) ** 2)
    kl = np.asarray(model.posterior.kl(heads)).sum(1).mean()
    _, (metrics, _) = replace(model, kl_weight=0.3).bound(
        parameters, NO_STATISTICS, data, KEY, ANNEALING
    )
    np.testing.assert_allclose(metrics.mse, error, rtol=1e-5)
    np.testing.assert_allclose(metrics.kl, kl, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss, error + 0.3 * kl, rtol=1e-5)


def test_more_samples_never_have_a_higher_chosen_loss():
    model = small_model()
    parameters, data = small_batch(model)

    def loss(num_samples):
        more = replace(model, num_samples=num_samples)
        return more.bound(parameters, NO_STATISTICS, data, KEY, ANNEALING)[1][0].loss

    losses = [float(loss(j)) for j in (1, 5, 20)]
    assert losses[0] > losses[1] > losses[2]


def test_sparse_coding_loss_is_objective_10_and_its_gradient_takes_codes_as_given():
    def solve(parameters, statistics, data, penalty):
        return fista(data, parameters.generator, penalty, tolerance=1e-6).codes

    penalty, step = 0.8, jnp.int32(0)
    model = SolverCoded(dictionary_generator(D, K), solve, penalty, frobenius=FROBENIUS)
    parameters, data = small_batch(model)

    gradient, (metrics, _) = jax.grad(
        lambda p: model.loss(p, NO_STATISTICS, data, KEY, step, 0), has_aux=True
    )(parameters)

    codes = fista(data, parameters.generator, penalty, tolerance=1e-6).codes
    residual = codes @ parameters.generator - data
    expected = codes.T @ residual / B + 2 * FROBENIUS * parameters.generator
    np.testing.assert_allclose(gradient.generator, expected, atol=1e-5)
    objective = 0.5 * (residual**2).sum(-1).mean() + 0.8 * jnp.abs(codes).sum(-1).mean()
    np.testing.assert_allclose(metrics.loss, objective, rtol=1e-5)
    terms = sparse_coding_objective(data, codes @ parameters.generator, codes, 0.8)
    np.testing.assert_allclose(jnp.mean(terms.total()), objective, rtol=1e-5)
    np.testing.assert_allclose(metrics.mse, (residual**2).mean(), rtol=1e-5)
    assert data.shape == (B, D)
