"""Proximal gradient for generators that are not linear, against FISTA and against optimality."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvsc.errors import UserError
from jvsc.solvers import fista, proximal_gradient


def linear_problem(num_data=20, num_features=32, num_latents=48):
    random = np.random.default_rng(0)
    dictionary = random.normal(size=(num_latents, num_features)).astype(np.float32)
    return random.normal(size=(num_data, num_features)).astype(np.float32), dictionary


def test_a_linear_generator_gives_fistas_optimum():
    data, dictionary = linear_problem()
    fit = lambda codes: 0.5 * jnp.sum((data - codes @ dictionary) ** 2, axis=-1)  # noqa: E731
    found = proximal_gradient(fit, jnp.zeros((20, 48)), 1.0, tolerance=1e-7, max_iterations=3000)
    best = fista(data, dictionary, 1.0, tolerance=1e-6, max_iterations=20_000)
    optimum = fit(best.codes) + jnp.sum(jnp.abs(best.codes), axis=-1)
    np.testing.assert_allclose(found.objective, optimum, rtol=1e-3)
    assert (found.objective >= optimum * (1 - 1e-5)).all()
    assert 0 < (np.asarray(found.codes) != 0).mean() < 0.7


def test_a_nonlinear_generator_ends_where_no_latent_can_gain():
    """|slope| <= penalty where a code is zero, slope = -penalty sign(s) elsewhere."""
    data, dictionary = linear_problem()
    generate = lambda codes: jnp.tanh(codes @ dictionary)  # noqa: E731
    fit = lambda codes: 0.5 * jnp.sum((data - generate(codes)) ** 2, axis=-1)  # noqa: E731
    start = jnp.zeros((20, 48))
    found = proximal_gradient(fit, start, 0.5, tolerance=1e-9, max_iterations=20_000)
    assert (found.objective < fit(start)).all()
    slope = jax.grad(lambda codes: fit(codes).sum())(found.codes)
    on = found.codes != 0
    assert float(jnp.abs(jnp.where(on, slope + 0.5 * jnp.sign(found.codes), 0)).max()) < 0.05
    assert float(jnp.where(on, 0, jnp.abs(slope)).max()) < 0.55


def test_no_datum_depends_on_its_batch_mates():
    data, dictionary = linear_problem()

    def solve(rows):
        fit = lambda codes: 0.5 * jnp.sum((rows - jnp.tanh(codes @ dictionary)) ** 2, axis=-1)  # noqa: E731
        return proximal_gradient(fit, jnp.zeros((20, 48)), 0.5, tolerance=1e-4)

    mixed = np.concatenate([data[:5], 3 * data[5:]])
    one, other = solve(data), solve(mixed)
    np.testing.assert_array_equal(one.codes[:5], other.codes[:5])
    np.testing.assert_array_equal(one.iterations[:5], other.iterations[:5])


def test_the_objective_never_rises_with_more_iterations():
    data, dictionary = linear_problem()
    fit = lambda codes: 0.5 * jnp.sum((data - jnp.tanh(codes @ dictionary)) ** 2, axis=-1)  # noqa: E731
    objectives = [
        proximal_gradient(fit, jnp.zeros((20, 48)), 0.5, tolerance=0.0, max_iterations=n).objective
        for n in (0, 1, 5, 20, 80)
    ]
    for before, after in itertools.pairwise(objectives):
        assert (after <= before).all()


def test_a_datum_that_is_not_finite_takes_no_iteration_of_the_others():
    data, dictionary = linear_problem()
    data[3] = np.nan
    fit = lambda codes: 0.5 * jnp.sum((data - jnp.tanh(codes @ dictionary)) ** 2, axis=-1)  # noqa: E731
    found = proximal_gradient(fit, jnp.zeros((20, 48)), 0.5, tolerance=1e-2, max_iterations=5000)
    assert np.isnan(found.objective[3])
    assert found.iterations[3] == 0
    assert int(found.iterations.max()) < 1000
    assert np.isfinite(np.delete(found.objective, 3)).all()


def test_penalties_are_numbers_or_one_a_datum():
    data, dictionary = linear_problem()
    fit = lambda codes: 0.5 * jnp.sum((data - codes @ dictionary) ** 2, axis=-1)  # noqa: E731
    penalties = np.geomspace(0.1, 10, 20)
    start = np.zeros((20, 48), int)
    found = proximal_gradient(fit, start, penalties, tolerance=1e-7, max_iterations=3000)
    best = fista(data, dictionary, penalties, tolerance=1e-6, max_iterations=20_000)
    optimum = fit(best.codes) + penalties * jnp.sum(jnp.abs(best.codes), axis=-1)
    np.testing.assert_allclose(found.objective, optimum, rtol=1e-3)
    none = proximal_gradient(fit, np.ones((20, 48), np.float32), np.inf)
    assert (none.codes == 0).all()
    np.testing.assert_allclose(none.objective, 0.5 * np.sum(data**2, axis=1), rtol=1e-5)
    for wrong in (np.float32(-1), 0, np.nan):
        with pytest.raises(UserError, match="give a positive number"):
            proximal_gradient(fit, start, wrong)
    with pytest.raises(UserError, match="one a datum"):
        proximal_gradient(fit, start, np.ones(48))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"initial_codes": np.zeros(48)}, r"give \[N, K\]"),
        ({"initial_step": 0.0}, "initial_step is 0.0; give a positive number"),
        ({"initial_step": np.nan}, "initial_step is nan"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"max_iterations": 2.5}, "max_iterations is 2.5"),
    ],
)
def test_arguments_that_do_not_serve_are_named(option, message, without_type_checks):
    data, dictionary = linear_problem()
    fit = lambda codes: 0.5 * jnp.sum((data - codes @ dictionary) ** 2, axis=-1)  # noqa: E731
    given = {"initial_codes": np.zeros((20, 48)), "penalty": 1.0} | option
    with pytest.raises(UserError, match=message):
        proximal_gradient(fit, **given)


def test_double_precision_keeps_the_type_of_the_codes():
    data, dictionary = linear_problem()
    with jax.enable_x64(True):
        fit = lambda codes: 0.5 * jnp.sum((data - codes @ dictionary) ** 2, axis=-1)  # noqa: E731
        for dtype in (np.float32, np.float64):
            found = proximal_gradient(fit, jnp.zeros((20, 48), dtype), np.float64(1))
            assert found.codes.dtype == found.objective.dtype == dtype
