"""Trains a run as one of its processes, in float64: `trained.py CONFIG.json WORKDIR FILE`.

What the trainings compared differ in is the order of sums. In float32 a difference of one rounding
soon turns a threshold or the choice of a draw; in float64 none is near enough. Parameters and data
are float64 here; what the networks themselves compute in float32 (their heads) stays so.
"""

import json
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jvsc.runs.factories.datasets
import jvsc.runs.factories.models
import jvsc.runs.train
from jvsc.runs.config import make_config
from jvsc.runs.processes import is_first_process, start_processes


def as_float64(tree):
    """Every float of a tree in double precision."""
    return jax.tree.map(
        lambda leaf: leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, np.floating) else leaf,
        tree,
    )


def in_float64(function):
    """A function whose arrays come in double precision."""
    return lambda *arguments: as_float64(function(*arguments))


def dataset_in_float64(config):
    """The run's data; bytes stay bytes."""
    dataset = jvsc.runs.factories.datasets.build_dataset(config)
    return dataset._replace(
        train=as_float64(dataset.train), validation=as_float64(dataset.validation)
    )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    start_processes(asked="JAX_NUM_PROCESSES" in os.environ)
    jvsc.runs.train.init_states = in_float64(jvsc.runs.train.init_states)
    jvsc.runs.train.build_dataset = dataset_in_float64
    jvsc.runs.factories.models.compute_dtype = lambda config: jnp.dtype("float64")
    config = make_config(json.loads(Path(sys.argv[1]).read_text()))
    state = jvsc.runs.train.train(config, Path(sys.argv[2])).state
    if is_first_process():
        leaves = jax.tree.leaves((state.parameters, state.statistics))
        flat = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
        np.savez(
            sys.argv[3],
            parameters=flat,
            processes=jax.process_count(),
            devices=jax.device_count(),
        )
