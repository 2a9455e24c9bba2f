"""The shifted soft-threshold, its gradients, and the analytic thresholds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from statistics_of_tests import SMALLEST_P, assert_mean

from jvsc.errors import UserError
from jvsc.model.thresholding import shifted_soft_threshold, straight_through_threshold
from jvsc.model.thresholds import (
    FixedThreshold,
    GammaThreshold,
    gaussian_sparsity,
    gaussian_threshold,
    laplacian_sparsity,
    laplacian_threshold,
)
from jvsc.solvers.soft_threshold import soft_threshold

LOC = jnp.array([0.3, 0.3, -0.2, -0.2, 0.0])
NOISE = jnp.array([0.1, 0.6, -0.9, 0.25, -0.25])
THRESHOLD = 0.25
ACTIVE = np.array([False, True, True, False, False])


def gradients(apply):
    """Gradients of the summed codes to loc, noise and threshold, each latent's own."""
    thresholds = jnp.full_like(LOC, THRESHOLD)
    return jax.grad(lambda *a: apply(*a).sum(), argnums=(0, 1, 2))(LOC, NOISE, thresholds)


def test_soft_threshold_shrinks_towards_zero():
    np.testing.assert_allclose(
        soft_threshold(NOISE, THRESHOLD), [0.0, 0.35, -0.65, 0.0, 0.0], atol=1e-7
    )
    assert not np.signbit(soft_threshold(-NOISE, 1.0)).any()


@pytest.mark.parametrize("apply", [shifted_soft_threshold, straight_through_threshold])
def test_value_is_equation_2_and_zeros_are_exact(apply):
    codes = np.asarray(apply(LOC, NOISE, THRESHOLD))
    assert (codes[~ACTIVE] == 0.0).all()
    np.testing.assert_allclose(codes[ACTIVE], [0.3 + 0.35, -0.2 - 0.65], atol=1e-7)


def test_both_estimators_have_bit_identical_values():
    loc, noise = jax.random.normal(jax.random.key(0), (2, 10_000))
    subgradient = shifted_soft_threshold(loc, noise, 0.4)
    straight = straight_through_threshold(loc, noise, 0.4)
    np.testing.assert_array_equal(subgradient, straight)


def test_straight_through_gradient_to_loc_and_noise_is_one_for_every_latent():
    to_loc, to_noise, _ = gradients(straight_through_threshold)
    np.testing.assert_array_equal(to_loc, np.ones(5))
    np.testing.assert_array_equal(to_noise, np.ones(5))


def test_straight_through_gradient_to_a_learned_threshold_is_minus_the_sign_where_active():
    _, _, to_threshold = gradients(straight_through_threshold)
    np.testing.assert_array_equal(to_threshold, [0.0, -1.0, 1.0, 0.0, 0.0])


def test_subgradient_is_zero_for_inactive_latents():
    to_loc, to_noise, _ = gradients(shifted_soft_threshold)
    np.testing.assert_array_equal(to_loc, ACTIVE.astype(float))
    np.testing.assert_array_equal(to_noise, ACTIVE.astype(float))


@pytest.mark.parametrize(("sparsity", "expected"), [(0.1, 0.2303), (0.2, 0.1609)])
def test_laplacian_threshold_matches_the_published_values(sparsity, expected):
    assert laplacian_threshold(sparsity, 0.1) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("sparsity", "expected"), [(0.1, 0.520), (0.2, 0.405)])
def test_gaussian_threshold_matches_the_published_values(sparsity, expected):
    assert gaussian_threshold(sparsity, 0.1) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("sparsity", [0.01, 0.05, 0.1, 0.5, 0.9])
def test_analytic_thresholds_leave_the_wanted_share_of_prior_noise(sparsity):
    laplace = np.random.default_rng(1).laplace(0, 0.1, 400_000)
    assert_mean(np.abs(laplace) > laplacian_threshold(sparsity, 0.1), sparsity)
    normal = np.random.default_rng(2).normal(0, np.sqrt(0.1), 400_000)
    assert_mean(np.abs(normal) > gaussian_threshold(sparsity, 0.1), sparsity)


def test_sparsity_and_threshold_are_inverse_to_each_other():
    assert laplacian_sparsity(laplacian_threshold(0.07, 0.3), 0.3) == pytest.approx(0.07, rel=1e-5)
    assert gaussian_sparsity(gaussian_threshold(0.07, 0.3), 0.3) == pytest.approx(0.07, rel=1e-5)


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_sparsity_outside_its_range_is_refused(sparsity):
    with pytest.raises(UserError, match="sparsity"):
        laplacian_threshold(sparsity, 0.1)
    with pytest.raises(UserError, match="sparsity"):
        gaussian_threshold(sparsity, 0.1)


@pytest.mark.parametrize("value", [0.0, -0.25, float("nan")])
def test_thresholds_that_are_not_positive_are_refused(value):
    with pytest.raises(UserError, match="positive"):
        FixedThreshold(value)
    with pytest.raises(UserError, match="positive"):
        GammaThreshold(value)


def test_gamma_threshold_at_its_prior_has_the_prior_mean_and_no_divergence():
    heads = {
        "log_concentration": jnp.full(50_000, jnp.log(3.0)),
        "log_rate": jnp.full(50_000, jnp.log(3.0 / 0.25)),
    }
    threshold = GammaThreshold(mean=0.25, concentration=3.0)
    samples = np.asarray(threshold.sample(jax.random.key(3), heads))
    assert_mean(samples, 0.25)
    assert stats.kstest(samples, stats.gamma(3.0, scale=0.25 / 3.0).cdf).pvalue > SMALLEST_P
    np.testing.assert_allclose(threshold.kl(heads), 0.0, atol=1e-6)


def test_a_gamma_threshold_that_underflows_keeps_a_finite_log_ratio():
    threshold = GammaThreshold(mean=0.25, concentration=1.0)
    heads = {
        "log_concentration": jnp.full(20_000, np.log(0.05)),
        "log_rate": jnp.full(20_000, np.log(1e3)),
    }
    drawn = threshold.sample(jax.random.key(0), heads)
    assert jnp.isfinite(threshold.log_ratio(drawn, heads)).all()


def test_gamma_threshold_divergence_is_the_closed_form_times_its_weight():
    from scipy.special import digamma, gammaln

    a, b, a0, b0 = 2.0, 5.0, 3.0, 12.0
    expected = (
        (a - a0) * digamma(a)
        - gammaln(a)
        + gammaln(a0)
        + a0 * (np.log(b) - np.log(b0))
        + a * (b0 - b) / b
    )
    heads = {"log_concentration": jnp.log(jnp.array([a])), "log_rate": jnp.log(jnp.array([b]))}
    kl = GammaThreshold(mean=0.25, concentration=3.0, kl_weight=0.1).kl(heads)
    np.testing.assert_allclose(kl, [0.1 * expected], rtol=1e-5)
