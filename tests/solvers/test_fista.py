"""FISTA against an independent solver, its certificate, and its independence of batch mates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
    from jvsc.solvers.fista import _solve

    data, dictionary = problem(num_data=7)
    before = _solve._cache_size()  # pyright: ignore[reportFunctionMemberAccess]
    for penalty in (0.5, 1.0):
        for tolerance in (1e-3, 1e-4):
            fista(data, dictionary, penalty, tolerance=tolerance)
    assert _solve._cache_size() == before + 1  # pyright: ignore[reportFunctionMemberAccess]


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
