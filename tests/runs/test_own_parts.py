"""`jvsc.train`: parts of one's own, matrices and data sets, continuation, mistakes."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import B, D, K, assert_trees_equal, small_model

import jvsc
from jvsc.data import Dataset
from jvsc.errors import DivergenceError, UserError
from jvsc.model.networks import Encoder, Generator, dictionary_generator, mlp_encoder
from jvsc.model.posteriors import Posterior
from jvsc.model.variational import Variational
from jvsc.training.state import init_states


@dataclass(frozen=True)
class Rectified(Posterior):
    """max(z - 1, 0) of z ~ N(loc, 0.01), prior N(0, 0.01)."""

    @property
    def prior(self):
        return {"loc": 0.0}

    def sample_and_log_ratio(self, key, heads, annealing):
        noise = 0.1 * jax.random.normal(key, heads["loc"].shape)
        z = heads["loc"] + noise
        return jax.nn.relu(z - 1), (noise**2 - z**2) / 0.02

    def kl(self, heads):
        return heads["loc"] ** 2 / 0.02

    def support_probability(self, heads):
        return jax.scipy.stats.norm.cdf((heads["loc"] - 1) / 0.1)


def affine_encoder(names=("loc",), width=K):
    def init(key):
        return jnp.zeros((D, width)), {"calls": jnp.zeros(())}

    def apply(parameters, statistics, data, training, generative):
        heads = dict.fromkeys(names, 1 + data @ parameters)
        return heads, {"calls": statistics["calls"] + 1.0 * training}

    return Encoder(init, apply)


def exponential_generator(num_features=D):
    def init(key):
        return 0.1 * jax.random.normal(key, (K, num_features)), {}

    def apply(parameters, statistics, codes, training):
        return jnp.exp(codes @ parameters) - 1, statistics

    return Generator(init, apply)


def own_model(**parts):
    defaults = {
        "generator": exponential_generator(),
        "posterior": Rectified(),
        "encoder": affine_encoder(),
        "num_samples": 3,
        "kl_weight": 1e-4,
    }
    return Variational(**defaults | parts)


def matrix(count=200, seed=0):
    """Data of rank one, which a single latent can explain."""
    random = np.random.default_rng(seed)
    return np.float32(np.abs(random.normal(size=(count, 1))) * np.linspace(0, 1, D))


def test_own_encoder_generator_and_posterior_are_trained_together():
    told = []
    trained = jvsc.train(
        own_model(),
        matrix(),
        optimizer=optax.adam(1e-2),
        num_epochs=30,
        batch_size=20,
        callback=lambda epoch: told.append(epoch),
    )
    assert trained.metrics["mse"].shape == (30,)
    assert trained.metrics["mse"][-1] < 0.3 * trained.metrics["mse"][0]
    assert [epoch.number for epoch in told] == list(range(1, 31))
    assert [epoch.metrics["mse"] for epoch in told] == trained.metrics["mse"].tolist()
    assert_trees_equal(told[-1].parameters, trained.parameters)
    assert float(trained.statistics.encoder["calls"]) == 300
    inferred = trained.infer(matrix(50, seed=1))
    assert inferred.codes.shape == (50, K)
    assert inferred.codes.min() >= 0
    assert inferred.squared_error.mean() < 2 * trained.metrics["mse"][-1]
    np.testing.assert_array_equal(trained.infer(matrix(50, seed=1)).codes, inferred.codes)


def test_a_callback_ends_the_training_and_the_key_decides_it():
    options = {"num_epochs": 5, "batch_size": 20, "optimizer": optax.sgd(1e-2)}
    stopped = jvsc.train(own_model(), matrix(), callback=lambda epoch: epoch.number == 2, **options)
    assert len(stopped.metrics["loss"]) == 2
    again = jvsc.train(own_model(), matrix(), **options | {"num_epochs": 2})
    assert_trees_equal(again.parameters, stopped.parameters)
    other = jvsc.train(own_model(), matrix(), key=jax.random.key(1), **options | {"num_epochs": 2})
    assert not np.array_equal(other.parameters.generator, again.parameters.generator)


def test_what_a_callback_does_with_its_numbers_is_its_own_and_any_byte_order_serves():
    options = {"num_epochs": 2, "batch_size": 20, "optimizer": optax.sgd(1e-2)}
    rows = matrix()
    data = Dataset(rows.astype(">f4"), rows[:0].astype(">f4"), rows.shape[1:], "big-endian")
    found = jvsc.train(own_model(), data, callback=lambda epoch: epoch.metrics.clear(), **options)
    plain = jvsc.train(own_model(), rows.astype(np.float32), **options)
    assert found.metrics["loss"].tolist() == plain.metrics["loss"].tolist()


def test_bytes_stand_for_shares_and_a_data_set_is_validated():
    pixels = np.uint8(255 * np.minimum(matrix(), 1))
    options = {"num_epochs": 1, "batch_size": 20}
    of_bytes = jvsc.train(own_model(), pixels, **options)
    of_floats = jvsc.train(own_model(), pixels / 255, **options)
    np.testing.assert_allclose(of_bytes.metrics["loss"], of_floats.metrics["loss"], rtol=1e-5)
    assert "validation_loss" not in of_bytes.metrics
    dataset = Dataset(pixels, pixels[:30], (4, 4), "bytes", mirrored=True)
    trained = jvsc.train(own_model(), dataset, **options)
    expected = trained.infer(pixels[:30]).validation_loss.mean()
    assert trained.metrics["validation_loss"][-1] == pytest.approx(float(expected), rel=1e-6)


def test_what_was_trained_is_kept_and_read_beside_the_same_parts(tmp_path):
    trained = jvsc.train(own_model(), matrix(), num_epochs=2, batch_size=20)
    file = tmp_path / "trained.safetensors"
    trained.save(file)
    again = jvsc.load_parts(own_model(), str(file))
    assert_trees_equal(again.parameters, trained.parameters)
    assert again.metrics["loss"].tolist() == trained.metrics["loss"].tolist()
    np.testing.assert_array_equal(again.infer(matrix()).codes, trained.infer(matrix()).codes)
    with pytest.raises(UserError, match="is there already; give another"):
        trained.save(file)
    with pytest.raises(UserError, match=r"give a \.safetensors file"):
        trained.save(tmp_path / "trained.npz")
    with pytest.raises(UserError, match="where the model asks for"):
        jvsc.load_parts(small_model(), file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        jvsc.load_parts(own_model(), file)
    with pytest.raises(UserError, match="cannot be written"):
        trained.save(tmp_path / "nowhere" / "trained.safetensors")


def test_a_workdir_goes_on_to_the_numbers_of_a_training_without_a_break(tmp_path):
    options = {"batch_size": 20, "optimizer": optax.adam(1e-2), "num_epochs": 4}
    whole = jvsc.train(own_model(), matrix(), **options)
    jvsc.train(
        own_model(), matrix(), workdir=tmp_path, callback=lambda epoch: epoch.number == 2, **options
    )
    rest = []
    continued = jvsc.train(
        own_model(),
        matrix(),
        workdir=tmp_path,
        callback=lambda epoch: rest.append(epoch.number),
        **options,
    )
    assert rest == [3, 4]
    assert_trees_equal(continued.parameters, whole.parameters)
    np.testing.assert_array_equal(continued.metrics["loss"], whole.metrics["loss"])
    done = jvsc.train(own_model(), matrix(), workdir=tmp_path, **options)
    assert_trees_equal(done.parameters, whole.parameters)
    narrow = own_model(encoder=affine_encoder(width=5), generator=dictionary_generator(D, 5))
    with pytest.raises(UserError, match="take another workdir"):
        jvsc.train(narrow, matrix(), workdir=tmp_path, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 10}, "whose batch_size is 20, not 10; repeat that call"),
        ({"data": 2 * matrix()}, "whose digest of data is"),
        ({"data": matrix()[1:]}, r"whose data is \[\d+, 16\], not"),
        ({"key": jax.random.key(5)}, r"whose key is \[0, 0\], not \[0, 5\]"),
        ({"model": own_model(kl_weight=0.5)}, "whose kl_weight is 0.0001, not 0.5"),
        ({"num_epochs": 1}, "holds 2 epochs, but num_epochs is 1"),
    ],
)
def test_a_workdir_of_another_call_is_refused_and_kept(change, message, tmp_path):
    call = {"model": own_model(), "data": matrix(), "batch_size": 20, "num_epochs": 2}
    first = jvsc.train(**call, workdir=tmp_path)
    with pytest.raises(UserError, match=message):
        jvsc.train(**(call | change), workdir=tmp_path)
    assert_trees_equal(jvsc.train(**call, workdir=tmp_path).parameters, first.parameters)


def test_a_call_with_more_epochs_goes_on(tmp_path):
    call = {"optimizer": optax.adam(1e-3), "batch_size": 20, "workdir": tmp_path}
    whole = jvsc.train(own_model(), matrix(), **(call | {"workdir": None}), num_epochs=3)
    jvsc.train(own_model(), matrix(), **call, num_epochs=2)
    more = jvsc.train(own_model(), matrix(), **call, num_epochs=3)
    assert_trees_equal(more.parameters, whole.parameters)


def test_a_matrix_too_large_for_the_device_is_streamed_to_the_same_numbers(monkeypatch, tmp_path):
    options = {"batch_size": 20, "num_epochs": 3}
    resident = jvsc.train(own_model(), matrix(), **options)
    monkeypatch.setattr("jvsc.runs.own_parts.MEMORY_SHARE", 0.0)
    streamed = jvsc.train(own_model(), matrix(), **options)
    assert_trees_equal(streamed.parameters, resident.parameters)
    stop = lambda epoch: epoch.number == 1  # noqa: E731
    jvsc.train(own_model(), matrix(), workdir=tmp_path, callback=stop, **options)
    continued = jvsc.train(own_model(), matrix(), workdir=tmp_path, **options)
    assert_trees_equal(continued.parameters, resident.parameters)


def test_it_starts_as_a_run_of_the_same_seed_does():
    optimizer = optax.sgd(0.0)
    trained = jvsc.train(
        small_model(), matrix(), optimizer=optimizer, num_epochs=1, key=jax.random.key(3)
    )
    state = init_states((3,), small_model(), optimizer)
    first = jax.tree.map(lambda leaf: leaf[0], state.parameters)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), trained.parameters, first
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoder": affine_encoder(("scale",))}, "posterior also reads loc; let the encoder give"),
        ({"generator": exponential_generator(9)}, r"shape \(2, 9\), but the data have 16 columns"),
        (
            {"encoder": Encoder(lambda key: ({}, {}), lambda p, s, x, *_: ({"loc": x[0]}, s))},
            r"heads have the shapes \{'loc': \(16,\)\}; give \[2, K\] each",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(parts, message, without_type_checks):
    with pytest.raises(UserError, match=message):
        jvsc.train(own_model(**parts), matrix())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(5), "give real numbers"),
        (np.full((200, D), "a"), "give real numbers"),
        (np.full((200, D), np.nan), "leave such rows out"),
        (np.zeros((B, D)), "batch_size is 128, but data are 10; give 1 to 10"),
    ],
)
def test_data_that_do_not_serve_are_named(data, message, without_type_checks):
    with pytest.raises(UserError, match=message):
        jvsc.train(small_model(), data)


def test_a_divergence_and_a_workdir_of_a_run_are_named(tmp_path):
    with pytest.raises(DivergenceError, match="lower the optimizer's learning rate"):
        jvsc.train(own_model(), matrix(), optimizer=optax.sgd(1e30), batch_size=20)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run of the jvsc command"):
        jvsc.train(own_model(), matrix(), workdir=tmp_path)


def test_an_encoder_of_jvsc_serves_an_own_posterior():
    encoder = mlp_encoder(D, K, ("loc",), hidden=(8,))
    trained = jvsc.train(own_model(encoder=encoder), matrix(), num_epochs=1, batch_size=50)
    assert np.isfinite(trained.metrics["loss"]).all()
