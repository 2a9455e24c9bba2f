"""The CPU's lasso solver against scikit-learn's and against the conditions of optimality."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from jvsc.errors import UserError
from jvsc.solvers import fista

pytest.importorskip("numba", reason="Numba is not installed: pip install 'jvsc[numba]'")
from jvsc.solvers import lasso
from jvsc.solvers.lasso import check_lasso


def problem(
    num_data=40, num_atoms=48, num_features=32, seed=0, dtype: type[np.floating] = np.float64
):
    """Data that are sparse in a dictionary of correlated atoms, and noise."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(1, num_features))
    dictionary = random.normal(size=(num_atoms, num_features)) + common
    dictionary *= random.uniform(0.5, 2.0, (num_atoms, 1)) / num_features**0.5
    codes = random.normal(size=(num_data, num_atoms)) * (random.random((num_data, num_atoms)) < 0.1)
    data = codes @ dictionary + 0.1 * random.normal(size=(num_data, num_features))
    return data.astype(dtype), dictionary.astype(dtype)


def objective(codes, data, dictionary, penalty):
    codes, data, dictionary = (np.asarray(x, np.float64) for x in (codes, data, dictionary))
    residual = data - codes @ dictionary
    return 0.5 * (residual**2).sum(axis=1) + penalty * np.abs(codes).sum(axis=1)


def violation(codes, data, dictionary, penalty):
    """How far each datum is from satisfying the subgradient's conditions, relative to lambda."""
    correlation = (data - codes @ dictionary) @ dictionary.T
    off = np.where(
        codes != 0, np.abs(correlation - penalty * np.sign(codes)), np.abs(correlation) - penalty
    )
    return np.maximum(off, 0).max(axis=1) / penalty


@pytest.mark.parametrize("penalty", [0.5, 0.05, 0.005])
def test_the_conditions_of_optimality_hold_in_float64(penalty):
    data, dictionary = problem()
    codes = lasso(data, dictionary, penalty, tolerance=1e-12)
    assert codes.dtype == np.float64
    assert 0 < np.mean(codes != 0) < 0.8
    assert violation(codes, data, dictionary, penalty).max() < 1e-4


@pytest.mark.parametrize("penalty", [0.5, 0.05])
def test_the_objective_is_that_of_scikit_learn_and_of_fista(penalty):
    data, dictionary = problem()
    solver = Lasso(penalty / data.shape[1], fit_intercept=False, tol=1e-10, max_iter=100_000).fit(
        dictionary.T, data.T
    )
    best = objective(solver.coef_, data, dictionary, penalty)
    single = data.astype(np.float32), dictionary.astype(np.float32)
    for codes in (
        lasso(data, dictionary, penalty),
        lasso(*single, penalty),
        fista(*single, penalty).codes,
    ):
        assert np.max(objective(codes, data, dictionary, penalty) / best) < 1 + 1e-5


@pytest.mark.parametrize("penalty", [0.5, 0.05, 0.005])
def test_many_data_are_solved_by_their_signs_as_few_are_by_descent(penalty):
    """Only as many data as atoms pay for the splitting."""
    data, dictionary = problem(num_data=300)
    codes = lasso(data, dictionary, penalty, tolerance=1e-12)
    assert violation(codes, data, dictionary, penalty).max() < 1e-4
    few = np.concatenate(
        [lasso(data[i : i + 30], dictionary, penalty, tolerance=1e-12) for i in range(0, 300, 30)]
    )
    np.testing.assert_allclose(codes, few, atol=1e-5)
    again = lasso(data, dictionary, penalty, initial_codes=codes, max_iterations=1)
    np.testing.assert_allclose(again, codes, atol=1e-5)


@pytest.mark.parametrize("num_data", [30, 300])
@pytest.mark.parametrize("penalty", [0.1, 0.003])
def test_float32_meets_the_optimum_where_atoms_are_twice_the_features(num_data, penalty):
    """Such supports' Gram matrices are singular, and rounding makes them indefinite."""
    data, dictionary = problem(num_data, num_atoms=256, num_features=128, dtype=np.float32)
    codes = lasso(data, dictionary, penalty)
    few = data[:10].astype(np.float64), dictionary.astype(np.float64)
    best = objective(lasso(*few, penalty, tolerance=1e-9), *few, penalty)
    assert np.max(objective(codes[:10], *few, penalty) / best) < 1 + 1e-4
    assert np.all(objective(codes, data, dictionary, penalty) < 0.5 * (data**2).sum(axis=1))


def test_an_absent_dictionary_has_no_codes():
    data, dictionary = problem(num_data=100)
    assert not lasso(data, np.zeros_like(dictionary), 0.1).any()
    assert lasso(data, dictionary[:0], 0.1).shape == (100, 0)


def test_rows_of_zeros_and_a_single_atom():
    data, dictionary = problem(num_data=100)
    data[::3] = 0
    codes = lasso(data, dictionary, 0.05, initial_codes=np.ones((100, 48)))
    assert not codes[::3].any()
    assert violation(codes[1::3], data[1::3], dictionary, 0.05).max() < 1e-2
    alone = lasso(data, dictionary[:1], 0.05, tolerance=1e-9)
    assert violation(alone, data, dictionary[:1], 0.05).max() < 1e-6


def test_more_atoms_than_features_twice_the_same_and_one_of_zeros():
    """The support's Gram matrix is singular where Newton's step cannot be taken."""
    data, dictionary = problem(num_atoms=80, num_features=20)
    dictionary = np.concatenate([dictionary, dictionary, np.zeros((1, 20))])
    codes = lasso(data, dictionary, 1e-3, tolerance=1e-8, max_iterations=20_000)
    assert violation(codes, data, dictionary, 1e-3).max() < 1e-2
    assert not codes[:, -1].any()


def test_a_large_penalty_leaves_nothing():
    data, dictionary = problem()
    largest = np.abs(data @ dictionary.T).max()
    assert not lasso(data, dictionary, 1.001 * largest).any()
    assert lasso(data, dictionary, 0.99 * largest).any()


def test_a_datum_does_not_depend_on_the_others_and_a_solution_is_kept():
    data, dictionary = problem(dtype=np.float32)
    codes = lasso(data, dictionary, 0.05)
    np.testing.assert_allclose(lasso(data[3:4], dictionary, 0.05), codes[3:4], atol=1e-4)
    again = lasso(data, dictionary, 0.05, initial_codes=codes, max_iterations=1)
    np.testing.assert_array_equal(again != 0, codes != 0)
    assert lasso(data[:0], dictionary, 0.05).shape == (0, 48)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": 0.0}, "penalty is 0.0; give a positive number"),
        ({"penalty": np.float32(-1)}, "penalty is -1.0; give a positive number"),
        ({"penalty": np.array(np.nan)}, "penalty is nan; give a positive number"),
        (
            {"initial_codes": np.full((40, 48), np.nan)},
            "initial_codes hold NaN or infinity; leave them out",
        ),
        ({"data": np.full((2, 32), np.nan)}, "leave such rows out"),
    ],
)
def test_mistakes_are_named(change, message):
    data, dictionary = problem()
    arguments = {"data": data, "dictionary": dictionary, "penalty": 0.1} | change
    with pytest.raises(UserError, match=message):
        lasso(**arguments)


def test_data_that_do_not_fit_the_dictionary_are_named():
    with pytest.raises(UserError, match=r"data \(2, 32\) and dictionary \(3, 5\) do not fit"):
        check_lasso((2, 32), (3, 5), 0.1)


def test_calls_in_several_threads_agree_and_leave_blas_as_it_was():
    from threadpoolctl import threadpool_info

    def limits():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    data, dictionary = problem(num_data=400)
    before, alone = limits(), lasso(data, dictionary, 0.05)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda _: lasso(data, dictionary, 0.05), range(12)))
    for codes in together:
        np.testing.assert_array_equal(codes, alone)
    assert limits() == before
