"""Sparse autoencoders against a second implementation in NumPy, and their training."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import small_config

from jvsc.errors import UserError
from jvsc.model.autoencoders import (
    AUTOENCODERS,
    jump_relu_l0,
    relu_l1,
    topk,
)
from jvsc.model.autoencoders.jump_relu import jump_relu, step_function
from jvsc.model.autoencoders.topk import keep_largest
from jvsc.model.parameters import Parameters, Statistics
from jvsc.runs.evaluate import evaluate_run
from jvsc.runs.train import train
from jvsc.training.unit_atoms import with_unit_atoms

D, K, B, ACTIVE = 9, 30, 7, 4
PENALTY = 0.7


def some_parameters(autoencoder, seed=0):
    """Parameters away from their start, so that no term vanishes."""
    parameters, statistics = autoencoder.init(jax.random.key(seed))
    keys = jax.random.split(jax.random.key(seed + 1), len(jax.tree.leaves(parameters)))
    leaves, structure = jax.tree.flatten(parameters)
    moved = [
        leaf + 0.3 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, moved), statistics


def in_numpy(parameters):
    """W, c, A, b in float64."""
    encoder, generator = parameters.encoder, parameters.generator
    arrays = (encoder["kernel"], encoder["bias"], generator["dictionary"], generator["bias"])
    return [np.asarray(array, np.float64) for array in arrays]


def some_data(seed=5):
    return np.random.default_rng(seed).normal(size=(B, D)).astype(np.float32)


def largest(pre, count):
    """The `count` largest of each row, by sorting; zero where negative."""
    codes = np.zeros_like(pre)
    for row, order in enumerate(np.argsort(-pre, axis=1)):
        for k in order[:count]:
            codes[row, k] = max(pre[row, k], 0)
    return codes


def check(autoencoder, parameters, statistics, codes, losses):
    data = jnp.asarray(some_data())
    found, found_codes, moved = autoencoder.loss(parameters, statistics, data, jnp.float32(PENALTY))
    np.testing.assert_allclose(found_codes, codes, atol=1e-5)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    np.testing.assert_allclose(autoencoder.infer(parameters, data), codes, atol=1e-5)
    return moved


def test_relu_l1_is_the_published_loss():
    autoencoder = relu_l1(D, K)
    parameters, statistics = some_parameters(autoencoder)
    W, c, A, b = in_numpy(parameters)
    data = some_data()
    codes = np.maximum((data - b) @ W + c, 0)
    losses = ((data - codes @ A - b) ** 2).sum(1) + PENALTY * np.abs(codes).sum(1)
    check(autoencoder, parameters, statistics, codes, losses)


def test_topk_is_the_published_loss_with_and_without_dead_latents():
    autoencoder = topk(D, K, ACTIVE, auxiliary_active=5, auxiliary_weight=1 / 32, dead_after=3)
    parameters, statistics = some_parameters(autoencoder)
    W, c, A, b = in_numpy(parameters)
    data = some_data()
    pre = (data - b) @ W + c
    codes = largest(pre, ACTIVE)
    error = data - codes @ A - b
    losses = (error**2).sum(1)
    moved = check(autoencoder, parameters, statistics, codes, losses)
    active = (codes != 0).any(0)
    np.testing.assert_array_equal(moved.encoder["silent_steps"], np.where(active, 0, 1))

    dead = np.zeros(K, bool)
    dead[::3] = True
    silent = jnp.where(dead, 3, 2).astype(jnp.int32)
    revived = largest(np.where(dead, pre, -np.inf), 5)
    assert (revived != 0).any()
    auxiliary = ((error - revived @ A) ** 2).sum(1)
    moved = check(
        autoencoder,
        parameters,
        Statistics({"silent_steps": silent}, {}),
        codes,
        losses + auxiliary / 32,
    )
    np.testing.assert_array_equal(moved.encoder["silent_steps"], np.where(active, 0, silent + 1))


def test_the_auxiliary_loss_teaches_dead_latents_only():
    weight = 0.25
    with_aux = topk(D, K, ACTIVE, 5, weight, dead_after=3)
    without = topk(D, K, ACTIVE, 5, 0.0, dead_after=3)
    parameters, _ = some_parameters(with_aux)
    dead = np.arange(K) % 3 == 0
    statistics = Statistics({"silent_steps": jnp.where(dead, 3, 0).astype(jnp.int32)}, {})

    def gradient(autoencoder):
        def loss(parameters):
            data = jnp.asarray(some_data())
            return autoencoder.loss(parameters, statistics, data, jnp.float32(0))[0].mean()

        return jax.grad(loss)(parameters)

    one, other = gradient(with_aux), gradient(without)
    difference = np.abs(one.generator["dictionary"] - other.generator["dictionary"]).max(axis=1)
    assert difference[~dead].max() < 1e-6
    assert difference[dead].max() > 1e-3
    kernel = np.abs(one.encoder["kernel"] - other.encoder["kernel"]).max(axis=0)
    assert kernel[~dead].max() < 1e-6


def test_no_more_than_k_are_kept_even_where_they_are_equal():
    np.testing.assert_array_equal(keep_largest(jnp.ones((2, 5)), 3).sum(axis=1), [3, 3])
    np.testing.assert_array_equal(keep_largest(-jnp.ones((2, 5)), 3), np.zeros((2, 5)))


def test_jump_relu_is_the_published_loss():
    autoencoder = jump_relu_l0(D, K, bandwidth=0.1, initial_threshold=0.2)
    parameters, statistics = some_parameters(autoencoder)
    W, c, A, b = in_numpy(parameters)
    threshold = np.exp(np.asarray(parameters.encoder["log_threshold"], np.float64))
    data = some_data()
    pre = (data - b) @ W + c
    codes = np.where(pre > threshold, pre, 0)
    losses = ((data - codes @ A - b) ** 2).sum(1) + PENALTY * (codes != 0).sum(1)
    check(autoencoder, parameters, statistics, codes, losses)


def test_jump_relus_pseudo_derivatives_are_the_published_ones():
    """Against the formulas in NumPy, for upstream gradients of any size."""
    random = np.random.default_rng(0)
    bandwidth = 0.5
    pre = random.normal(size=(200, K))
    threshold = random.uniform(0.2, 1.0, K)
    upstream = random.normal(size=(200, K))
    inside = (np.abs(pre - threshold) < bandwidth / 2).astype(float)
    assert inside.any()
    expected = {
        jump_relu: (upstream * (pre > threshold), -(threshold / bandwidth) * inside * upstream),
        step_function: (np.zeros_like(pre), -inside / bandwidth * upstream),
    }
    for function, (to_pre, to_threshold) in expected.items():
        arguments = (jnp.asarray(pre, jnp.float32), jnp.asarray(threshold, jnp.float32))
        _, pull = jax.vjp(lambda *a, function=function: function(*a, bandwidth), *arguments)
        found_pre, found_threshold = pull(jnp.asarray(upstream, jnp.float32))
        np.testing.assert_allclose(found_pre, to_pre, atol=1e-6)
        np.testing.assert_allclose(found_threshold, to_threshold.sum(0), atol=1e-4)


def test_jump_relu_begins_at_the_threshold_for_data_of_mean_squared_norm_d():
    parameters, _ = jump_relu_l0(16, K, initial_threshold=0.001).init(jax.random.key(0))
    np.testing.assert_allclose(np.exp(parameters.encoder["log_threshold"]), 0.004, rtol=1e-5)


@pytest.mark.parametrize("make", [relu_l1, jump_relu_l0, lambda d, k: topk(d, k, 3)])
def test_atoms_begin_with_norm_one_and_the_encoder_as_their_transpose(make):
    parameters, _ = make(D, K).init(jax.random.key(0))
    atoms = parameters.generator["dictionary"]
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(parameters.encoder["kernel"], atoms.T)


def test_an_optimisers_step_leaves_atoms_of_norm_one_and_nothing_along_them():
    parameters, _ = relu_l1(D, K).init(jax.random.key(0))
    optimizer = with_unit_atoms(optax.sgd(0.1))
    random = np.random.default_rng(0)
    gradient = jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), parameters
    )
    updates, _ = optimizer.update(gradient, optimizer.init(parameters), parameters)
    assert isinstance(updates, Parameters)
    atoms = np.asarray(parameters.generator["dictionary"], np.float64)
    slope = np.asarray(gradient.generator["dictionary"], np.float64)
    across = slope - (slope * atoms).sum(1, keepdims=True) * atoms
    moved = atoms - 0.1 * across
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(atoms + updates.generator["dictionary"], expected, atol=1e-6)
    np.testing.assert_allclose(
        updates.encoder["kernel"], -0.1 * gradient.encoder["kernel"], rtol=1e-6
    )


@pytest.mark.parametrize("method", AUTOENCODERS)
def test_an_autoencoder_trains_and_is_evaluated(method, tmp_path):
    config = small_config(
        method=method,
        threshold=None,
        encoder__optimizer="adam",
        encoder__learning_rate=3e-3,
        autoencoder__active=5,
        autoencoder__dead_after=100,
        autoencoder__bandwidth=0.05,
        autoencoder__initial_threshold=0.05,
    )
    state = train(config, tmp_path).state
    norms = np.linalg.norm(state.parameters.generator["dictionary"], axis=-1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    evaluate_run(config, tmp_path)
    metrics = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    assert 0.2 < metrics["explained_variance"][0] < 1
    assert math.isclose(metrics["l0"][0], 24 * metrics["nonzero_fraction"][0], rel_tol=1e-6)
    assert metrics["validation_loss"] == metrics["mse"]
    if method == "topk":
        assert 4.5 < metrics["l0"][0] <= 5


def test_an_autoencoder_is_refused_where_it_does_not_apply():
    with pytest.raises(UserError, match="topk does not apply to data"):
        small_config(method="topk", threshold=None, data__name="fashion_mnist")
    with pytest.raises(UserError, match="is 32 but num_latents only 24"):
        small_config(method="topk", threshold=None)
    with pytest.raises(UserError, match="threshold does not apply to relu_l1"):
        small_config(method="relu_l1")
