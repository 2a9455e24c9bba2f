"""Resident and streamed data: the same batches, in the same order, from any place on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import live_programs

from jvsc.model.model import StepMetrics
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.sampling import datum_keys
from jvsc.training.batches import make_prepare, mirror
from jvsc.training.feed import fits_on_device, resident_feed, streamed_feed
from jvsc.training.mesh import make_mesh, replicate
from jvsc.training.state import TrainState

SHAPE, NUM_DATA, BATCH = (4, 5, 1), 53, 10
DATA = np.random.default_rng(0).integers(0, 256, (NUM_DATA, 20), dtype=np.uint8)
# Small whole numbers, so that the sums below are exact in float32.
WEIGHTS = np.random.default_rng(1).integers(0, 100, (3, BATCH, 20)).astype(np.float32)


def fingerprint(parameters, statistics, batch, key, step, first):
    """A loss whose metrics tell every pixel of a batch and its order."""
    del key, step, first
    pixels = jnp.round(255 * batch)
    values = (jnp.sum(pixels * weight) for weight in WEIGHTS)
    return jnp.sum(parameters.generator), (StepMetrics(*values, jnp.sum(pixels)), statistics)


def states(seeds=(0, 1)):
    optimizer = optax.sgd(0.0)
    parameters = Parameters({}, jnp.ones((len(seeds), 1)))
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    steps = jnp.zeros(len(seeds), jnp.int32)
    state = TrainState(
        steps, keys, parameters, Statistics({}, {}), jax.vmap(optimizer.init)(parameters)
    )
    return replicate(state, make_mesh()), optimizer


def feeds(segment_bytes=10**6):
    state, optimizer = states()
    arguments = (fingerprint, optimizer, BATCH, make_prepare(SHAPE, True), make_mesh())
    streamed = streamed_feed(DATA, *arguments, keys=state.key, segment_bytes=segment_bytes)
    return resident_feed(DATA, *arguments), streamed


@pytest.mark.parametrize("segment_bytes", [1, 400, 10**6])
def test_both_feeds_give_the_same_batches_in_the_same_order(segment_bytes):
    told = []
    for feed in feeds(segment_bytes):
        state, _ = states()
        epochs = []
        for _ in range(3):
            state, metrics = feed.run_epoch(state)
            epochs.append(np.stack(metrics))
        told.append(np.concatenate(epochs, axis=2))
    assert told[0].shape == (4, 2, 3 * (NUM_DATA // BATCH))
    np.testing.assert_array_equal(*told)
    assert len(np.unique(told[0][3])) > 20  # seeds, steps and epochs differ


def test_a_stream_goes_on_from_a_checkpoints_position():
    (_, whole), (_, continued) = feeds(400), feeds(400)
    state, _ = states()
    state, _ = whole.run_epoch(state)
    kept = jax.tree.map(jnp.copy, state)
    _, expected = whole.run_epoch(state)
    continued.seek(NUM_DATA // BATCH)
    _, metrics = continued.run_epoch(kept)
    np.testing.assert_array_equal(np.stack(metrics), np.stack(expected))


@pytest.mark.parametrize("segment_bytes", [400, 10**6])
def test_a_stream_goes_on_within_an_epoch(segment_bytes):
    """From every place, those within a segment too."""
    for place in range(1, NUM_DATA // BATCH):
        _, whole = feeds(segment_bytes)
        state, _ = states()
        _, expected = whole.run_epoch(state)
        _, cut = feeds(segment_bytes)
        state, _ = states()
        state, metrics = cut.run_steps(state, cut.begin(state), 0, place)
        _, continued = feeds(segment_bytes)
        continued.seek(place)
        _, metrics = continued.run_steps(state, metrics, place, NUM_DATA // BATCH - place)
        np.testing.assert_array_equal(np.stack(metrics), np.stack(expected))


def test_a_dataset_is_resident_up_to_its_share_of_the_memory():
    assert fits_on_device(DATA, 0.5)
    assert not fits_on_device(DATA, 0.0)


def test_mirroring_flips_columns_of_about_half_the_images():
    """Among 2,000 images the share is within five standard errors of one half."""
    images = np.tile(np.arange(20, dtype=np.uint8), (2000, 1))
    mirrored = np.asarray(mirror(jnp.asarray(images), datum_keys(jax.random.key(0), 2000), SHAPE))
    flipped = images[0].reshape(4, 5)[:, ::-1].ravel()
    is_flipped = (mirrored == flipped).all(1)
    assert (is_flipped | (mirrored == images).all(1)).all()
    assert abs(is_flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


def test_bytes_become_floats_in_the_unit_interval_and_floats_stay():
    keys = datum_keys(jax.random.key(0), 2)
    bytes_in = np.array([[0, 255, 51, 102]], np.uint8).repeat(2, 0)
    prepare = make_prepare((2, 2, 1), False)
    np.testing.assert_allclose(prepare(jnp.asarray(bytes_in), keys)[0], [0, 1, 0.2, 0.4], rtol=1e-6)
    floats = np.float32([[-3.0, 2.0, 0.5, 9.0]]).repeat(2, 0)
    np.testing.assert_array_equal(prepare(jnp.asarray(floats), keys), floats)


@pytest.mark.slow
def test_programs_of_many_lengths_of_data_are_dropped():
    """A caller that fits again and again would otherwise keep one of each length for ever."""
    state, optimizer = states((0,))
    arguments = (fingerprint, optimizer, BATCH, make_prepare(SHAPE, False), make_mesh())

    counts = []
    for count in range(BATCH, BATCH + 16):
        feed = streamed_feed(np.repeat(DATA, 2, axis=0)[: 2 * count], *arguments, keys=state.key)
        state, _ = feed.run_epoch(state)
        counts.append(live_programs())
    assert counts[-1] - counts[7] < 4
