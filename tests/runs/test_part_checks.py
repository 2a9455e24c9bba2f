"""Parts and arguments of `jvsc.train` that do not serve: one line each, before it compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import D, K
from test_own_parts import Rectified, affine_encoder, exponential_generator, matrix, own_model

import jvsc
from jvsc.data import Dataset
from jvsc.errors import DivergenceError, UserError
from jvsc.model.model import StepMetrics
from jvsc.model.networks import Encoder, Generator
from jvsc.model.posteriors import InferredThreshold
from jvsc.model.variational import Variational

X = matrix()
HOLES = np.where(np.arange(D) == 3, np.nan, X).astype(np.float32)


def refused(message, model=None, data=X, error=UserError, **arguments):
    """Training ends before its first step, in one line."""
    arguments = {"num_epochs": 1, "batch_size": 20} | arguments
    with pytest.raises(error, match=message) as told:
        jvsc.train(own_model() if model is None else model, data, **arguments)
    assert "\n" not in str(told.value)


def encoder(apply, init=lambda key: (jnp.zeros((D, K)), {})):
    return Encoder(init, apply)


def heads_of(parameters, statistics, data, training, generative):
    return {"loc": 1 + data @ parameters}, statistics


def generator(apply, **kinds):
    return Generator(lambda key: (0.1 * jax.random.normal(key, (K, D)), {}), apply, **kinds)


def posterior(**methods):
    return type("Own", (Rectified,), methods)()


class Wrapped:
    """A model of one's own around jvsc's."""

    generator = exponential_generator()

    def __init__(self, change):
        self.change = change
        self.init, self.infer = own_model().init, own_model().infer
        self.validation_loss = own_model().validation_loss

    def loss(self, *arguments):
        loss, (metrics, statistics) = own_model().loss(*arguments)
        return self.change(loss, metrics, statistics)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None.__class__, "model is the class NoneType; give a Variational"),
        ("x", "model is 'x'; give a Variational"),
        (Variational, "model is the class Variational; give"),
        (exponential_generator(), "model is a Generator; give"),
        ({"encoder": None}, "the model's encoder is None; give jvsc.model"),
        ({"generator": affine_encoder()}, "generator is a Encoder; give"),
        ({"posterior": Rectified}, "posterior is the class Rectified; give"),
        ({"sampling": "best"}, "is 'best'; give one of max, avg, iwae, exact, moments"),
        ({"sampling": "moments"}, "needs a posterior whose moments are known; give"),
        ({"sampling": "exact"}, "needs a posterior whose moments are known"),
        (
            {"sampling": "exact", "posterior": InferredThreshold()},
            "a dictionary; give sampling='moments'",
        ),
        ({"num_samples": 0}, "num_samples is 0; give a whole number of at least"),
        ({"num_samples": 2.5}, "num_samples is 2.5; give a whole number"),
        ({"num_samples": 10**12}, "num_samples and batch_size: would take .* lower them"),
    ],
)
def test_a_model_of_another_kind_is_named(model, message, without_type_checks):
    refused(message, own_model(**model) if isinstance(model, dict) else model)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (encoder(heads_of, lambda key: jnp.zeros((D, K))), "the encoder's init gives .* a pair"),
        (encoder(heads_of, lambda key: 1 / 0), "init fails .ZeroDivisionError: division by zero"),
        (encoder(heads_of, lambda key: (jnp.zeros((D, K), int), {})), "a step of 20 data fails"),
        (encoder(lambda *_: None), "apply fails .TypeError: cannot unpack"),
        (encoder(lambda p, s, x: ({"loc": x @ p}, s)), "takes 3 positional arguments but 5"),
        (encoder(lambda p, s, x, *_: (x @ p, s)), "the encoder gives the heads none, but"),
        (encoder(lambda p, s, x, *_: ({"loc": x @ p}, {"n": 0.0})), "step makes .* at .encoder"),
        (encoder(lambda p, s, x, *_: ({"loc": x @ p}, None)), "of .* in the statistics; let it"),
        (Encoder(lambda key: ({}, {}), heads_of, reads_dictionary=True), "reads a dictionary and"),
    ],
)
def test_an_encoder_that_fails_is_named(part, message, without_type_checks):
    refused(message, own_model(encoder=part))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (generator(lambda p, s, c, t: c @ p), "the generator's apply gives .* a pair, data and"),
        (generator(lambda p, s, c, t: ((c @ p).sum(-1), s)), r"of shape \(2,\), but the data"),
        (generator(lambda p, s, c, t: (jnp.einsum("bk,kd->bd", c, p), s)), "a step of 20 data"),
        (generator(lambda p, s, c, t: (c[..., 1:] @ p, s)), "of 2 codes of 12 latents"),
    ],
)
def test_a_generator_that_fails_is_named(part, message, without_type_checks):
    refused(message, own_model(generator=part))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (posterior(kl=lambda self, heads: jnp.sum(heads["loc"], -1)), r"kl gives the shape \(2,\)"),
        (posterior(kl=lambda self, heads: 1 / 0), "the posterior's kl fails .ZeroDivision"),
        (posterior(sample_and_log_ratio=lambda *_: jnp.ones(K)), "of one datum the posterior's sa"),
        (posterior(sample_and_log_ratio=lambda *_: None), "sample_and_log_ratio fails"),
    ],
)
def test_a_posterior_that_fails_is_named(part, message, without_type_checks):
    """A divergence summed over latents would count silently once for all of a batch."""
    refused(message, own_model(posterior=part))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loss, metrics, statistics: loss, "a step of 20 data fails"),
        (lambda loss, metrics, statistics: (loss[None], (metrics, statistics)), "fails"),
        (lambda loss, metrics, statistics: (loss, ({}, statistics)), "gives no StepMetrics"),
        (
            lambda loss, metrics, statistics: (
                loss,
                (metrics._replace(kl=jnp.ones(3)), statistics),
            ),
            "gives no StepMetrics of numbers",
        ),
        (lambda loss, metrics, statistics: (loss, (metrics, None)), "in the statistics; let it"),
    ],
)
def test_a_model_of_ones_own_is_tried_by_shapes(change, message, without_type_checks):
    refused(message, Wrapped(change))


def test_a_model_of_ones_own_that_serves_is_trained(without_type_checks):
    model = Wrapped(lambda loss, metrics, statistics: (loss, (metrics, statistics)))
    trained = jvsc.train(model, X, num_epochs=1, batch_size=20)
    expected = jvsc.train(own_model(), X, num_epochs=1, batch_size=20)
    assert set(trained.metrics) == {*StepMetrics._fields, "seconds"}
    np.testing.assert_array_equal(trained.metrics["loss"], expected.metrics["loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": optax.adam}, "optimizer is a function; give Optax's"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; give Optax's, such as optax.adam"),
        ({"optimizer": optax.lbfgs()}, "a step of 20 data fails"),
        ({"callback": 5}, "callback is 5; give a function of an Epoch, or None"),
        ({"key": 3}, r"key is 3; give one key, such as jax.random.key\(0\)"),
        ({"key": jax.random.PRNGKey(0)}, "key is a ArrayImpl; give one key"),
        ({"key": jax.random.split(jax.random.key(0))}, "give one key"),
        ({"num_epochs": 1.5}, "num_epochs is 1.5; give a whole number of at least 0"),
        ({"num_epochs": -1}, "num_epochs is -1; give"),
        ({"num_epochs": None}, "num_epochs is None; give"),
        ({"num_epochs": 10**30}, "num_epochs is 1000.*; give at most 214748364"),
        ({"batch_size": 20.0}, "batch_size is 20.0; give a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size is 0; give"),
        ({"batch_size": "20"}, "batch_size is '20'; give"),
    ],
)
def test_an_argument_of_another_kind_is_named(arguments, message, without_type_checks):
    refused(message, **arguments)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1, 2], [3]], "data: setting an array element with a sequence"),
        (X[:, :0], r"data has shape \(200, 0\); give real numbers \[N, D\]"),
        (X[:0], r"data has shape \(0, 16\); give"),
        (np.ma.masked_array(X, X > 1), "data has masked values; fill them in"),
        (np.zeros((200, D), "m8[s]"), "data is of type timedelta64.s.; give real numbers"),
        (X.astype(float) * 1e200, "data hold numbers beyond float32's 3e38; scale them"),
        (X.astype(float) * 1e-60, "data hold only numbers below float32's 1e-45; scale them"),
        (HOLES, "data hold NaN or infinity; leave such rows out"),
        (Dataset(HOLES, X, (D,), ""), "the data set's train holds NaN or infinity"),
        (Dataset(X, X[:, :5], (D,), ""), r"validation has shape \(200, 5\); give an array \[M, 16"),
        (Dataset(X[0], X, (D,), ""), r"the data set's train has shape \(16,\); give an array"),
        (Dataset(X.tolist(), X, (D,), ""), "the data set's train has shape"),
        (Dataset(X > 1, X, (D,), ""), "train is of type bool; give float32, or uint8"),
        (Dataset(X, X, (D,), "", mirrored=True), "data are mirrored, but their shape"),
        (Dataset(X, X, (5, 4), "", mirrored=True), "data are mirrored, but their shape"),
    ],
)
def test_data_of_another_kind_are_named(data, message, without_type_checks):
    refused(message, data=data)


def test_numbers_that_begin_as_nan_are_not_the_optimizers_fault():
    part = encoder(heads_of, lambda key: (jnp.full((D, K), jnp.nan), {}))
    refused(
        "at step 0, .* look whether the model's parts",
        own_model(encoder=part),
        error=DivergenceError,
    )


def test_data_to_be_inferred_are_checked(without_type_checks):
    trained = jvsc.train(own_model(), X, num_epochs=1, batch_size=20)
    np.testing.assert_array_equal(trained.infer(X.tolist()).codes, trained.infer(X).codes)
    for data, message in (
        (X[:, :5], r"data has shape \(200, 5\); give real numbers \[N, 16\]"),
        (X[0], r"data has shape \(16,\); give real numbers"),
        (HOLES, "data hold NaN or infinity"),
        ("x", "data is of type <U1; give real numbers"),
    ):
        with pytest.raises(UserError, match=message):
            trained.infer(data)
    for seed in (-1, 2.5, 2**63):
        with pytest.raises(UserError, match="seed is"):
            trained.infer(X, seed=seed)
