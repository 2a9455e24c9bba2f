"""Codes improved on their support, and by changing it."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest

from jvsc.solvers import least_squares_on_support, refine_support

D, K, B = 20, 30, 40


@pytest.fixture(scope="module")
def problem():
    """Data, a dictionary of unequal norms, and codes of six non-zeros, far from the best."""
    random = np.random.default_rng(0)
    dictionary = random.normal(size=(K, D)) * random.uniform(0.5, 2, (K, 1))
    codes = np.zeros((B, K))
    for row in codes:
        row[random.choice(K, 6, replace=False)] = random.normal(size=6)
    data = codes @ dictionary + 0.1 * random.normal(size=(B, D))
    start = codes * random.uniform(0.2, 1.5, codes.shape)
    return tuple(jnp.asarray(array, jnp.float32) for array in (data, dictionary, start))


def objective(data, dictionary, codes, penalty):
    """0.5 ||x - s A||^2 + penalty ||s||_0 of each datum."""
    residual = np.asarray(data - codes @ dictionary, np.float64)
    return 0.5 * (residual**2).sum(axis=1) + penalty * np.count_nonzero(codes, axis=1)


def test_as_many_steps_as_non_zeros_end_at_least_squares(problem):
    data, dictionary, start = problem
    found = np.asarray(least_squares_on_support(data, dictionary, start, 10))
    for x, code, first in zip(np.asarray(data), found, np.asarray(start), strict=True):
        (chosen,) = np.nonzero(first)
        expected = np.linalg.lstsq(np.asarray(dictionary)[chosen].T, x, rcond=None)[0]
        np.testing.assert_allclose(code[chosen], expected, rtol=1e-3, atol=1e-3)
        assert set(np.flatnonzero(code)) <= set(chosen)


def test_no_step_of_least_squares_raises_the_error(problem):
    data, dictionary, start = problem
    errors = [
        objective(data, dictionary, least_squares_on_support(data, dictionary, start, n), 0.0)
        for n in range(5)
    ]
    for before, after in pairwise(errors):
        assert (after <= before * (1 + 1e-5) + 1e-5).all()


@pytest.mark.parametrize("penalty", [0.01, 0.5, 5.0])
def test_refining_never_raises_the_objective_and_lowers_most(problem, penalty):
    data, dictionary, start = problem
    before = objective(data, dictionary, start, penalty)
    after = objective(
        data, dictionary, refine_support(data, dictionary, start, penalty, 10), penalty
    )
    assert (after <= before * (1 + 1e-5) + 1e-4).all()
    assert np.mean(after < 0.99 * before) > 0.9


def test_with_orthogonal_atoms_refining_is_hard_thresholding():
    random = np.random.default_rng(1)
    dictionary = jnp.float32(np.linalg.qr(random.normal(size=(D, D)))[0])
    data = jnp.float32(random.normal(size=(B, D)))
    projections = data @ dictionary.T
    expected = jnp.where(0.5 * projections**2 > 0.8, projections, 0)
    found = refine_support(data, dictionary, jnp.zeros((B, D)), 0.8, D)
    np.testing.assert_array_equal(found != 0, expected != 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_data_and_codes_of_zeros_stay_so():
    zeros = jnp.zeros((2, D))
    dictionary = jnp.eye(D)
    assert not np.asarray(refine_support(zeros, dictionary, zeros, 0.1, 4)).any()
    assert not np.asarray(least_squares_on_support(zeros, dictionary, zeros, 4)).any()
