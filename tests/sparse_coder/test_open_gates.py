"""Fits that must not end with all latents off."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jvsc import SparseCoder
from jvsc.model.empirical_bayes import NOISE, SMALLEST_NOISE, EmpiricalBayes
from jvsc.model.posteriors import InferredThreshold


def sparse_data(num_data=20_000, num_atoms=128, num_features=64):
    random = np.random.default_rng(0)
    atoms = random.normal(size=(num_atoms, num_features)) / math.sqrt(num_features)
    codes = random.laplace(size=(num_data, num_atoms))
    codes *= random.random(codes.shape) < 0.05
    return (codes @ atoms + 0.05 * random.normal(size=(num_data, num_features))).astype(np.float32)


@pytest.mark.slow
def test_dense_layers_open_their_gates():
    # With a wide prior, whose share the data decide, all of them closed: R2 was 0.
    data = sparse_data()
    coder = SparseCoder(128, sparsity=0.05, encoder="mlp", random_state=0).fit(data)
    assert coder.score(data) > 0.6
    assert np.mean(np.any(coder.transform(data) != 0, axis=0)) > 0.9


def test_a_controller_leaves_some_noise_where_no_latent_comes_in_use():
    rule, posterior = EmpiricalBayes(noise_variance=0.25), InferredThreshold()
    heads = {name: jnp.full((4, 8), value) for name, value in posterior.prior.items()}
    heads["gate"] -= 50.0
    numbers = rule.init(posterior)
    for step in range(2000):
        numbers = rule.update(numbers, posterior, heads, jnp.ones(4), jnp.int32(step))
    assert math.isclose(float(numbers[NOISE]), math.log(0.25 * SMALLEST_NOISE), rel_tol=1e-5)
