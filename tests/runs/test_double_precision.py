"""JAX_ENABLE_X64 changes the type of float64 data alone: the same start, draws and files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import assert_trees_equal, small_config

from jvsc import load
from jvsc.main import run
from jvsc.metrics import gradient_snr
from jvsc.model.posteriors import Annealing
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.runs.train import train
from jvsc.training.batches import mirror
from jvsc.training.state import init_states, with_atoms_of_data

METHODS = ("fista", "thresholded_laplacian", "spike_and_slab", "topk", "jump_relu")


def config_of(method):
    changes = {"method": method} | ({} if method.startswith("thresholded") else {"threshold": None})
    return small_config(**changes, **({"autoencoder__active": 4} if method == "topk" else {}))


@pytest.mark.parametrize("method", METHODS)
def test_the_start_does_not_depend_on_double_precision(method):
    config = config_of(method)

    def start():
        model = build_model(config, 16)
        return init_states(config.seeds, model, build_optimizer(config, config.steps_per_epoch))

    single = start()
    with jax.enable_x64(True):
        double = start()
    assert_trees_equal(single, double)
    types = lambda tree: [leaf.dtype for leaf in jax.tree.leaves(tree)]  # noqa: E731
    assert types(single) == types(double)


def test_draws_follow_the_type_of_the_heads():
    from jvsc.model.methods import METHODS as ALL
    from jvsc.model.methods import VariationalMethod

    for name, family in ALL.items():
        if not isinstance(family, VariationalMethod):
            continue
        config = config_of(name)
        posterior = family.posterior(config.hyperparameters())
        key, annealing = jax.random.key(0), Annealing()

        def draw(dtype, posterior=posterior, key=key, annealing=annealing):
            heads = {head: jnp.full(6, value, dtype) for head, value in posterior.prior.items()}
            return posterior.sample(key, heads, annealing)

        single = draw(jnp.float32)
        with jax.enable_x64(True):
            double = draw(jnp.float32)
            assert draw(jnp.float64).dtype == jnp.float64, name
        assert double.dtype == single.dtype == jnp.float32, name
        np.testing.assert_allclose(double, single, rtol=1e-5, err_msg=name)


def test_the_gradients_ratio_follows_the_type_of_the_gradient():
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            ratio = gradient_snr(
                lambda key, dtype=dtype: 2 + jax.random.normal(key, (3,), dtype),
                jax.random.split(jax.random.key(0), 50),
            )
            assert ratio.dtype == dtype
            assert ((ratio > 1) & (ratio < 4)).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_double_precision_is_that_without_and_either_loads(method, tmp_path):
    config = config_of(method)
    with jax.enable_x64(True):
        double = train(config, tmp_path / "double")
        assert run(["--mode=evaluate", f"--workdir={tmp_path / 'double'}"]) == 0
    single = train(config, tmp_path / "single")
    for one, other in zip(*map(jax.tree.leaves, (double.state, single.state)), strict=True):
        assert one.dtype == other.dtype
    data = single.dataset.validation
    codes = load(tmp_path / "double").encode_normalised(data)
    with jax.enable_x64(True):
        for name in ("single", "double"):
            load(tmp_path / name).save(tmp_path / f"{name}_exported")
            crossed = load(tmp_path / f"{name}_exported").encode_normalised(data)
            assert crossed.dtype == np.float32
    np.testing.assert_allclose(crossed, codes, atol=1e-4)


@pytest.mark.parametrize("num_data", [7, 500])
def test_atoms_that_begin_as_data_do_not_depend_on_double_precision(num_data):
    config = config_of("fista")
    data = np.random.default_rng(0).normal(size=(num_data, 16)).astype(np.float32)

    def start():
        model = build_model(config, 16)
        states = init_states((0, 1), model, build_optimizer(config, config.steps_per_epoch))
        return np.asarray(with_atoms_of_data(states, data, 24).parameters.generator)

    single = start()
    with jax.enable_x64(True):
        np.testing.assert_allclose(start(), single, rtol=1e-5, atol=1e-6)


def test_the_same_images_are_mirrored_in_double_precision():
    images = np.arange(200 * 12, dtype=np.uint8).reshape(200, 12)

    def mirrored():
        keys = jax.random.split(jax.random.key(0), 200)
        return np.asarray(mirror(jnp.asarray(images), keys, (3, 4)))

    single = mirrored()
    assert (single != images).any()
    with jax.enable_x64(True):
        np.testing.assert_array_equal(mirrored(), single)
