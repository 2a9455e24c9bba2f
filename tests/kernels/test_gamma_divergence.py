"""The Gamma distributions' divergence and its gradient."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from jvsc.kernels.gamma_divergence import gamma_kl, trigamma

CONCENTRATIONS = jnp.geomspace(1e-3, 100.0, 301)
PRIOR = (3.0, 12.0)


def test_trigamma_agrees_with_scipy_to_float32():
    a = np.geomspace(1e-6, 1e6, 2001).astype(np.float32)
    np.testing.assert_allclose(trigamma(jnp.asarray(a)), special.polygamma(1, a), rtol=1e-6)


def test_divergence_and_gradient_agree_with_distrax():
    def theirs(concentration, rate):
        return distrax.Gamma(concentration, rate).kl_divergence(distrax.Gamma(*PRIOR))

    def ours(concentration, rate):
        return gamma_kl(concentration, rate, *PRIOR)

    arguments = (CONCENTRATIONS, 5.0 * CONCENTRATIONS**0.5)
    np.testing.assert_allclose(ours(*arguments), theirs(*arguments), rtol=1e-5, atol=1e-4)
    gradients = [
        jax.grad(lambda *pair, kl=kl: kl(*pair).sum(), argnums=(0, 1))(*arguments)
        for kl in (ours, theirs)
    ]
    for mine, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-4)


def test_divergence_from_itself_is_zero():
    np.testing.assert_allclose(gamma_kl(jnp.float32(3.0), jnp.float32(12.0), *PRIOR), 0, atol=1e-6)
