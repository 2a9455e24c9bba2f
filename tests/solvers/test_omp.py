"""Orthogonal matching pursuit against scikit-learn's, compiled and by JAX."""

import sys

import numpy as np
import pytest
from sklearn.linear_model import orthogonal_mp

from jvsc.errors import UserError
from jvsc.solvers import omp


def problem(dtype: type = np.float64, num_data=60, num_atoms=48, num_features=32):
    random = np.random.default_rng(0)
    atoms = random.normal(size=(num_atoms, num_features)) + 0.5 * random.normal(size=num_features)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = random.normal(size=(num_data, num_atoms)) * (random.random((num_data, num_atoms)) < 0.1)
    data = codes @ atoms + 0.05 * random.normal(size=(num_data, num_features))
    return data.astype(dtype), atoms.astype(dtype)


@pytest.fixture(params=["compiled", "jax"])
def way(request, monkeypatch):
    if request.param == "jax":
        # The package's name of the module is the function's.
        monkeypatch.setattr(sys.modules["jvsc.solvers.omp"], "is_available", lambda: False)
        return 1e-4  # JAX codes in float32
    pytest.importorskip("numba")
    return 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_number_of_non_zeros_gives_scikit_learns_codes(way, dtype, count):
    data, atoms = problem(dtype)
    codes = omp(data, atoms, count)
    assert codes.dtype == dtype
    assert ((codes != 0).sum(axis=1) == count).all()
    wide = data.astype(np.float64), atoms.astype(np.float64)
    exact = orthogonal_mp(wide[1].T, wide[0].T, n_nonzero_coefs=count).T
    same = ((codes != 0) == (exact != 0)).all(axis=1)
    # Near ties may be chosen otherwise in float32.
    assert same.mean() >= (0.95 if dtype == np.float32 else 1)
    np.testing.assert_allclose(codes[same], exact[same], atol=1e-4)


def test_a_residual_ends_it(way):
    data, atoms = problem()
    tolerance = np.linspace(0.01, 1, len(data))
    codes = omp(data, atoms, tolerance=tolerance)
    residual = data - codes @ atoms
    assert (np.sum(residual**2, axis=1) <= tolerance + way).all()
    for i in range(0, len(data), 9):
        exact = orthogonal_mp(atoms.T, data[i], tol=tolerance[i])
        np.testing.assert_allclose(codes[i], exact, atol=max(way, 1e-7))
    both = omp(data, atoms, 2, tolerance=tolerance)
    assert (both != 0).sum(axis=1).max() == 2


def test_a_small_residual_is_measured_not_subtracted(way):
    random = np.random.default_rng(0)
    atoms = random.normal(size=(128, 64)).astype(np.float32)
    data = random.normal(size=(60, 64)).astype(np.float32)
    tolerance = 1e-7 * np.sum(data.astype(np.float64) ** 2, axis=1)
    residual = data - omp(data, atoms, tolerance=tolerance).astype(np.float64) @ atoms
    assert (np.sum(residual**2, axis=1) <= 1.1 * tolerance).all()


def test_without_a_tolerance_small_components_are_found_too(way):
    """Of squares that float32 loses beside the datum's own."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0].astype(np.float32)
    values = np.zeros((50, 16), np.float32)
    values[:, 0] = np.linspace(0.9, 1.1, 50)
    values[:, 1:6] = 5e-5 * np.arange(1, 6)
    codes = omp(values @ rotation, rotation, 6)
    assert (np.count_nonzero(codes, axis=1) == 6).all()
    np.testing.assert_allclose(codes, values, atol=1e-6)


def test_atoms_of_any_norm_and_data_of_any_size(way):
    data, atoms = problem()
    codes = omp(data, atoms, 4)
    norms = np.geomspace(1e-100, 1e100, len(atoms))[:, None]
    np.testing.assert_allclose(omp(data, atoms * norms, 4) * norms.T, codes, rtol=max(way, 1e-6))
    np.testing.assert_allclose(omp(data * 1e200, atoms, 4), codes * 1e200, rtol=way)
    np.testing.assert_allclose(omp(data * 1e-200, atoms, 4), codes * 1e-200, rtol=way)


def test_it_ends_where_nothing_is_left(way):
    data, atoms = problem()
    twice = np.concatenate([atoms[:3], atoms[:3], np.zeros((1, 32))])
    codes = omp(np.concatenate([atoms[:1], np.zeros((1, 32)), data[:2]]), twice, 7)
    np.testing.assert_allclose(codes[0, 0], 1, rtol=max(way, 1e-7))
    assert (codes != 0).sum(axis=1).tolist()[:2] == [1, 0]
    assert ((codes[2:] != 0).sum(axis=1) <= 3).all()
    assert not codes[:, -1].any()
    assert omp(data[:0], atoms, 2).shape == (0, 48)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "give n_nonzero, tolerance or both"),
        ({"n_nonzero": 0}, "from 1 to 32"),
        ({"n_nonzero": 33}, "from 1 to 32"),
        ({"n_nonzero": True}, "n_nonzero is True"),
        ({"dictionary": np.full((4, 32), 1e-310), "n_nonzero": 1}, "too large for float64"),
        ({"tolerance": -1.0}, "give 0 or more"),
        ({"tolerance": np.ones(3)}, r"one number or \[N\]"),
        ({"data": np.full((2, 32), np.inf), "n_nonzero": 1}, "leave such rows out"),
    ],
)
def test_mistakes_are_named(change, message):
    data, atoms = problem()
    with pytest.raises(UserError, match=message):
        omp(**({"data": data, "dictionary": atoms} | change))
