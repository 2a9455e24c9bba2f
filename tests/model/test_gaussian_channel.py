"""The posterior of a noisy observation against integrals by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfcx

from jvsc.model.gaussian_channel import laplacian_slab, scaled_tail


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
