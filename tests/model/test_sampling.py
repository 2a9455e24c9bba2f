"""J samples: drawing them, weighing them, and choosing one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import small_model
from scipy import stats

from jvsc.model.methods import build_posterior
from jvsc.model.objective import squared_error
from jvsc.model.posteriors import Annealing
from jvsc.model.sampling import (
    SAMPLINGS,
    by_importance,
    choose,
    combine,
    datum_keys,
    draw,
    first_draws,
    weights,
)

FINAL = Annealing()
POSTERIOR = build_posterior("thresholded_laplacian")
HEADS = {
    "loc": 0.3 * jax.random.normal(jax.random.key(0), (6, 9)),
    "log_scale": jnp.full((6, 9), -1.5),
}
TARGET = jax.random.normal(jax.random.key(1), (6, 9))


def distance(codes):
    return jnp.sum((codes - TARGET) ** 2, axis=-1)


def all_draws(num_samples):
    keys = datum_keys(jax.random.key(2), 6)
    return draw(POSTERIOR.sample, keys, HEADS, first_draws(num_samples, 6), FINAL)


def test_a_draw_does_not_depend_on_its_batch():
    """Keys belong to places in the batch: any split over chunks or devices samples the same."""
    key = jax.random.key(2)
    whole = all_draws(5)
    for first, last in ((0, 2), (2, 6)):
        part = draw(
            POSTERIOR.sample,
            datum_keys(key, last - first, first),
            {name: head[first:last] for name, head in HEADS.items()},
            first_draws(5, last - first),
            FINAL,
        )
        np.testing.assert_array_equal(part, whole[:, first:last])


def test_draws_and_data_are_independent():
    codes = np.asarray(
        draw(
            build_posterior("gaussian").sample,
            datum_keys(jax.random.key(3), 40),
            {"loc": jnp.zeros((40, 50)), "log_variance": jnp.zeros((40, 50))},
            first_draws(30, 40),
            FINAL,
        )
    ).reshape(1200, 50)
    correlation = np.corrcoef(codes) - np.eye(1200)
    # 719,400 pairs of 50 independent normals: |r| beyond 0.75 has probability 1e-5 in all.
    assert np.abs(correlation).max() < 0.85


@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 20, 50])
def test_the_chosen_draw_is_the_one_of_lowest_loss_in_any_chunking(chunk):
    losses = distance(all_draws(20))
    chosen = choose(
        POSTERIOR.sample, distance, datum_keys(jax.random.key(2), 6), HEADS, 20, FINAL, chunk
    )
    np.testing.assert_array_equal(chosen, jnp.argmin(losses, axis=0))


def test_a_draw_with_a_loss_that_is_no_number_is_not_chosen():
    def loss(codes):
        losses = distance(codes)
        return losses.at[jnp.argmin(losses, axis=0), jnp.arange(6)].set(jnp.nan)

    keys = datum_keys(jax.random.key(2), 6)
    chosen = choose(POSTERIOR.sample, loss, keys, HEADS, 20, FINAL)
    second_best = jnp.argsort(distance(all_draws(20)), axis=0)[1]
    np.testing.assert_array_equal(chosen, second_best)


def test_choosing_passes_no_gradient():
    def total(loc):
        heads = HEADS | {"loc": loc}
        keys = datum_keys(jax.random.key(2), 6)
        return choose(POSTERIOR.sample, distance, keys, heads, 5, FINAL).astype(float).sum()

    np.testing.assert_array_equal(jax.grad(total)(HEADS["loc"]), 0.0)


LOSSES = jnp.array([[1.0, 5.0], [2.0, 0.5], [4.0, 0.6]])


def test_max_takes_the_lowest_loss():
    np.testing.assert_allclose(combine(LOSSES, "max"), [1.0, 0.5])
    np.testing.assert_allclose(weights(LOSSES, "max"), [[1, 0], [0, 1], [0, 0]])


def test_avg_takes_the_mean():
    np.testing.assert_allclose(combine(LOSSES, "avg"), LOSSES.mean(0))
    np.testing.assert_allclose(weights(LOSSES, "avg"), jnp.full((3, 2), 1 / 3), rtol=1e-6)


def test_iwae_is_minus_the_log_mean_likelihood_with_softmax_weights():
    expected = -np.log(np.exp(-np.asarray(LOSSES, np.float64)).mean(0))
    np.testing.assert_allclose(combine(LOSSES, "iwae"), expected, rtol=1e-6)
    np.testing.assert_allclose(weights(LOSSES, "iwae"), jax.nn.softmax(-LOSSES, axis=0), rtol=1e-5)


def test_iwae_bound_lies_between_max_and_avg():
    assert (combine(LOSSES, "iwae") <= combine(LOSSES, "avg")).all()
    assert (combine(LOSSES, "iwae") >= combine(LOSSES, "max")).all()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_one_sample_makes_all_rules_the_same(sampling):
    np.testing.assert_allclose(combine(LOSSES[:1], sampling), LOSSES[0], rtol=1e-6)
    np.testing.assert_allclose(weights(LOSSES[:1], sampling), jnp.ones((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_weights_have_no_gradient(sampling):
    gradient = jax.grad(lambda losses: (weights(losses, sampling) * LOSSES).sum())(LOSSES)
    np.testing.assert_array_equal(gradient, 0.0)


def test_draws_are_chosen_as_often_as_their_importance_weighs():
    """A chi-squared test of 20,000 choices among four draws, at a level of 1e-4."""
    losses = jnp.broadcast_to(jnp.array([0.3, 1.1, 0.0, 2.5])[:, None], (4, 20_000))
    chosen = by_importance(datum_keys(jax.random.key(5), 20_000))(losses)
    expected = 20_000 * np.asarray(weights(losses, "iwae")[:, 0], np.float64)
    counts = np.bincount(chosen, minlength=4)
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4


def test_a_draw_without_a_loss_is_not_chosen():
    losses = jnp.full((3, 50), jnp.nan).at[1].set(9.0)
    assert (by_importance(datum_keys(jax.random.key(5), 50))(losses) == 1).all()


@pytest.mark.parametrize("sampling", ["max", "avg", "iwae", "exact"])
def test_codes_are_inferred_as_draws_counted_in_training(sampling):
    """Their mean loss is the least of J, the mean of J, or the importance-weighted mean."""
    model = replace(small_model(), num_samples=3, sampling=sampling, kl_weight=0.0)
    parameters, statistics = model.init(jax.random.key(0))
    parameters = parameters._replace(generator=2 * parameters.generator)
    data = jnp.broadcast_to(jax.random.normal(jax.random.key(4), (16,)), (20_000, 16))
    keys = datum_keys(jax.random.key(7), len(data))

    def errors(codes):
        return squared_error(data, model.generate(parameters, statistics, codes)[0])

    heads, _ = model.heads(parameters, statistics, data)
    drawn = draw(model.posterior.sample, keys, heads, first_draws(3, len(data)), FINAL)
    losses = errors(drawn)
    expected = jnp.sum(weights(losses, sampling) * losses, axis=0)
    found = errors(model.infer(parameters, statistics, data, keys).codes)
    difference = np.asarray(found - expected, np.float64)
    # Five standard errors: 6e-7.
    assert abs(difference.mean()) <= 5 * difference.std() / np.sqrt(len(data)) + 1e-6
    if sampling == "max":
        np.testing.assert_array_equal(found, losses.min(axis=0))
    if sampling in ("avg", "exact"):
        np.testing.assert_allclose(found, losses[0], rtol=1e-5)
