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
    batch_topk,
    jump_relu_l0,
    matryoshka,
    relu_l1,
    topk,
)
from jvsc.model.autoencoders.batch_topk import largest_of_batch
from jvsc.model.autoencoders.jump_relu import jump_relu, step_function
from jvsc.model.autoencoders.matryoshka import nested_sizes
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
    np.testing.assert_allclose(autoencoder.infer(parameters, statistics, data), codes, atol=1e-5)
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


def largest_of_all(pre, count):
    """The `count` largest of a matrix, by sorting; zero where negative."""
    codes = np.zeros_like(pre)
    for place in np.argsort(-pre, axis=None)[:count]:
        codes.flat[place] = max(pre.flat[place], 0)
    return codes


def batch_topk_check(autoencoder, errors_of):
    """The loss of a batch with dead latents, and the code of the threshold it leaves."""
    parameters, statistics = some_parameters(autoencoder)
    W, c, A, b = in_numpy(parameters)
    data = some_data()
    pre = (data - b) @ W + c
    codes = largest_of_all(pre, B * ACTIVE)
    assert len(set((codes != 0).sum(1))) > 1
    dead = np.arange(K) % 3 == 0
    revived = largest(np.where(dead, pre, -np.inf), 5)
    residual = data - codes @ A - b
    losses = errors_of(data, codes, A, b) + ((residual - revived @ A) ** 2).sum(1) / 32
    start = statistics.encoder | {"silent_steps": jnp.where(dead, 3, 2).astype(jnp.int32)}
    found, found_codes, moved = autoencoder.loss(
        parameters, Statistics(start, {}), jnp.asarray(data), jnp.float32(0)
    )
    np.testing.assert_allclose(found_codes, codes, atol=1e-5)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    active = (codes != 0).any(0)
    np.testing.assert_array_equal(
        moved.encoder["silent_steps"], np.where(active, 0, start["silent_steps"] + 1)
    )
    # The first batch's smallest code is where the moving average begins.
    smallest = codes[codes > 0].min()
    assert moved.encoder["threshold"] == pytest.approx(smallest, rel=1e-5)
    coded = autoencoder.infer(parameters, moved, jnp.asarray(data))
    np.testing.assert_allclose(coded, np.where(pre > smallest * 1.00001, pre, 0), atol=1e-5)
    other = some_data(6)
    _, _, after = autoencoder.loss(parameters, moved, jnp.asarray(other), jnp.float32(0))
    second = largest_of_all((other - b) @ W + c, B * ACTIVE)
    expected = 0.99 * smallest + 0.01 * second[second > 0].min()
    assert after.encoder["threshold"] == pytest.approx(expected, rel=1e-5)


def test_batch_topk_is_the_published_loss():
    autoencoder = batch_topk(D, K, ACTIVE, auxiliary_active=5, dead_after=3)
    batch_topk_check(autoencoder, lambda x, s, A, b: ((x - s @ A - b) ** 2).sum(1))


def test_matryoshka_is_the_published_sum_over_nested_dictionaries():
    prefixes = (0.1, 0.5, 1.0)
    autoencoder = matryoshka(D, K, prefixes, active=ACTIVE, auxiliary_active=5, dead_after=3)

    def errors_of(x, s, A, b):
        return sum(((x - s[:, :m] @ A[:m] - b) ** 2).sum(1) for m in (3, 15, 30))

    batch_topk_check(autoencoder, errors_of)


def test_nested_dictionaries_rise_up_to_all_latents():
    published = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)
    assert nested_sizes(65_536, published) == (2048, 6144, 14_336, 30_720, 65_536)
    assert nested_sizes(5, published) == (1, 2, 5)
    assert nested_sizes(8, (0.5,)) == (4, 8)


def test_the_largest_of_a_batch_are_those_of_sorting():
    """Also where fewer are positive, and in numbers of every size."""
    random = np.random.default_rng(0)
    values = random.normal(size=(20, 30)) * 10.0 ** random.integers(-30, 30, (20, 30))
    values = values.astype(np.float32)
    for count in (1, 7, 250, 600):
        found = largest_of_batch(jnp.asarray(values), count)
        np.testing.assert_array_equal(found, largest_of_all(values, count))
    np.testing.assert_array_equal(largest_of_batch(jnp.zeros((2, 3)), 2), np.zeros((2, 3)))


def test_jump_relus_target_is_the_published_penalty():
    autoencoder = jump_relu_l0(D, K, bandwidth=0.1, initial_threshold=0.2, target_active=4)
    plain = jump_relu_l0(D, K, bandwidth=0.1, initial_threshold=0.2)
    parameters, statistics = some_parameters(autoencoder)
    data, penalty = jnp.asarray(some_data()), jnp.float32(PENALTY)
    found, codes, _ = autoencoder.loss(parameters, statistics, data, penalty)
    unpenalised, _, _ = plain.loss(parameters, statistics, data, jnp.float32(0))
    mean = np.count_nonzero(codes, axis=1).mean()
    np.testing.assert_allclose(found, unpenalised + PENALTY * (mean / 4 - 1) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: topk(D, 8, active=9), "active is 9; give 1 to 8"),
        (lambda: batch_topk(D, 8, active=0), "active is 0; give 1 to 8"),
        (lambda: matryoshka(D, 8, (0.5, 1.5), active=2), "prefixes are"),
        (lambda: jump_relu_l0(D, 8, initial_threshold=0.0), "initial_threshold 0.0; give positive"),
    ],
)
def test_what_an_autoencoder_cannot_be_made_of_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


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
    if method in ("batch_topk", "matryoshka"):
        assert 3.5 < metrics["l0"][0] < 6.5


def test_an_autoencoder_is_refused_where_it_does_not_apply():
    with pytest.raises(UserError, match="topk does not apply to data"):
        small_config(method="topk", threshold=None, data__name="fashion_mnist")
    with pytest.raises(UserError, match="is 32 but num_latents only 24"):
        small_config(method="topk", threshold=None)
    with pytest.raises(UserError, match="threshold does not apply to relu_l1"):
        small_config(method="relu_l1")
