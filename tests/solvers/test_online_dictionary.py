"""Online dictionary learning: atoms of known codes, constraints, and the same on any threads."""

import sys

import numpy as np
import pytest

from jvsc.errors import UserError
from jvsc.kernels.atoms import update_atoms
from jvsc.solvers import learn_dictionary
from jvsc.solvers.lasso import fastest_lasso


def known(num_data=4000, num_atoms=40, num_features=32, seed=0):
    """Data of three atoms each, and the atoms."""
    random = np.random.default_rng(seed)
    atoms = random.normal(size=(num_atoms, num_features))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = np.zeros((num_data, num_atoms))
    for row in codes:
        row[random.choice(num_atoms, 3, replace=False)] = random.choice([-1, 1], 3) * (
            1 + random.random(3)
        )
    return (codes @ atoms + 0.01 * random.normal(size=(num_data, num_features))), atoms


def test_the_atoms_that_made_the_data_are_found():
    data, atoms = known()
    learned = learn_dictionary(data, 40, 0.3, num_passes=20, batch_size=256)
    cosine = np.abs(learned @ atoms.T).max(axis=0)
    assert np.mean(cosine > 0.95) >= 0.95
    np.testing.assert_allclose(np.linalg.norm(learned, axis=1), 1, rtol=1e-5)


def test_a_pass_over_the_atoms_lowers_what_it_minimises_and_ends_where_nothing_changes():
    random = np.random.default_rng(0)
    codes, data = random.normal(size=(300, 20)), random.normal(size=(300, 8))
    codes[:, ::2] *= random.random((300, 10)) < 0.2
    codes_moment, cross_moment = codes.T @ codes, codes.T @ data
    atoms = random.normal(size=(20, 8))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)

    def error():
        return np.sum((data - codes @ atoms) ** 2)

    before = error()
    for _ in range(300):
        update_atoms(atoms, codes_moment, cross_moment, False, True, 1e-12)
        assert error() <= before + 1e-9
        before = error()
    fixed = atoms.copy()
    update_atoms(atoms, codes_moment, cross_moment, False, True, 1e-12)
    np.testing.assert_allclose(atoms, fixed, atol=1e-6)
    assert (np.linalg.norm(atoms, axis=1) < 1 + 1e-9).all()
    # Each atom is optimal given the others: the gradient is zero inside the ball, else along it.
    gradient = codes_moment @ atoms - cross_moment
    inside = np.linalg.norm(atoms, axis=1) < 0.999
    assert np.abs(gradient[inside]).max(initial=0) < 1e-4
    edge = gradient[~inside]
    across = edge - np.sum(edge * atoms[~inside], axis=1, keepdims=True) * atoms[~inside]
    assert np.abs(across).max(initial=0) < 1e-4


@pytest.mark.parametrize("bounded", [False, True])
def test_codes_and_atoms_that_are_not_negative(bounded):
    data = np.abs(known(1000)[0])
    learned = learn_dictionary(
        data, 12, 0.2, num_passes=3, positive_codes=True, positive_atoms=True, bounded=bounded
    )
    assert (learned >= 0).all()
    norms = np.linalg.norm(learned, axis=1)
    assert (norms < 1 + 1e-5).all()
    assert bounded or (norms > 1 - 1e-5).all()
    assert (fastest_lasso(data.astype(np.float32), learned, 0.2, positive=True).codes >= 0).all()


def test_the_number_of_threads_changes_nothing():
    numba = pytest.importorskip("numba")
    data, _ = known(1000)
    together = learn_dictionary(data, 40, 0.1, num_passes=2)
    numba.set_num_threads(1)
    try:
        alone = learn_dictionary(data, 40, 0.1, num_passes=2)
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(together, alone)


def test_a_start_is_begun_with_and_mistakes_are_named():
    data, atoms = known(600)
    near = learn_dictionary(data, 40, 0.1, dict_init=atoms)
    assert np.abs(np.sum(near * atoms, axis=1)).min() > 0.95
    with pytest.raises(UserError, match="do not fit"):
        learn_dictionary(data, 40, 0.1, dict_init=atoms[:, 1:])
    with pytest.raises(UserError, match="leave such rows out"):
        learn_dictionary(np.full((3, 4), np.nan), 2, 0.1)
    with pytest.raises(UserError, match=r"give \[N, D\]"):
        learn_dictionary(np.zeros((0, 4)), 2, 0.1)


def test_where_lasso_cannot_be_fista_learns_the_same(monkeypatch):
    pytest.importorskip("numba")
    data, _ = known(1000)
    compiled = learn_dictionary(data, 40, 0.3, num_passes=3)
    for module in ("jvsc.solvers.lasso", "jvsc.solvers.online_dictionary"):
        monkeypatch.setattr(sys.modules[module], "is_available", lambda: False)
    by_jax = learn_dictionary(data, 40, 0.3, num_passes=3)
    # Codes agree to their tolerance, 1e-3, which steps add up.
    assert np.sum(compiled * by_jax, axis=1).min() > 0.999


@pytest.mark.parametrize("size", [1e-200, 1e-38, 1e-30, 1e19, 1e37, 1e200])
def test_data_of_any_size_have_the_same_dictionary(size):
    data, _ = known(600)
    usual = learn_dictionary(data, 40, 0.1)
    learned = learn_dictionary(data * size, 40, 0.1 * size)
    # In other units of a power of two, but for the size's own rounding.
    assert np.sum(usual * learned, axis=1).min() > 0.999


def test_starts_of_any_size_serve():
    data, atoms = known(600)
    usual = learn_dictionary(data, 40, 0.1, dict_init=atoms)
    for size in (1e-30, 1e30):
        learned = learn_dictionary(data, 40, 0.1, dict_init=atoms * size)
        np.testing.assert_allclose(learned, usual, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_components": 0}, "n_components is 0; give a whole number of at least 1"),
        ({"n_components": 2.5}, "n_components is 2.5"),
        ({"n_components": 10**9}, "n_components: would take .* GB"),
        ({"penalty": 0}, "penalty is 0.0; give a positive number"),
        ({"penalty": np.ones(3)}, "give one number"),
        ({"num_passes": -1}, "num_passes is -1"),
        ({"num_passes": None}, "num_passes is None"),
        ({"batch_size": 0}, "batch_size is 0; give a whole number of at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"dict_init": np.ones((3, 32))}, "dict_init has 3 atoms, but n_components is 40"),
        ({"data": np.zeros((3, 0))}, "at least one of each"),
    ],
)
def test_arguments_that_do_not_serve_are_named(change, message, without_type_checks):
    data, _ = known(50)
    with pytest.raises(UserError, match=message):
        learn_dictionary(**({"data": data, "n_components": 40, "penalty": 0.1} | change))
