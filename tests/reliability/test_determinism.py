"""The same seed on the same machine gives the same numbers, whatever the method."""

import jax
import numpy as np
import pytest
from models import CODED_METHODS, assert_trees_equal, image_config, random_images, small_config

import jvsc.runs.train
from jvsc.model.methods import METHODS
from jvsc.runs.logs import read_metrics
from jvsc.runs.train import train

pytestmark = pytest.mark.timeout(1800)


def twice(config, tmp_path):
    """Trains a run in two workdirs, each compiled anew; returns how many numbers were compared."""
    states = [train(config, tmp_path / name).state for name in ("one", "two")]
    assert_trees_equal(*states)
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    for mine, theirs in zip(one, two, strict=True):
        for name in mine.keys() - {"seconds", "steps_per_second"}:
            assert mine[name] == theirs[name]
    leaves = jax.tree.leaves(states[0].parameters)
    return sum(np.size(leaf) for leaf in leaves)


def of_method(method, make, **changes):
    threshold = 0.25 if METHODS[method].rule else None
    return make(method=method, threshold=threshold, num_epochs=2, **changes)


@pytest.mark.parametrize(
    "method",
    [
        method
        if method == "thresholded_laplacian"
        else pytest.param(method, marks=pytest.mark.slow)
        for method in METHODS
    ],
)
def test_a_dictionary_is_learned_twice_the_same(tmp_path, method):
    compared = twice(of_method(method, small_config, num_samples=3, seeds=(0, 1)), tmp_path)
    print(f"{method}: {compared:,} parameters bit-identical")


@pytest.mark.slow
@pytest.mark.parametrize("method", CODED_METHODS)
def test_a_conv_generator_is_learned_twice_the_same(tmp_path, monkeypatch, method):
    monkeypatch.setattr(jvsc.runs.train, "build_dataset", random_images)
    changes = {} if method == "fista" else {"num_samples": 2, "sampling_chunk": 1}
    compared = twice(of_method(method, image_config, **changes), tmp_path)
    print(f"{method}: {compared:,} parameters bit-identical")
