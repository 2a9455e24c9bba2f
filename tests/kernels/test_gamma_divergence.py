"""The Gamma distributions' divergence and its gradient, against SciPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jvsc.kernels.gamma_divergence import gamma_kl, trigamma

CONCENTRATIONS = np.geomspace(1e-6, 1e6, 2001).astype(np.float32)
PRIOR = (3.0, 12.0)


def test_trigamma_agrees_with_scipy():
    found = trigamma(jnp.asarray(CONCENTRATIONS))
    np.testing.assert_allclose(found, special.polygamma(1, CONCENTRATIONS), rtol=1e-6)


@pytest.mark.parametrize("mean", [0.25, 1.0, 0.01])
def test_divergence_and_gradient_agree_with_scipy(mean):
    rates = CONCENTRATIONS / np.float32(mean)
    a, b = np.float64(CONCENTRATIONS), np.float64(rates)
    a0, b0 = PRIOR
    expected = (a - a0) * special.digamma(a) - special.gammaln(a) + special.gammaln(a0)
    expected += a0 * np.log(b / b0) + a * (b0 / b - 1)
    arguments = jnp.asarray(CONCENTRATIONS), jnp.asarray(rates)
    np.testing.assert_allclose(gamma_kl(*arguments, *PRIOR), expected, rtol=1e-6, atol=2e-5)

    slopes = jax.grad(lambda *pair: gamma_kl(*pair, *PRIOR).sum(), argnums=(0, 1))(*arguments)
    by_concentration = (a - a0) * special.polygamma(1, a) + b0 / b - 1
    # The two terms that do not cancel.
    size = a0 * special.polygamma(1, a) + b0 / b
    assert (np.abs(slopes[0] - by_concentration) <= 1e-6 * size).all()
    size = a0 / b + a * b0 / b**2
    assert (np.abs(slopes[1] - (a0 / b - a * b0 / b**2)) <= 1e-6 * size).all()


def test_divergence_from_itself_is_zero():
    np.testing.assert_allclose(gamma_kl(jnp.float32(3.0), jnp.float32(12.0), *PRIOR), 0, atol=1e-6)
