"""The compiled epoch: order, seeds, determinism, one compilation."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import assert_trees_equal, small_config

from jvsc.model.methods import METHODS
from jvsc.runs.factories import build_dataset, build_model, build_optimizer
from jvsc.training.batches import make_prepare
from jvsc.training.epoch import epoch_order, make_steps, no_metrics
from jvsc.training.feed import resident_feed
from jvsc.training.mesh import DATA_AXIS, make_mesh, replicate
from jvsc.training.state import init_states


def start(config):
    """States before the first step, and what makes the compiled steps."""
    dataset = build_dataset(config)
    model = build_model(config, dataset.train.shape[1], DATA_AXIS, training=True)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    prepare = make_prepare(dataset.shape, dataset.mirrored)
    mesh = make_mesh()
    state = replicate(init_states(config.seeds, model, optimizer), mesh)
    arguments = (model.loss, optimizer, config.batch_size, prepare, mesh)
    return state, dataset.train, arguments


@cache
def epochs(config, num_epochs=2):
    """States and metrics after some epochs."""
    state, data, arguments = start(config)
    feed = resident_feed(data, *arguments)
    metrics = []
    for _ in range(num_epochs):
        state, more = feed.run_epoch(state)
        metrics.append(more)
    return state, jax.tree.map(lambda *m: np.concatenate(m, 1), *metrics)


def in_parts(config, counts):
    """The state and metrics of an epoch run some steps at a time, and the compiled program."""
    state, data, arguments = start(config)
    run = make_steps(*arguments)
    metrics, place = no_metrics(len(config.seeds), config.steps_per_epoch, arguments[-1]), 0
    on_device = replicate(data, arguments[-1])
    for count in counts:
        state, metrics = run(state, metrics, on_device, jnp.int32(place), jnp.int32(count))
        place += count
    return state, metrics, run


def method_config(method, **changes):
    threshold = 0.25 if METHODS[method].rule else None
    return small_config(method=method, threshold=threshold, **changes)


def test_an_epoch_takes_every_datum_once_and_each_epoch_another_order():
    key = jax.random.key(0)
    first = np.asarray(epoch_order(key, jnp.int32(0), 100, 20))
    second = np.asarray(epoch_order(key, jnp.int32(1), 100, 20))
    assert first.shape == (5, 20)
    np.testing.assert_array_equal(np.sort(first.ravel()), np.arange(100))
    assert not np.array_equal(first, second)


def test_a_remainder_smaller_than_a_batch_differs_from_epoch_to_epoch():
    left = [
        set(range(103)) - set(np.asarray(epoch_order(jax.random.key(0), e, 103, 20)).ravel())
        for e in jnp.arange(2)
    ]
    assert len(left[0]) == len(left[1]) == 3
    assert left[0] != left[1]


# One of each kind; `make test-slow` trains the others.
TRAINED = ("fista", "laplacian", "spike_and_slab", "thresholded_laplacian")


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=() if name in TRAINED else pytest.mark.slow)
        for name in METHODS
        if name != "lasso"  # which makes no gradient steps
    ],
)
def test_training_lowers_the_loss(method):
    config = method_config(method, annealing__warmup_start=1.0, num_epochs=3)
    state, metrics = epochs(config, 3)
    assert np.isfinite(metrics.loss).all()
    assert (np.asarray(state.step) == 60).all()
    if method != "fista":  # FISTA's penalty grows during training, and its loss with it
        # Of whole epochs, for those are of the same data.
        assert metrics.loss[0, -20:].mean() < metrics.loss[0, :20].mean()


@pytest.mark.parametrize("counts", [(1,) * 20, (7, 0, 11, 2)])
def test_an_epoch_in_parts_gives_the_same_bits_and_compiles_once(counts):
    config = small_config(seeds=(0, 1), num_samples=3)
    state, metrics, run = in_parts(config, counts)
    assert run._cache_size() == 1
    whole, told, _ = in_parts(config, (20,))
    assert_trees_equal(state, whole)
    assert_trees_equal(metrics, told)
    assert (np.asarray(told.loss) != 0).all()


def test_the_same_seed_gives_the_same_numbers():
    assert_trees_equal(epochs(small_config())[0], epochs.__wrapped__(small_config())[0])


def test_seeds_together_follow_the_trajectories_they_have_alone():
    together, metrics = epochs(small_config(seeds=(3, 5)))
    for index, seed in enumerate((3, 5)):
        alone, own = epochs(small_config(seeds=(seed,)))
        np.testing.assert_allclose(metrics.loss[index], own.loss[0], rtol=1e-4)
        np.testing.assert_allclose(
            together.parameters.generator[index], alone.parameters.generator[0], atol=1e-3
        )
    assert np.abs(metrics.loss[0] - metrics.loss[1]).max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_of_the_scoring_pass_change_nothing(chunk):
    whole, metrics = epochs(small_config(num_samples=7))
    _, chunked = epochs(small_config(num_samples=7, sampling_chunk=chunk))
    np.testing.assert_allclose(metrics.loss, chunked.loss, rtol=1e-4)
    assert whole.step[0] == 40


def test_the_state_given_is_donated():
    state, data, arguments = start(small_config())
    resident_feed(data, *arguments).run_epoch(state)
    assert state.parameters.generator.is_deleted()
