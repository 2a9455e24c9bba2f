"""Online dictionary learning as a feed: its steps, in parts, of several seeds, on all data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import assert_trees_equal, small_config

from jvsc.model.networks import dictionary_generator
from jvsc.model.solver_coded import SolverCoded
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.solvers import fista
from jvsc.solvers.online_dictionary import DictionaryMoments, online_step
from jvsc.training.batches import make_prepare
from jvsc.training.epoch import epoch_order, prepared, step_key
from jvsc.training.mesh import make_mesh, replicate
from jvsc.training.online import moments_in_place_of_gradients, online_feed
from jvsc.training.state import init_states

SHAPE, NUM_DATA, BATCH, K, PENALTY = (4, 5, 1), 107, 10, 8, 0.4
DATA = np.random.default_rng(0).normal(size=(NUM_DATA, 20)).astype(np.float32)
STEPS = NUM_DATA // BATCH


def started(seeds=(0,), data=DATA, mirrored=False):
    """States before the first step, and the feed."""
    model = SolverCoded(dictionary_generator(20, K), lambda *_: jnp.zeros(0), PENALTY)
    mesh = make_mesh()
    states = replicate(init_states(seeds, model, moments_in_place_of_gradients()), mesh)
    prepare = make_prepare(SHAPE, mirrored)
    feed = online_feed(data, online_step, PENALTY, BATCH, prepare, mesh, states.key)
    return states, feed


def epochs(seeds=(0,), **given):
    """States after two epochs, and the metrics of the second."""
    states, feed = started(seeds, **given)
    states, _ = feed.run_epoch(states)
    return feed.run_epoch(states)


def test_an_epoch_is_online_steps_on_the_batches_that_other_methods_take():
    states, _ = started()
    atoms, moments = np.asarray(states.parameters.generator[0]), DictionaryMoments.empty(K, 20)
    moments = moments._replace(num_batches=np.float32(0))
    losses = []
    for epoch in range(2):
        for batch in np.asarray(epoch_order(states.key[0], jnp.int32(epoch), NUM_DATA, BATCH)):
            after, moments, codes = online_step(atoms, moments, DATA[batch], PENALTY)
            left = DATA[batch] - codes @ atoms
            energy = 0.5 * np.sum(left**2) + PENALTY * np.abs(codes).sum()
            losses.append((energy / BATCH, np.mean(left**2), 0, np.mean(codes != 0)))
            atoms = after
    found, metrics = epochs()
    np.testing.assert_allclose(found.parameters.generator[0], atoms, atol=1e-5)
    for part, expected in zip(found.optimizer, moments, strict=True):
        np.testing.assert_allclose(part[0], expected, atol=1e-4)
    expected = np.transpose(losses[STEPS:])
    np.testing.assert_allclose(np.stack(metrics)[:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("counts", [(1,) * STEPS, (3, 0, 5, 2)])
def test_an_epoch_in_parts_gives_the_same_bits(counts):
    states, feed = started((0, 1))
    metrics, place = feed.begin(states), 0
    for count in counts:
        states, metrics = feed.run_steps(states, metrics, place, count)
        place += count
    whole, feed = started((0, 1))
    whole, expected = feed.run_epoch(whole)
    assert_trees_equal(states, whole)
    assert_trees_equal(metrics, expected)
    assert (np.asarray(expected.loss) != 0).all()
    assert (np.asarray(whole.step) == STEPS).all()


def test_seeds_together_are_those_they_are_alone():
    together, metrics = epochs((3, 7))
    for index, seed in enumerate((3, 7)):
        alone, own = epochs((seed,))
        assert_trees_equal(jax.tree.map(lambda leaf, i=index: leaf[i : i + 1], together), alone)
        assert_trees_equal(jax.tree.map(lambda leaf, i=index: leaf[i : i + 1], metrics), own)


def test_bytes_become_floats_and_images_are_mirrored_by_the_steps_key():
    stored = np.random.default_rng(1).integers(0, 256, (NUM_DATA, 20), dtype=np.uint8)
    batches = []

    def noting(atoms, moments, data, penalty):
        batches.append(data)
        return online_step(atoms, moments, data, penalty)

    states, _ = started()
    prepare, mesh = make_prepare(SHAPE, True), make_mesh()
    feed = online_feed(stored, noting, PENALTY, BATCH, prepare, mesh, states.key)
    feed.run_epoch(states)
    order = epoch_order(states.key[0], jnp.int32(0), NUM_DATA, BATCH)
    for step, (batch, places) in enumerate(zip(batches, order, strict=True)):
        key = step_key(states.key[0], jnp.int32(step))
        expected = prepared(jnp.asarray(stored[places]), key, 0, prepare)
        np.testing.assert_array_equal(batch, expected)
        assert (batch != stored[places] / np.float32(255)).any()


def test_states_stay_where_they_are_placed_and_a_runs_are_the_same():
    """The state of a run's settings, whose optimiser are moments."""
    config = small_config(method="lasso", threshold=None)
    model, optimizer = build_model(config, 64), build_optimizer(config, config.steps_per_epoch)
    state = init_states(config.seeds, model, optimizer)
    assert isinstance(state.optimizer, DictionaryMoments)
    shapes = [part.shape for part in state.optimizer]
    assert shapes == [(1, 24, 24), (1, 24, 64), (1,)]
    assert all(part.dtype == jnp.float32 for part in state.optimizer)
    states, feed = started()
    after, _ = feed.run_epoch(states)
    assert all(
        new.sharding == old.sharding and new.dtype == old.dtype and new.shape == old.shape
        for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(states), strict=True)
    )


@pytest.mark.parametrize("positive", [False, True])
def test_a_runs_codes_are_the_lassos(positive):
    config = small_config(method="lasso", threshold=None, lasso__positive_codes=positive)
    model = build_model(config, 20)
    assert isinstance(model, SolverCoded)
    parameters, statistics = model.init(jax.random.key(0))
    data = jnp.asarray(10 * DATA)
    codes = model.solve(parameters, statistics, data, jnp.float32(3.0))
    expected = fista(data, parameters.generator, 3.0, positive=positive, tolerance=1e-5).codes
    np.testing.assert_allclose(codes, expected, atol=1e-3)
    assert (np.asarray(codes) >= 0).all() == positive
