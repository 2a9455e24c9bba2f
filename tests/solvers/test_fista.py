"""FISTA against an independent solver, its certificate, and its independence of batch mates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import live_programs
from sklearn.linear_model import Lasso

from jvsc.data import load_patches
from jvsc.errors import UserError
from jvsc.solvers import fista, spectral_norm_bound


def problem(num_data=40, num_features=64, num_latents=96, norm=4.0, seed=0):
    random = np.random.default_rng(seed)
    dictionary = random.normal(size=(num_latents, num_features))
    dictionary *= norm / np.linalg.norm(dictionary, axis=1, keepdims=True)
    data = random.normal(size=(num_data, num_features))
    return data.astype(np.float32), dictionary.astype(np.float32)


def objective(data, codes, dictionary, penalty):
    data, codes, dictionary = (np.asarray(a, np.float64) for a in (data, codes, dictionary))
    return 0.5 * ((data - codes @ dictionary) ** 2).sum(1) + penalty * np.abs(codes).sum(1)


def lasso_cd(data, dictionary, penalty):
    """scikit-learn's coordinate descent, in float64, to its own tight tolerance."""
    solver = Lasso(alpha=penalty / data.shape[1], fit_intercept=False, tol=1e-9, max_iter=1_000_000)
    atoms = np.asfortranarray(dictionary.T, np.float64)
    return np.stack([solver.fit(atoms, row).coef_.copy() for row in data.astype(np.float64)])


@pytest.mark.parametrize("penalty", [0.3, 1.0, 3.0, 8.0])
def test_objective_is_within_1e_5_of_coordinate_descent(penalty):
    data, dictionary = problem()
    solution = fista(data, dictionary, penalty, tolerance=1e-5, max_iterations=50_000)
    ours = objective(data, solution.codes, dictionary, penalty)
    theirs = objective(data, lasso_cd(data, dictionary, penalty), dictionary, penalty)
    assert (ours <= theirs * (1 + 1e-5)).all()


def test_objective_is_within_1e_5_of_coordinate_descent_on_natural_images(natural_images):
    patches = load_patches(str(natural_images), num_train=2000, num_validation=60)
    atoms = patches.train[:256]
    dictionary = 12 * atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    data = patches.validation
    solution = fista(data, dictionary, 20.0, tolerance=1e-5, max_iterations=50_000)
    ours = objective(data, solution.codes, dictionary, 20.0)
    theirs = objective(data, lasso_cd(data, dictionary, 20.0), dictionary, 20.0)
    assert (ours <= theirs * (1 + 1e-5)).all()
    assert (np.asarray(solution.codes) != 0).mean() > 0.01


def test_the_gap_bounds_the_distance_to_the_optimum_even_when_stopped_early():
    data, dictionary = problem()
    best = objective(data, lasso_cd(data, dictionary, 1.0), dictionary, 1.0)
    for iterations in (1, 3, 10, 30):
        solution = fista(data, dictionary, 1.0, tolerance=1e-9, max_iterations=iterations)
        excess = objective(data, solution.codes, dictionary, 1.0) - best
        assert (excess <= np.asarray(solution.gap) + 1e-4).all()
        assert (excess > 0).any()


def test_the_gap_is_not_lost_to_cancellation_where_the_fit_is_close():
    """Against the gap of the same codes in float64, up to the rounding of the residual itself."""
    data, dictionary = problem(norm=1.0)
    penalty = 0.05
    solution = fista(data, dictionary, penalty, tolerance=1e-4, max_iterations=20_000)
    codes, x, atoms = (np.asarray(a, np.float64) for a in (solution.codes, data, dictionary))
    residual = x - codes @ atoms
    dual_point = residual * np.minimum(1, penalty / np.abs(residual @ atoms.T).max(1))[:, None]
    primal = objective(data, codes, dictionary, penalty)
    gap = primal - (np.sum(dual_point * x, 1) - 0.5 * np.sum(dual_point**2, 1))
    rounding = np.finfo(np.float32).eps * np.linalg.norm(x, axis=1) / penalty
    assert (primal < 0.1 * np.sum(x**2, 1)).all()
    assert (np.abs(np.asarray(solution.gap) - gap) < rounding * primal).all()


def test_no_bit_of_a_datum_depends_on_its_batch_mates():
    data, dictionary = problem()
    easy = fista(data, dictionary, 1.0, tolerance=1e-4)
    harder = np.concatenate([data[:8], 50 * data[8:]])
    hard = fista(harder, dictionary, 1.0, tolerance=1e-4, max_iterations=20_000)
    np.testing.assert_array_equal(easy.codes[:8], hard.codes[:8])
    np.testing.assert_array_equal(easy.gap[:8], hard.gap[:8])
    np.testing.assert_array_equal(easy.iterations[:8], hard.iterations[:8])
    assert int(hard.iterations.max()) > 2 * int(hard.iterations[:8].max())


def test_a_datum_alone_has_the_optimum_it_has_in_a_batch():
    data, dictionary = problem()
    together = fista(data, dictionary, 1.0, tolerance=1e-5)
    for index in range(5):
        alone = fista(data[index : index + 1], dictionary, 1.0, tolerance=1e-5)
        np.testing.assert_allclose(together.codes[index], alone.codes[0], atol=1e-3)


def test_converged_data_are_frozen():
    """Copies of an easy datum have bit-identical codes, however long the others take."""
    data, dictionary = problem(num_data=2)
    easy = fista(np.stack([data[0]] * 4), dictionary, 1.0, tolerance=1e-3)
    mixed = fista(np.stack([data[0], 50 * data[1]] * 2), dictionary, 1.0, tolerance=1e-3)
    np.testing.assert_array_equal(mixed.iterations[0], easy.iterations[0])
    np.testing.assert_array_equal(mixed.codes[0], easy.codes[0])


def test_reached_gap_is_the_tolerance_asked_for():
    data, dictionary = problem()
    for tolerance in (1e-2, 1e-4):
        solution = fista(data, dictionary, 1.0, tolerance=tolerance)
        reached = objective(data, solution.codes, dictionary, 1.0)
        rounding = np.finfo(np.float32).eps * np.linalg.norm(data, axis=1) * 4.0
        assert (np.asarray(solution.gap) <= (tolerance + rounding) * reached).all()
        assert (np.asarray(solution.gap) > 0).any()


def test_a_penalty_above_every_correlation_gives_the_zero_code_at_once():
    data, dictionary = problem()
    penalty = float(np.abs(data @ dictionary.T).max()) * 1.001
    solution = fista(data, dictionary, penalty)
    assert (solution.codes == 0).all()
    assert (solution.iterations == 0).all()


def test_orthonormal_atoms_give_the_soft_threshold_in_closed_form():
    data, _ = problem(num_features=32)
    atoms = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 32)))[0].astype(np.float32)
    expected = np.sign(data @ atoms.T) * np.maximum(np.abs(data @ atoms.T) - 0.5, 0)
    solution = fista(data, atoms, 0.5, tolerance=1e-7)
    np.testing.assert_allclose(solution.codes, expected, atol=1e-4)


def test_a_warm_start_at_the_optimum_takes_no_iteration():
    data, dictionary = problem()
    cold = fista(data, dictionary, 1.0, tolerance=1e-5)
    warm = fista(data, dictionary, 1.0, tolerance=1.1e-5, initial_codes=cold.codes)
    assert (warm.iterations == 0).all()
    assert int(cold.iterations.min()) > 5


def test_a_zero_dictionary_and_zero_data_give_zero_codes():
    data, dictionary = problem()
    assert (fista(data, 0 * dictionary, 1.0).codes == 0).all()
    assert (fista(0 * data, dictionary, 1.0).codes == 0).all()


def test_one_compilation_serves_every_penalty_and_tolerance():
    data, dictionary = problem(num_data=7)
    fista(data, dictionary, 2.0)
    before = live_programs()
    for penalty in (0.5, 1.0):
        for tolerance in (1e-3, 1e-4):
            fista(data, dictionary, penalty, tolerance=tolerance)
    assert live_programs() == before


@pytest.mark.parametrize("num_latents", [5, 96, 300])
def test_spectral_norm_bound_is_tight_and_never_too_small(num_latents):
    _, dictionary = problem(num_latents=num_latents)
    gram = jnp.asarray(dictionary @ dictionary.T)
    exact = np.linalg.eigvalsh(np.asarray(gram, np.float64))[-1]
    bound = float(spectral_norm_bound(gram))
    assert exact * (1 - 1e-5) <= bound <= exact * num_latents ** (1 / 128) * (1 + 1e-5)


def test_spectral_norm_bound_holds_where_every_direction_is_equally_long():
    bound = float(spectral_norm_bound(jnp.eye(256)))
    assert bound == pytest.approx(256 ** (1 / 128), rel=1e-4)
    assert float(spectral_norm_bound(jnp.zeros((8, 8)))) == 0.0


def test_shapes_and_penalties_that_do_not_fit_are_refused(without_type_checks):
    data, dictionary = problem()
    with pytest.raises(UserError, match="one atom a row"):
        fista(data, dictionary.T, 1.0)
    with pytest.raises(UserError, match="positive"):
        fista(data, dictionary, 0.0)


def test_it_runs_inside_jit_and_vmap():
    data, dictionary = problem(num_data=6)
    stacked = jnp.stack([dictionary, 2 * dictionary])
    solve = jax.jit(jax.vmap(lambda atoms: fista(jnp.asarray(data), atoms, 1.0).codes))
    codes = solve(stacked)
    for index in range(2):
        alone = fista(data, stacked[index], 1.0)
        np.testing.assert_allclose(codes[index], alone.codes, atol=1e-4)


SIZES = [1e-36, 1e-30, 1e-25, 1e-19, 1e-10, 1e10, 1e20, 1e30]


def small_problem():
    """Data, dictionary, and the solution at penalty 0.5 in units of one."""
    random = np.random.default_rng(0)
    data = random.normal(size=(12, 5)).astype(np.float32)
    dictionary = random.normal(size=(8, 5)).astype(np.float32)
    return data, dictionary, np.asarray(fista(data, dictionary, 0.5, tolerance=1e-6).codes)


def excess(codes, data, dictionary, penalty):
    """How far the objective is above the optimum, which scikit-learn knows, in float64."""
    best = objective(data, lasso_cd(data, dictionary, penalty), dictionary, penalty)
    return objective(data, codes, dictionary, penalty) - best


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("of", ["data", "dictionary", "both"])
def test_data_and_dictionaries_of_any_size_have_the_same_solution(size, of):
    data, dictionary, codes = small_problem()
    x, a = (size if of != "dictionary" else 1.0), (size if of != "data" else 1.0)
    solution = fista(
        np.float32(data * np.float64(x)),
        np.float32(dictionary * np.float64(a)),
        0.5 * x * a,  # down to 5e-73, which float32 cannot hold
        tolerance=1e-6,
    )
    found = np.asarray(solution.codes, np.float64) / (x / a)
    # At 1e-36 the smallest numbers of data and codes are below what float32 holds.
    np.testing.assert_allclose(found, codes, atol=1e-2 if size == 1e-36 else 1e-3)
    assert (solution.iterations > 0).all()


@pytest.mark.parametrize("size", [1e-40, 1e-36, 1e-25, 1e-19, 1e19, 1e25, 1e36])
def test_no_certificate_is_less_than_how_far_the_codes_are_off(size):
    """Codes are of size^2, which may leave float32: zeros, infinities and what is left of them."""
    data, dictionary, _ = small_problem()
    data, dictionary = data * np.float64(size), dictionary / np.float64(size)
    with np.errstate(all="ignore"):
        data, dictionary = np.float32(data), np.float32(dictionary)
    if not np.isfinite(dictionary).all():
        with pytest.raises(UserError, match="dictionary holds NaN or infinity"):
            fista(data, dictionary, 0.5)
        return
    solution = fista(data, dictionary, 0.5)
    data, dictionary = np.float64(data) / size, np.float64(dictionary) * size
    codes, gap = (np.asarray(a, np.float64) / size**2 for a in solution[:2])
    lost = ~np.isfinite(codes).all(axis=1)
    assert np.isnan(gap[lost]).all()
    if not lost.all():
        above = excess(codes[~lost], data[~lost], dictionary, 0.5)
        assert (np.isnan(gap[~lost]) | (above <= gap[~lost] + 1e-5)).all()


def test_rows_of_several_sizes_are_each_solved_in_their_own_units():
    data, dictionary, codes = small_problem()
    size = np.geomspace(1e-28, 1e28, 12)[:, None]
    solution = fista(data * size, dictionary, 0.5 * size, tolerance=1e-6)
    np.testing.assert_allclose(np.asarray(solution.codes, np.float64) / size, codes, atol=1e-3)


def test_numbers_beyond_float32_are_refused_or_marked():
    data, dictionary, _ = small_problem()
    for x, a in ((1e200, 1.0), (1e-200, 1.0), (1.0, 1e200), (1.0, 1e-60)):
        with pytest.raises(UserError, match="float32 cannot hold; scale it, or set JAX_ENABLE_X64"):
            fista(data * np.float64(x), dictionary * np.float64(a), 0.5)
    subnormal = np.float32(data * np.float64(1e-40))
    with pytest.raises(UserError, match="which float32 cannot hold; scale it"):
        fista(subnormal, dictionary, 0.5)
    assert np.isnan(fista(jnp.asarray(subnormal), dictionary, 0.5).gap).all()
    solve = jax.jit(lambda penalty: fista(data, dictionary, penalty))
    assert np.isnan(solve(np.float32(1e-40)).gap).all()


@pytest.mark.parametrize(
    "kind",
    [int, np.int8, np.uint8, np.uint64, ">i4", ">f4", ">f8", "f2", ">f2", "f4", "f8", "g", "bf16"],
)
def test_every_real_type_gives_the_solution(kind):
    kind = jnp.bfloat16 if kind == "bf16" else kind
    data, dictionary = np.ones((1, 4)), np.array([[10] * 4, [5] * 4])
    for one, other in (
        (data.astype(kind), dictionary.astype(kind)),
        (data.astype(kind), dictionary),
    ):
        solution = fista(one, other, 5.0)
        np.testing.assert_allclose(solution.codes, [[0.0875, 0]], atol=2e-4)
        assert solution.codes.dtype == np.float32
    with jax.enable_x64(True):
        solution = fista(data.astype(kind), dictionary.astype(kind), np.float32(5))
        double = np.dtype(kind) in (np.dtype("f8"), np.dtype("g"), np.dtype(">f8"))
        assert solution.codes.dtype == solution.gap.dtype == (np.float64 if double else np.float32)


def test_booleans_lists_and_mixtures_are_numbers():
    atoms = [[10.0] * 4, [5.0] * 4]
    for data, dictionary in (
        (np.ones((1, 4), bool), np.array(atoms)),
        (np.ones((1, 4), np.float16), np.array(atoms)),
        (jnp.ones((1, 4), int), np.array(atoms, ">f8")),
    ):
        np.testing.assert_allclose(fista(data, dictionary, 5).codes, [[0.0875, 0]], atol=2e-4)


@pytest.mark.parametrize("kind", [complex, str, object, "M8[s]"])
def test_what_is_not_a_real_number_is_refused(kind, without_type_checks):
    with pytest.raises(UserError, match="give real numbers"):
        fista(np.ones((1, 4), int).astype(kind), np.ones((2, 4)), 1.0)


def test_an_array_of_penalties_is_one_a_datum_with_as_many_atoms_too():
    data, dictionary, _ = small_problem()
    for count in (12, 8):
        penalties = np.geomspace(0.01, 5, count)
        for given in (penalties, penalties[:, None], jnp.asarray(penalties)):
            together = fista(data[:count], dictionary, given, tolerance=1e-6).codes
            for index in range(count):
                alone = fista(data[[index]], dictionary, penalties[index], tolerance=1e-6).codes[0]
                np.testing.assert_allclose(together[index], alone, atol=1e-4)
    solve = jax.jit(lambda penalties: fista(data[:8], dictionary, penalties, tolerance=1e-6).codes)
    np.testing.assert_allclose(solve(penalties), together, atol=1e-4)


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 12), (3,), (0,), (1, 12), (1, 12, 8)])
def test_penalties_of_no_shape_that_says_whose_they_are_are_refused(shape):
    data, dictionary, _ = small_problem()
    expected = r"give one number or \[N\] = \[12\], one a datum, \[1, K\] = \[1, 8\], one an atom"
    with pytest.raises(UserError, match=expected):
        fista(data, dictionary, np.full(shape, 0.5))
    with pytest.raises(UserError, match="one a datum"):
        jax.jit(lambda penalty: fista(data, dictionary, penalty).codes)(np.full(shape, 0.5))


def reference(data, dictionary, penalties, positive):
    """scikit-learn's codes for a penalty of each code, in float64.

    A code times its penalty has the penalty one if its atom is divided by it; one with an infinite
    penalty has no atom.
    """
    solver = Lasso(1 / data.shape[1], fit_intercept=False, positive=positive)
    solver.set_params(tol=1e-12, max_iter=1_000_000)
    codes = []
    for row, penalty in zip(np.float64(data), penalties, strict=True):
        atoms = np.float64(dictionary) / penalty[:, None]
        codes.append(solver.fit(atoms.T, row).coef_ / penalty)
    return np.stack(codes)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (12, 1), (1, 8), (12, 8)])
def test_penalties_of_data_atoms_and_codes_give_the_codes_of_scikit_learn(shape, positive):
    data, dictionary, _ = small_problem()
    penalty = np.random.default_rng(1).uniform(0.05, 1.5, shape)
    if shape[1] > 1:
        penalty[:, 2] = np.inf
    penalties = np.broadcast_to(penalty, (12, 8))
    expected = reference(data, dictionary, penalties, positive)
    assert 0.1 < np.mean(expected != 0) < 0.9
    finite = np.where(np.isinf(penalties), 0, penalties)
    best = objective(data, expected, dictionary, 0) + (finite * np.abs(expected)).sum(axis=1)
    with jax.enable_x64(True):
        exact = fista(np.float64(data), dictionary, penalty, positive=positive, tolerance=1e-13)
        np.testing.assert_allclose(exact.codes, expected, atol=1e-5)
    for solution in (
        exact,
        fista(data, dictionary, penalty, positive=positive),
        fista(data, dictionary, penalty, positive=positive, max_iterations=2),
        jax.jit(lambda given: fista(data, dictionary, given, positive=positive))(penalty),
    ):
        codes = np.asarray(solution.codes, np.float64)
        assert not codes[np.isinf(penalties)].any()
        if positive:
            assert (codes >= 0).all()
        reached = objective(data, codes, dictionary, 0) + (finite * np.abs(codes)).sum(axis=1)
        assert (reached - best <= np.asarray(solution.gap) + 1e-5).all()
    assert (np.asarray(exact.gap) <= 1e-12 * best).all()


def test_a_shared_penalty_is_one_for_each_atom_and_each_code_of_the_same_number():
    data, dictionary, codes = small_problem()
    for shape in ((12, 1), (1, 8), (12, 8)):
        penalty = np.full(shape, 0.5)
        found = fista(data, dictionary, penalty, tolerance=1e-6).codes
        np.testing.assert_allclose(found, codes, atol=1e-5)


def test_data_that_point_away_from_every_atom_have_no_positive_codes():
    """The dual is feasible at once there, however large the correlations are below zero."""
    dictionary = np.abs(small_problem()[1])
    solution = fista(-100 * dictionary[:4], dictionary, 0.5, positive=True)
    assert not np.asarray(solution.codes).any()
    np.testing.assert_array_equal(solution.gap, 0)
    np.testing.assert_array_equal(solution.iterations, 0)


@pytest.mark.parametrize("size", [1e-30, 1e-19, 1e10, 1e30])
def test_penalties_of_codes_and_positive_codes_are_in_units_of_the_data_too(size):
    data, dictionary, _ = small_problem()
    penalty = np.random.default_rng(1).uniform(0.05, 1.5, (12, 8))
    expected = fista(data, dictionary, penalty, positive=True, tolerance=1e-6).codes
    solution = fista(
        data * np.float64(size), dictionary, penalty * size, positive=True, tolerance=1e-6
    )
    np.testing.assert_allclose(np.float64(solution.codes) / size, expected, atol=1e-3)


def test_negative_codes_to_start_from_are_zeros_where_codes_are_positive():
    data, dictionary, _ = small_problem()
    start = np.full((12, 8), -1, np.float32)
    solution = fista(data, dictionary, 0.5, positive=True, initial_codes=start, max_iterations=0)
    assert not np.asarray(solution.codes).any()


@pytest.mark.parametrize(
    "penalty",
    [
        0,
        -1.0,
        float("nan"),
        np.float32(-1),
        np.float64(0),
        np.int32(0),
        np.array(np.nan),
        jnp.float32(-1),
        -np.inf,
        np.r_[np.ones(11), np.nan],
        np.r_[np.ones(11), 0],
        jnp.zeros(12),
    ],
)
def test_penalties_that_are_not_positive_are_refused(penalty):
    data, dictionary, _ = small_problem()
    with pytest.raises(UserError, match="give a positive number"):
        fista(data, dictionary, penalty)


@pytest.mark.parametrize("penalty", [np.inf, np.float32(np.inf), 1e300, np.full(12, np.inf)])
def test_an_infinite_penalty_gives_zeros_with_gap_zero(penalty):
    data, dictionary, _ = small_problem()
    for start in (None, np.ones((12, 8), np.float32)):
        solution = fista(data, dictionary, penalty, initial_codes=start)
        assert (solution.codes == 0).all()
        assert (solution.gap == 0).all()
        assert (solution.iterations == 0).all()
    solution = jax.jit(lambda penalty: fista(data, dictionary, penalty))(np.float32(np.inf))
    assert (solution.codes == 0).all()
    assert (solution.gap == 0).all()


def test_a_datum_that_is_not_finite_is_marked_and_takes_no_iteration_of_the_others():
    data, dictionary, _ = small_problem()
    whole = fista(data, dictionary, 0.5)
    broken, start = data.copy(), np.zeros((12, 8), np.float32)
    broken[3, 2], broken[5] = np.nan, np.inf
    start[7, 0] = np.nan
    penalty = np.full(12, 0.5, np.float32)
    lost = np.isin(np.arange(12), [3, 5, 7])
    for solve in (fista, jax.jit(fista)):
        solution = solve(broken, dictionary, penalty, initial_codes=start)
        assert np.isnan(solution.codes[lost]).all()
        assert np.isnan(solution.gap[lost]).all()
        assert (solution.iterations[lost] == 0).all()
        np.testing.assert_allclose(solution.codes[~lost], whole.codes[~lost], atol=1e-4)
        assert (solution.iterations[~lost] < 1000).all()


def test_a_dictionary_that_is_not_finite_is_refused_or_marks_all():
    data, dictionary, _ = small_problem()
    for wrong in (np.nan, np.inf):
        dictionary[2, 1] = wrong
        for given in (dictionary, jnp.asarray(dictionary)):
            with pytest.raises(UserError, match="dictionary holds NaN or infinity; leave such"):
                fista(data, given, 0.5)
        solution = jax.jit(lambda atoms: fista(data, atoms, 0.5))(dictionary)
        assert np.isnan(solution.gap).all()
        assert np.isnan(solution.codes).all()
        assert (solution.iterations == 0).all()


def test_a_start_of_enormous_codes_is_none():
    data, dictionary, codes = small_problem()
    start = np.full((12, 8), 1e30, np.float32)
    np.testing.assert_allclose(
        fista(data, dictionary, 0.5, initial_codes=start).codes, codes, atol=1e-2
    )


def test_double_precision_solves_float32_data_in_float32_to_the_same_codes():
    data, dictionary, _ = small_problem()
    with jax.enable_x64(False):
        single = fista(data, dictionary, 0.5)
    with jax.enable_x64(True):
        for penalty in (0.5, np.float64(0.5), jnp.asarray(0.5)):
            double = fista(data, dictionary, penalty)
            assert double.codes.dtype == double.gap.dtype == np.float32
            np.testing.assert_allclose(double.codes, single.codes, atol=1e-5)
        exact = fista(data.astype(np.float64), dictionary, 0.5, tolerance=1e-12)
        assert exact.codes.dtype == np.float64
        assert (exact.gap < 1e-11).all()


def test_it_can_be_exported_for_any_number_of_data(without_type_checks):
    data, dictionary, codes = small_problem()
    (count,) = jax.export.symbolic_shape("n")
    dictionary, penalty = jnp.asarray(dictionary), jnp.float32(0.5)
    solve = jax.jit(lambda x: fista(x, dictionary, penalty, tolerance=1e-6).codes)
    exported = jax.export.export(solve)(jax.ShapeDtypeStruct((count, 5), jnp.float32))
    np.testing.assert_allclose(exported.call(data[:7]), codes[:7], atol=1e-4)


@pytest.mark.parametrize("positive", [False, True])
def test_entries_that_are_not_there_count_for_nothing(positive):
    random = np.random.default_rng(5)
    data, atoms = random.normal(size=(6, 20)), random.normal(size=(30, 20))
    present = random.random(data.shape) < 0.5
    present[0] = False
    given = {"positive": positive, "tolerance": 1e-5}
    found = fista(np.where(present, data, np.nan), atoms, 0.3, present=present, **given)
    assert not np.any(found.codes[0])
    for row in range(1, 6):
        there = present[row]
        alone = fista(data[row : row + 1, there], atoms[:, there], 0.3, **given)

        def objective(codes, row=row, there=there):
            left = data[row, there] - codes @ atoms[:, there]
            return 0.5 * left @ left + 0.3 * np.abs(codes).sum()

        one, other = objective(found.codes[row]), objective(alone.codes[0])
        assert abs(one - other) < 2e-5 * other + 1e-6
        assert found.gap[row] < 2e-5 * one
    # Whatever stands there, such as what float32 cannot hold.
    beyond = fista(np.where(present, data, -1.7e308), atoms, 0.3, present=present, **given)
    np.testing.assert_array_equal(beyond.codes, found.codes)
    everything = fista(data, atoms, 0.3, present=np.ones_like(present), **given)
    np.testing.assert_allclose(everything.codes, fista(data, atoms, 0.3, **given).codes, atol=2e-3)


def test_a_mask_of_another_shape_is_refused(without_type_checks):
    data, present = np.ones((6, 20)), np.ones((6, 19), bool)
    with pytest.raises(UserError, match=r"present has the shape \(6, 19\); give the data's"):
        fista(data, np.eye(20), 0.3, present=present)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_no_data_and_no_atoms_have_empty_codes(kind):
    data, dictionary = np.ones((4, 3), kind), np.eye(3, dtype=kind)
    assert fista(data[:0], dictionary, 0.1).codes.shape == (0, 3)
    without_atoms = fista(data, dictionary[:0], 0.1)
    assert without_atoms.codes.shape == (4, 0)
    np.testing.assert_array_equal(without_atoms.gap, 0)
