"""Encoders that read the dictionary, on data whose codes are known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvsc.errors import UserError
from jvsc.model.networks import (
    LinearGenerativeModel,
    linear_encoder,
    message_passing_encoder,
    unrolled_encoder,
)
from jvsc.model.posteriors import InferredThreshold

D, K, N, SHARE = 64, 128, 4000, 0.05
PRIOR = InferredThreshold().prior


class Known(NamedTuple):
    """Data, where their codes are not zero, and the model that made them."""

    data: np.ndarray
    support: np.ndarray
    generative: LinearGenerativeModel


@pytest.fixture(scope="module")
def known():
    """Laplacian codes of scale 1 and noise of a tenth of the signal's variance."""
    random = np.random.default_rng(0)
    atoms = random.normal(size=(K, D))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    support = random.random((N, K)) < SHARE
    signal = (support * random.laplace(size=(N, K))) @ atoms
    variance = 0.1 * signal.var()
    data = signal + np.sqrt(variance) * random.normal(size=(N, D))
    odds = np.log(SHARE) - np.log1p(-SHARE)
    numbers = (atoms, variance, 1.0, odds)
    generative = LinearGenerativeModel(*(jnp.asarray(x, jnp.float32) for x in numbers))
    return Known(jnp.asarray(data, jnp.float32), support, generative)


def heads_of(encoder, known):
    parameters, statistics = encoder.init(jax.random.key(0))
    return encoder.apply(parameters, statistics, known.data, False, known.generative)[0]


def calibration_error(probability, truth, bins=15):
    """Expected calibration error in equal bins."""
    places = np.minimum((probability * bins).astype(int), bins - 1)
    sums = [np.bincount(places, values, bins) for values in (probability, truth)]
    return np.abs(sums[0] - sums[1]).sum() / len(probability)


def test_message_passing_is_calibrated_under_the_true_model(known):
    """Half a million pairs: the error's own deviation is below 0.001."""
    heads = heads_of(message_passing_encoder(K, PRIOR, 8), known)
    probability = np.asarray(jax.nn.sigmoid(heads["gate"]), float)
    assert calibration_error(probability.ravel(), known.support.ravel()) < 0.003
    doubtful = probability > 0.02
    assert calibration_error(probability[doubtful], known.support[doubtful]) < 0.01
    chosen = probability > 0.5
    assert known.support[chosen].mean() > 0.93
    assert chosen[known.support].mean() > 0.58


def test_message_passing_is_the_same_inference_whatever_the_norms_of_atoms(known):
    """Codes are over the norms by which atoms are longer, and probabilities the same."""
    norms = jnp.asarray(np.random.default_rng(1).uniform(0.3, 3.0, K), jnp.float32)
    longer = known.generative.dictionary * norms[:, None]
    heads = heads_of(message_passing_encoder(K, PRIOR, 8), known)
    # Each latent's own prior: the same codes are worth the same.
    scales = known.generative.prior_scale / norms
    other = known._replace(
        generative=known.generative._replace(dictionary=longer, prior_scale=scales)
    )
    found = heads_of(message_passing_encoder(K, PRIOR, 8), other)
    np.testing.assert_allclose(found["loc"] * norms, heads["loc"], atol=2e-3)
    np.testing.assert_allclose(found["log_scale"] + jnp.log(norms), heads["log_scale"], atol=2e-3)
    np.testing.assert_allclose(found["gate"], heads["gate"], rtol=2e-3, atol=2e-3)


def test_more_steps_of_the_unrolled_encoder_explain_more_before_any_training(known):
    errors = []
    for steps in (1, 3, 10):
        heads = heads_of(unrolled_encoder(D, K, PRIOR, steps), known)
        code = jax.nn.sigmoid(heads["gate"]) * heads["loc"]
        residual = known.data - code @ known.generative.dictionary
        errors.append(float(jnp.mean(residual**2)))
    assert errors[0] > errors[1] > errors[2]


def test_coherent_atoms_do_not_make_it_diverge(known):
    """All atoms nearly alike: without a limit ten steps would multiply codes by thousands."""
    alike = known.generative.dictionary[:1] + 0.1 * known.generative.dictionary
    alike /= jnp.linalg.norm(alike, axis=1, keepdims=True)
    coherent = known._replace(generative=known.generative._replace(dictionary=alike))
    loc = heads_of(unrolled_encoder(D, K, PRIOR, 10), coherent)["loc"]
    assert float(jnp.max(jnp.abs(loc))) <= float(jnp.max(jnp.linalg.norm(known.data, axis=1)))


def test_encoders_do_not_train_the_dictionary_they_read(known):
    encoder = linear_encoder(D, K, PRIOR)
    parameters, _ = encoder.init(jax.random.key(0))
    assert set(heads_of(encoder, known)) == set(PRIOR)
    np.testing.assert_allclose(jnp.linalg.norm(parameters["loc_kernel"], axis=0), 1, atol=0.4)


def test_mistakes_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"encoder\.steps is 0"):
        unrolled_encoder(D, K, PRIOR, 0)
    with pytest.raises(UserError, match="for method=inferred_threshold"):
        message_passing_encoder(K, {"loc": 0.0, "log_scale": 0.0})


def test_steps_along_a_direction_that_atoms_share_do_not_diverge():
    # Without shortening the codes ten steps left 570 and 920 times what the data have.
    random = np.random.default_rng(0)
    shared = random.normal(size=32)
    atoms = (shared + 0.5 * random.normal(size=(256, 32))).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    data = jnp.float32(random.laplace(size=(64, 1)) * shared + random.normal(size=(64, 32)))
    prior = {"loc": 0.0, "gate": -3.0, "log_scale": 0.0}
    model = LinearGenerativeModel(
        jnp.asarray(atoms), jnp.float32(0.1), jnp.float32(1.0), jnp.float32(-3.0)
    )
    for num_atoms in (256, 64):  # without the Gram matrix, and with it
        encoder = unrolled_encoder(32, num_atoms, prior)
        parameters, statistics = encoder.init(jax.random.key(0))
        some = model._replace(dictionary=model.dictionary[:num_atoms])
        heads, _ = encoder.apply(parameters, statistics, data, True, some)
        codes = jax.nn.sigmoid(heads["gate"]) * heads["loc"]
        left = jnp.sum((data - codes @ some.dictionary) ** 2) / jnp.sum(data**2)
        assert left < 20
