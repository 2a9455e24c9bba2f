"""The CPU's lasso solver against scikit-learn's and against the conditions of optimality."""

from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Lasso

from jvsc.errors import UserError
from jvsc.solvers import fista

pytest.importorskip("numba", reason="Numba is not installed: pip install 'jvsc[numba]'")
from jvsc.kernels.lasso.all_data import solve_on_sets
from jvsc.solvers import lasso
from jvsc.solvers.problem import check_shapes


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
    codes = lasso(data, dictionary, penalty, tolerance=1e-12).codes
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
        lasso(data, dictionary, penalty).codes,
        lasso(*single, penalty).codes,
        fista(*single, penalty).codes,
    ):
        assert np.max(objective(codes, data, dictionary, penalty) / best) < 1 + 1e-5


@pytest.mark.parametrize("penalty", [0.5, 0.05, 0.005])
def test_many_data_are_solved_by_their_signs_as_few_are_by_descent(penalty):
    """Only as many data as atoms pay for the splitting."""
    data, dictionary = problem(num_data=300)
    codes = lasso(data, dictionary, penalty, tolerance=1e-12).codes
    assert violation(codes, data, dictionary, penalty).max() < 1e-4
    few = np.concatenate(
        [
            lasso(data[i : i + 30], dictionary, penalty, tolerance=1e-12).codes
            for i in range(0, 300, 30)
        ]
    )
    np.testing.assert_allclose(codes, few, atol=1e-5)
    again = lasso(data, dictionary, penalty, initial_codes=codes, max_iterations=1).codes
    np.testing.assert_allclose(again, codes, atol=1e-5)


@pytest.mark.parametrize(
    ("penalty", "num_data"),
    [(0.1, 30), (0.1, 300), (0.003, 30), pytest.param(0.003, 300, marks=pytest.mark.slow)],
)
def test_float32_meets_the_optimum_where_atoms_are_twice_the_features(num_data, penalty):
    """Such supports' Gram matrices are singular, and rounding makes them indefinite."""
    data, dictionary = problem(num_data, num_atoms=256, num_features=128, dtype=np.float32)
    codes = lasso(data, dictionary, penalty).codes
    few = data[:10].astype(np.float64), dictionary.astype(np.float64)
    best = objective(lasso(*few, penalty, tolerance=1e-9).codes, *few, penalty)
    assert np.max(objective(codes[:10], *few, penalty) / best) < 1 + 1e-4
    assert np.all(objective(codes, data, dictionary, penalty) < 0.5 * (data**2).sum(axis=1))


def test_an_absent_dictionary_has_no_codes():
    data, dictionary = problem(num_data=100)
    assert not lasso(data, np.zeros_like(dictionary), 0.1).codes.any()
    assert lasso(data, dictionary[:0], 0.1).codes.shape == (100, 0)


def test_rows_of_zeros_and_a_single_atom():
    data, dictionary = problem(num_data=100)
    data[::3] = 0
    codes = lasso(data, dictionary, 0.05, initial_codes=np.ones((100, 48))).codes
    assert not codes[::3].any()
    assert violation(codes[1::3], data[1::3], dictionary, 0.05).max() < 1e-2
    alone = lasso(data, dictionary[:1], 0.05, tolerance=1e-9).codes
    assert violation(alone, data, dictionary[:1], 0.05).max() < 1e-6


def test_more_atoms_than_features_twice_the_same_and_one_of_zeros():
    """The support's Gram matrix is singular where Newton's step cannot be taken."""
    data, dictionary = problem(num_atoms=80, num_features=20)
    dictionary = np.concatenate([dictionary, dictionary, np.zeros((1, 20))])
    codes = lasso(data, dictionary, 1e-3, tolerance=1e-8, max_iterations=20_000).codes
    assert violation(codes, data, dictionary, 1e-3).max() < 1e-2
    assert not codes[:, -1].any()


def test_a_large_penalty_leaves_nothing():
    data, dictionary = problem()
    largest = np.abs(data @ dictionary.T).max()
    assert not lasso(data, dictionary, 1.001 * largest).codes.any()
    assert lasso(data, dictionary, 0.99 * largest).codes.any()


def test_a_datum_does_not_depend_on_the_others_and_a_solution_is_kept():
    data, dictionary = problem(dtype=np.float32)
    codes = lasso(data, dictionary, 0.05).codes
    np.testing.assert_allclose(lasso(data[3:4], dictionary, 0.05).codes, codes[3:4], atol=1e-4)
    again = lasso(data, dictionary, 0.05, initial_codes=codes, max_iterations=1).codes
    np.testing.assert_array_equal(again != 0, codes != 0)
    assert lasso(data[:0], dictionary, 0.05).codes.shape == (0, 48)
    without_atoms = lasso(data, dictionary[:0], 0.05)
    assert without_atoms.codes.shape == (40, 0)
    np.testing.assert_array_equal(without_atoms.gap, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": 0.0}, "penalty is 0.0; give a positive number"),
        ({"penalty": np.float32(-1)}, "penalty is -1.0; give a positive number"),
        ({"penalty": np.array(np.nan)}, "penalty is nan; give a positive number"),
        ({"penalty": np.r_[np.ones(39), 0]}, "penalty holds 0.0; give a positive number"),
        ({"penalty": np.ones(48)}, r"give one number or \[N\] = \[40\], one a datum"),
        ({"penalty": np.ones((48, 1))}, "one an atom, or"),
        ({"data": np.ones((2, 32), complex)}, "data is of type complex128; give real numbers"),
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
        check_shapes((2, 32), (3, 5))


def test_calls_in_several_threads_agree_and_leave_blas_as_it_was():
    from threadpoolctl import threadpool_info

    def limits():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    data, dictionary = problem(num_data=400)
    before, alone = limits(), lasso(data, dictionary, 0.05).codes
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda _: lasso(data, dictionary, 0.05).codes, range(12)))
    for codes in together:
        np.testing.assert_array_equal(codes, alone)
    assert limits() == before


def test_the_gap_tells_who_missed_the_tolerance():
    data, dictionary = problem()
    exact = lasso(data, dictionary, 0.005, tolerance=1e-10)
    best = objective(exact.codes, data, dictionary, 0.005)
    assert (exact.gap <= 1e-10 * best).all()
    assert (exact.iterations > 0).any()  # of the others the signs gave the codes
    few = lasso(data[:10], dictionary, 0.005, tolerance=1e-10)  # too few to split
    assert (few.iterations > 0).all()
    assert (exact.iterations < 1000).all()
    for count in (0, 1, 5):
        stopped = lasso(data, dictionary, 0.005, tolerance=1e-10, max_iterations=count)
        reached = objective(stopped.codes, data, dictionary, 0.005)
        assert (reached - best <= stopped.gap + 1e-12).all()
        missed = stopped.gap > 1e-10 * reached
        assert missed.any()
        assert (stopped.iterations[missed] == count).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_data", [12, 120])
def test_the_gap_is_that_of_fista_for_the_same_codes(dtype, num_data):
    """By signs or by descent; the certificate knows nothing of how codes were found."""
    data, dictionary = problem(num_data, dtype=dtype)
    solution = lasso(data, dictionary, 0.1, tolerance=1e-3)
    assert solution.codes.dtype == solution.gap.dtype == dtype
    best = objective(lasso(data.astype(np.float64), dictionary, 0.1).codes, data, dictionary, 0.1)
    reached = objective(solution.codes, data, dictionary, 0.1)
    assert (reached - best <= solution.gap + 1e-5 * best).all()
    assert (solution.gap <= 2e-3 * reached).all()


@pytest.mark.parametrize("num_data", [40, 300])
def test_an_array_of_penalties_is_one_a_datum(num_data):
    """Of which the splitting has thresholds, and descent its own path."""
    data, dictionary = problem(num_data)
    penalties = np.geomspace(1e-3, 10, num_data)
    together = lasso(data, dictionary, penalties, tolerance=1e-12).codes
    np.testing.assert_array_equal(
        lasso(data, dictionary, penalties[:, None], tolerance=1e-12).codes, together
    )
    for index in range(0, num_data, 7):
        alone = lasso(data[[index]], dictionary, penalties[index], tolerance=1e-12).codes[0]
        np.testing.assert_allclose(together[index], alone, atol=1e-4)
    square = lasso(data[:48], dictionary[: len(data[:48])], penalties[:48], tolerance=1e-12).codes
    alone = lasso(data[[3]], dictionary[: len(data[:48])], penalties[3], tolerance=1e-12).codes[0]
    np.testing.assert_allclose(square[3], alone, atol=1e-4)


@pytest.mark.parametrize("num_data", [40, 300])
@pytest.mark.parametrize("penalty", [np.inf, np.float32(np.inf), 1e300])
def test_an_infinite_penalty_gives_zeros_with_gap_zero(num_data, penalty):
    data, dictionary = problem(num_data)
    start = np.ones((num_data, 48))
    for given in (None, start):
        solution = lasso(data, dictionary, penalty, initial_codes=given)
        assert not solution.codes.any()
        assert not solution.gap.any()


@pytest.mark.parametrize("size", [1e-36, 1e-25, 1e-19, 1e-10, 1e10, 1e20, 1e30])
@pytest.mark.parametrize("of", ["data", "dictionary", "both"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_and_dictionaries_of_any_size_have_the_same_solution(size, of, dtype):
    data, dictionary = problem()
    best = objective(lasso(data, dictionary, 0.05).codes, data, dictionary, 0.05)
    x, a = (size if of != "dictionary" else 1.0), (size if of != "data" else 1.0)
    solution = lasso((data * x).astype(dtype), (dictionary * a).astype(dtype), 0.05 * x * a)
    found = solution.codes.astype(np.float64) / (x / a)
    above = objective(found, data, dictionary, 0.05) - best
    assert (above <= 1e-4 * best).all()
    gap = solution.gap.astype(np.float64) / x**2
    assert (above <= gap + 1e-4 * best).all()


@pytest.mark.parametrize("kind", [int, np.int8, ">i4", ">f4", ">f8", "f2", "f4", "f8", "g", "bf16"])
def test_every_real_type_gives_the_solution(kind):
    kind = jnp.bfloat16 if kind == "bf16" else kind
    data, dictionary = np.ones((1, 4)), np.array([[10] * 4, [5] * 4])
    codes = lasso(data.astype(kind), dictionary.astype(kind), 5).codes
    np.testing.assert_allclose(codes, [[0.0875, 0]], atol=1e-5)
    assert codes.dtype == (
        np.float64 if np.dtype(kind).str in (">f8", "<f8", "<f16") else np.float32
    )
    codes = lasso(data.astype(np.float16), dictionary.astype(kind), 5).codes
    np.testing.assert_allclose(codes, [[0.0875, 0]], atol=1e-5)
    np.testing.assert_allclose(lasso(data.astype(bool), dictionary, 5).codes, [[0.0875, 0]], 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_data", [40, 300])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("kind", ["one", "atom", "code"])
def test_penalties_of_atoms_and_codes_and_codes_that_are_not_negative(
    dtype, num_data, positive, kind
):
    """Against FISTA, which knows nothing of working sets; the gap certifies both."""
    data, dictionary = problem(num_data, dtype=dtype)
    shape = {"one": (1, 1), "atom": (1, 48), "code": (num_data, 48)}[kind]
    penalty = np.random.default_rng(1).uniform(0.02, 0.2, shape)
    penalty[0, 0] = np.inf if kind != "one" else 0.05
    codes, gap, _ = lasso(data, dictionary, penalty, positive=positive)
    best = fista(data, dictionary, penalty, positive=positive, tolerance=1e-6).codes

    def objectives(codes):
        residual = data - np.asarray(codes, np.float64) @ dictionary
        finite = np.where(np.isinf(penalty), 0, penalty)
        return 0.5 * (residual**2).sum(axis=1) + (finite * np.abs(codes)).sum(axis=1)

    above = objectives(codes) / objectives(best) - 1
    assert np.abs(above).max() < 2e-5
    # In float32 1e-7 ||x|| ||a|| / penalty is as closely as it is known.
    assert (gap <= (1e-4 if dtype == np.float32 else 1.1e-5) * objectives(codes)).all()
    assert not positive or (codes >= 0).all()
    assert kind == "one" or not codes[0, 0]


@pytest.mark.parametrize("penalty", [0.5, 0.05])
def test_codes_are_the_same_whatever_the_batch_and_the_number_of_threads(penalty):
    import numba

    data, dictionary = problem(600, num_atoms=96, dtype=np.float32)
    codes = lasso(data, dictionary, penalty).codes
    parts = [lasso(part, dictionary, penalty).codes for part in np.array_split(data, 7)]
    numba.set_num_threads(1)
    try:
        alone = lasso(data, dictionary, penalty).codes
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(alone, codes)
    np.testing.assert_array_equal(lasso(data[::-1], dictionary, penalty).codes[::-1], codes)
    together = objective(codes, data, dictionary, penalty)
    apart = objective(np.concatenate(parts), data, dictionary, penalty)
    np.testing.assert_allclose(apart, together, rtol=2e-5)


@pytest.mark.parametrize("penalty", [1e-6, 1e-8])
def test_a_penalty_that_float32_would_lose_is_solved_in_float64(penalty):
    random = np.random.default_rng(0)
    data = random.normal(size=(8, 16)).astype(np.float32)
    atoms = random.normal(size=(24, 16)).astype(np.float32)
    solution = lasso(data, atoms, penalty)
    exact = lasso(data.astype(np.float64), atoms.astype(np.float64), penalty, tolerance=1e-9).codes
    assert solution.codes.dtype == np.float32
    np.testing.assert_allclose(solution.codes, exact, atol=2e-3)
    np.testing.assert_allclose(solution.codes @ atoms, data, atol=1e-3)


def test_a_row_of_huge_norm_has_codes_and_one_beyond_all_rounding_is_refused():
    random = np.random.default_rng(0)
    data, atoms = random.normal(size=(4, 5)), random.normal(size=(8, 5))
    data[3] *= 1e9
    narrow = lasso(data.astype(np.float32), atoms.astype(np.float32), 0.5).codes
    left = data[3] - narrow[3].astype(np.float64) @ atoms
    assert np.linalg.norm(left) < 1e-6 * np.linalg.norm(data[3])
    with pytest.raises(UserError, match="penalty is lost in float64's rounding"):
        lasso(data, atoms, 1e-20)


def test_codes_that_their_type_cannot_hold_are_refused():
    data, atoms = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    with pytest.raises(UserError, match="codes are too large for float32"):
        lasso(data * np.float32(1e20), atoms * np.float32(1e-20), 0.5)


def test_arrays_in_any_order_and_only_to_be_read_are_solved_by_the_same_code():
    random = np.random.default_rng(0)
    data, atoms = random.normal(size=(12, 5)), random.normal(size=(8, 5))
    codes, compiled = lasso(data, atoms, 0.5).codes, len(solve_on_sets.signatures)
    read_only = [np.frombuffer(part.tobytes()).reshape(part.shape) for part in (data, atoms)]
    np.testing.assert_array_equal(lasso(*read_only, 0.5).codes, codes)
    columns = [np.asfortranarray(part) for part in (data, atoms)]
    np.testing.assert_array_equal(lasso(*columns, 0.5).codes, codes)
    np.testing.assert_array_equal(lasso(data, atoms, 0.5, max_iterations=10**12).codes, codes)
    assert len(solve_on_sets.signatures) == compiled


@pytest.mark.parametrize("solve", [lasso, fista])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_iterations": 2.5}, "max_iterations is 2.5; give a whole number"),
        ({"max_iterations": None}, "max_iterations is None"),
        ({"max_iterations": -1}, "max_iterations is -1"),
        ({"tolerance": np.nan}, "tolerance is nan; give a number of at least 0"),
        ({"tolerance": "a"}, "tolerance is 'a'"),
        ({"initial_codes": np.zeros((3, 4))}, r"give \[N, K\] = \[12, 8\]"),
    ],
)
def test_arguments_that_do_not_serve_are_named(solve, option, message, without_type_checks):
    with pytest.raises(UserError, match=message):
        solve(np.ones((12, 5)), np.ones((8, 5)), 0.5, **option)


@pytest.mark.parametrize("solve", [lasso, fista])
def test_masked_values_and_time_spans_are_no_numbers(solve, without_type_checks):
    with pytest.raises(UserError, match="data has masked values"):
        solve(np.ma.array(np.ones((2, 3)), mask=np.eye(2, 3)), np.ones((4, 3)), 0.5)
    with pytest.raises(UserError, match="give real numbers"):
        solve(np.zeros((2, 3), "m8[s]"), np.ones((4, 3)), 0.5)
