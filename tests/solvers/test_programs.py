"""Solvers called with data of many lengths keep few programs."""

import jax
import numpy as np
import pytest
from models import live_programs

from jvsc.solvers import fista
from jvsc.solvers.omp import _by_jax
from jvsc.solvers.programs import PROGRAMS_KEPT

RANDOM = np.random.default_rng(0)
DATA = RANDOM.normal(size=(60, 5)).astype(np.float32)
ATOMS = RANDOM.normal(size=(7, 5)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solve",
    [
        lambda data: fista(data, ATOMS, 0.1, max_iterations=3),
        lambda data: _by_jax(data, ATOMS, np.zeros(len(data), np.float32), most=2),
    ],
    ids=["fista", "omp"],
)
def test_programs_of_many_lengths_are_dropped(solve):
    """A caller with data of ever other lengths would else keep a program of each."""
    counts = []
    for count in range(1, PROGRAMS_KEPT + 9):
        jax.block_until_ready(solve(DATA[:count]))
        counts.append(live_programs())
    assert counts[-1] <= counts[PROGRAMS_KEPT]
