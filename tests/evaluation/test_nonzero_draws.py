"""Draws of non-zeros alone against the distribution that they are to have, and the best of them."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import small_config
from scipy import stats
from statistics_of_tests import SMALLEST_P, STANDARD_ERRORS

from jvsc.errors import UserError
from jvsc.evaluation.inference import inference_key
from jvsc.evaluation.nonzero_draws import (
    best_of_nonzeros,
    blocked,
    hazards,
    make_nonzero_infer_chunk,
)
from jvsc.kernels.nonzero_draws import draw_nonzeros
from jvsc.model.posteriors import Laplacian
from jvsc.runs.factories import build_model
from jvsc.runs.factories.models import build_infer

THRESHOLD, LARGEST, NUM_DRAWS = 0.25, 13.8155, 20_000


def hazards_of(scale):
    """Of Laplacian noise of these scales."""
    tail = Laplacian().tail(THRESHOLD, {"log_scale": jnp.log(scale)})
    return np.asarray(hazards(tail))


def posterior(num_latents=40):
    """Locations, and scales under which a latent is in use from nearly never to nearly always."""
    loc = np.linspace(-1, 1, num_latents, dtype=np.float32)
    scale = np.geomspace(0.04, 2.0, num_latents).astype(np.float32)
    return loc, scale, hazards_of(scale)


def all_draws(loc, scale, hazard, seed, num_draws):
    """Every draw as a dense code, [J, K], and where it is not zero."""
    starts = np.empty(num_draws + 1, np.int64)
    places = np.empty(400 * num_draws, np.uint32)
    values = np.empty(400 * num_draws, np.float32)
    draw_nonzeros(
        loc, scale, hazard, np.float32(THRESHOLD), np.float32(LARGEST), np.uint64(seed),
        starts, places, values,
    )  # fmt: skip
    codes = np.zeros((num_draws, len(loc)), np.float32)
    on = np.zeros(codes.shape, bool)
    draws = np.repeat(np.arange(num_draws), np.diff(starts))
    used = places[: starts[-1]]
    assert not on[draws, used].any()
    on[draws, used] = True
    assert on.sum() == len(used)  # no latent twice in a draw
    codes[draws, used] = values[: starts[-1]]
    return codes, on


@pytest.fixture(scope="module")
def drawn():
    loc, scale, hazard = posterior()
    codes, on = all_draws(loc, scale, hazard, 7, NUM_DRAWS)
    return loc, scale, codes, on


def test_hazards_are_those_of_the_tail():
    scale = np.float32([1e-3, 0.01, 0.1, 0.3, 1.0, 10.0, 1e30])
    ratio = THRESHOLD / scale.astype(float)
    expected = np.where(ratio < LARGEST, np.minimum(-np.log(-np.expm1(-ratio)), 30), 0)
    np.testing.assert_allclose(hazards_of(scale), expected, rtol=1e-5)


def test_latents_are_in_use_as_often_as_the_posterior_says(drawn):
    """40 latents: a right sampler fails for 4e-5 of the seeds."""
    _, scale, _, on = drawn
    expected = np.exp(-THRESHOLD / scale.astype(float))
    deviation = np.sqrt(expected * (1 - expected) / NUM_DRAWS)
    assert (np.abs(on.mean(axis=0) - expected) < STANDARD_ERRORS * deviation).all()


def test_latents_and_draws_are_independent(drawn):
    """Correlations of independent ones have a deviation of 1 / sqrt(draws).

    They are 1,820: a right sampler fails for 2e-3 of the seeds.
    """
    on = drawn[3].astype(float)
    latents = np.corrcoef(on.T)[np.triu_indices(on.shape[1], 1)]
    following = np.corrcoef(on[1:].T, on[:-1].T)[: on.shape[1], on.shape[1] :]
    limit = STANDARD_ERRORS / np.sqrt(NUM_DRAWS)
    # Latents that are hardly ever in use have no normal correlation.
    common = (on.mean(axis=0) > 0.02) & (on.mean(axis=0) < 0.98)
    pairs = np.triu(np.outer(common, common), 1)[np.triu_indices(on.shape[1], 1)]
    assert np.abs(latents[pairs > 0]).max() < limit
    assert np.abs(following[np.outer(common, common)]).max() < limit


def test_beyond_the_threshold_the_noise_is_laplacian(drawn):
    """Kolmogorov and Smirnov's test of 30,000 sizes, and that of the signs."""
    loc, scale, codes, on = drawn
    draw, latent = np.nonzero(on[:, ::3])
    latent = 3 * latent
    noise = (codes[draw, latent] - loc[latent]) / scale[latent]
    chosen = np.random.default_rng(0).permutation(len(noise))[:30_000]
    assert stats.kstest(np.abs(noise[chosen]), stats.expon.cdf).pvalue > SMALLEST_P
    assert stats.binomtest(int((noise > 0).sum()), len(noise)).pvalue > SMALLEST_P


def test_the_noise_has_the_largest_size_of_the_dense_draws():
    loc, scale = np.zeros(1, np.float32), np.full(1, 0.02, np.float32)
    hazard = np.full(1, 30, np.float32)
    codes, on = all_draws(loc, scale, hazard, 3, 20_000)
    assert on.all()
    # The threshold is 12.5 scales: a fourth of the sizes beyond it are past 13.8.
    largest = LARGEST * 0.02 - THRESHOLD
    np.testing.assert_allclose(np.abs(codes).max(), largest, rtol=1e-4)
    assert np.mean(np.abs(codes) > 0.999 * largest) == pytest.approx(np.exp(-1.3155), abs=0.02)


@pytest.mark.parametrize(("width", "num_samples"), [(3, 1), (64, 5), (100, 20)])
def test_the_draw_of_the_least_error_is_chosen(width, num_samples):
    loc, scale, hazard = posterior()
    random = np.random.default_rng(width)
    dictionary = random.normal(size=(len(loc), width)).astype(np.float32)
    data = 3 * random.normal(size=(300, width)).astype(np.float32)
    seeds = random.integers(0, 2**32, (300, 2)).astype(np.uint32)
    heads = (np.tile(values, (300, 1)) for values in (loc, scale, hazard))
    codes = best_of_nonzeros(data, blocked(dictionary), *heads, THRESHOLD, seeds, num_samples)
    for datum, code, (high, low) in zip(data, codes, seeds, strict=True):
        draws, _ = all_draws(loc, scale, hazard, (int(high) << 32) | int(low), num_samples)
        errors = ((datum - draws.astype(float) @ dictionary) ** 2).sum(axis=1)
        mine = ((datum - code.astype(float) @ dictionary) ** 2).sum()
        assert mine == pytest.approx(errors.min(), rel=1e-5)
        assert (draws == code).all(axis=1).any()


@pytest.mark.parametrize(("size", "in_use"), [(1e-3, 0.0), (1e30, 1.0)])
def test_latents_are_never_or_always_in_use_at_the_extremes(size, in_use):
    scale = np.full((4, 6), size, np.float32)
    codes = best_of_nonzeros(
        np.ones((4, 3), np.float32), blocked(np.ones((6, 3), np.float32)), scale, scale,
        hazards_of(scale), THRESHOLD,
        np.zeros((4, 2), np.uint32), 5,
    )  # fmt: skip
    assert np.mean(codes != 0) == in_use


def test_posteriors_that_are_no_number_are_told():
    ones = np.ones((1, 2), np.float32)
    with pytest.raises(UserError, match="not finite"):
        best_of_nonzeros(
            ones, blocked(ones.T @ ones), np.nan * ones, ones, ones, 0.1,
            np.zeros((1, 2), np.uint32), 2,
        )  # fmt: skip


def test_an_evaluation_can_draw_non_zeros_alone():
    """2,000 data's mean error and share of non-zeros are those of dense draws."""
    config = small_config(
        eval__only_nonzeros=True, eval__chunk=300, num_samples=4, encoder__start_at_prior=True
    )
    dense = small_config(eval__chunk=300, num_samples=4, encoder__start_at_prior=True)
    model = build_model(config, 9)
    variables = model.init(jax.random.key(0))
    data = np.random.default_rng(0).normal(size=(2000, 9)).astype(np.float32)
    found, expected = (
        build_infer(settings, model)(*variables, data, inference_key(0))
        for settings in (config, dense)
    )
    for one, other in (
        (found.squared_error, expected.squared_error),
        (found.codes != 0, expected.codes != 0),
    ):
        deviation = np.hypot(one.std(), other.std()) / np.sqrt(one.size)
        assert abs(one.mean() - other.mean()) <= STANDARD_ERRORS * deviation
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-5)
    # A datum's draws follow from its place, not from the chunk.
    encode = make_nonzero_infer_chunk(model, config.hyperparameters().threshold)
    some, kl, _ = encode(*variables, jnp.asarray(data[500:520]), inference_key(0), 500)
    np.testing.assert_allclose(some, found.codes[500:520], atol=1e-6)
    np.testing.assert_allclose(kl, found.kl[500:520], rtol=1e-5, atol=1e-6)


def test_other_methods_and_generators_are_refused():
    for changes in ({"method": "laplacian", "threshold": None}, {"data__name": "fashion_mnist"}):
        with pytest.raises(UserError, match="leave it out"):
            small_config(eval__only_nonzeros=True, **changes)


def test_without_numba_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jvsc.kernels.nonzero_draws", None)
    config = small_config()
    with pytest.raises(UserError, match=r"pip install 'jvsc\[numba\]'"):
        make_nonzero_infer_chunk(build_model(config, 9), 0.1)
