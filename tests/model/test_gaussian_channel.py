"""The posterior of a noisy observation against integrals by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfcx

from jvsc.model.gaussian_channel import laplacian_slab, scaled_tail, spike_and_slab


def by_quadrature(observed, deviation, scale):
    """Log evidence ratio, mean and variance by a fine sum over s in float64."""
    width = max(deviation, scale)
    s = observed / 2 + np.linspace(-40 * width - abs(observed), 40 * width + abs(observed), 800_001)
    log_density = -0.5 * ((observed - s) / deviation) ** 2 - np.abs(s) / scale
    peak = log_density.max()
    weights = np.exp(log_density - peak)
    step = s[1] - s[0]
    log_slab = peak + np.log(weights.sum() * step) - np.log(2 * scale)
    log_spike = -0.5 * (observed / deviation) ** 2
    mean = np.average(s, weights=weights)
    return log_slab - log_spike, mean, np.average((s - mean) ** 2, weights=weights)


@pytest.mark.parametrize("observed", [0.0, 0.3, -1.0, 2.0, -7.0, 30.0])
@pytest.mark.parametrize(("deviation", "scale"), [(1.0, 1.0), (0.3, 2.0), (1.5, 0.4), (0.1, 5.0)])
def test_evidence_mean_and_variance_are_those_of_quadrature(observed, deviation, scale):
    found = laplacian_slab(jnp.float32(observed), jnp.float32(deviation**2), jnp.float32(scale))
    expected = by_quadrature(observed, deviation, scale)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5 * deviation)
    np.testing.assert_allclose(found[2], expected[2], rtol=3e-3)


def test_scaled_tails_of_the_normal_distribution_keep_their_digits():
    values = np.array([0.0, 0.1, 1.0, 5.0, 30.0, 1e3, 1e5])
    expected = erfcx(values / np.sqrt(2)) / 2
    np.testing.assert_allclose(scaled_tail(jnp.float32(values)), expected, rtol=2e-6)


def test_gradients_are_finite_for_the_largest_and_the_smallest_observations():
    values = jnp.float32([0.0, 1e-20, 1e-3, 1.0, 1e3, 1e5])
    for place in range(3):
        slope = jax.vmap(
            jax.grad(lambda c, i=place: laplacian_slab(c, jnp.float32(0.5), jnp.float32(1.0))[i])
        )(values)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("observed", [0.2, -1.0, 4.0, -20.0])
@pytest.mark.parametrize(("deviation", "scale"), [(1.0, 1.0), (0.3, 2.0), (1.5, 0.4)])
def test_closed_derivatives_are_those_of_quadrature(observed, deviation, scale):
    place = (observed, deviation**2, scale)
    for number in range(3):
        step = 1e-4 * abs(place[number])
        above, below = ([*place] for _ in range(2))
        above[number] += step
        below[number] -= step
        expected = np.subtract(
            by_quadrature(above[0], above[1] ** 0.5, above[2]),
            by_quadrature(below[0], below[1] ** 0.5, below[2]),
        ) / (2 * step)
        direction = tuple(jnp.float32(number == i) for i in range(3))
        _, found = jax.jvp(laplacian_slab, tuple(map(jnp.float32, place)), direction)
        np.testing.assert_allclose(found, expected, rtol=3e-3, atol=2e-4)


@pytest.mark.parametrize("observed", [0.2, 1.0, 7.0])
@pytest.mark.parametrize("ratio", [20.0, 45.0])
def test_a_slab_much_narrower_than_the_noise_keeps_its_variance_and_its_derivatives(
    observed, ratio
):
    place = (observed, 1.0, 1 / ratio)
    found = laplacian_slab(*map(jnp.float32, place))
    expected = by_quadrature(*place)
    np.testing.assert_allclose(found[1], expected[1], rtol=0.01)
    np.testing.assert_allclose(found[2], expected[2], rtol=0.03)
    for number in (0, 2):
        step = 1e-3 * place[number]
        above, below = ([*place] for _ in range(2))
        above[number] += step
        below[number] -= step
        slopes = np.subtract(by_quadrature(*above), by_quadrature(*below)) / (2 * step)
        direction = tuple(jnp.float32(number == i) for i in range(3))
        _, found = jax.jvp(laplacian_slab, tuple(map(jnp.float32, place)), direction)
        np.testing.assert_allclose(found[1], slopes[1], rtol=0.03)
        np.testing.assert_allclose(found[2], slopes[2], rtol=0.07, atol=1e-6)


def test_the_probability_is_the_sigmoid_of_the_evidence_with_its_gradient():
    observed = jnp.linspace(-30, 30, 101, dtype=jnp.float32)
    odds = jnp.float32(-3.0)

    def by_log_odds(noise_variance, scale, odds):
        log_odds, mean, variance = laplacian_slab(observed, noise_variance, scale)
        return jax.nn.sigmoid(log_odds + odds), mean, variance

    def by_ratio(noise_variance, scale, odds):
        return spike_and_slab(observed, noise_variance, scale, odds)

    values = (jnp.float32(0.7), jnp.float32(0.5), odds)
    for found, expected in zip(by_ratio(*values), by_log_odds(*values), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    slopes = jax.jacobian(by_ratio, (0, 1, 2))(*values)
    expected_slopes = jax.jacobian(by_log_odds, (0, 1, 2))(*values)
    for found, expected in zip(
        jax.tree.leaves(slopes), jax.tree.leaves(expected_slopes), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_prior_odds_may_differ_between_latents():
    odds = jnp.float32([-3.0, 0.0, 2.0])
    found, _, _ = spike_and_slab(jnp.ones((2, 3)), jnp.float32(0.5), jnp.float32(1.0), odds)
    for place in range(3):
        alone, _, _ = spike_and_slab(jnp.ones(1), jnp.float32(0.5), jnp.float32(1.0), odds[place])
        np.testing.assert_allclose(found[:, place], alone[0], rtol=1e-6)
