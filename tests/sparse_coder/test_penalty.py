"""SparseCoder(alpha=...): the lasso's penalty, in scikit-learn's units."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning

import jvsc
from jvsc import SparseCoder, UserError
from jvsc.solvers import lasso

DIGITS = load_digits().data
SOLVED = pytest.mark.parametrize("method", ["lasso", "fista"])


def objective(data, codes, atoms, alpha):
    return 0.5 * np.sum((data - codes @ atoms) ** 2, 1) + alpha * np.abs(codes).sum(1)


def learned(method, scale=1.0, alpha=10.0, **given):
    given = {"n_components": 32, "max_iter": 8, "random_state": 0} | given
    return SparseCoder(method=method, alpha=alpha * scale, **given).fit(scale * DIGITS)


@SOLVED
def test_codes_are_those_of_scikit_learn_at_the_same_alpha(method):
    coder = learned(method)
    norms = np.linalg.norm(coder.components_, axis=1, keepdims=True)
    np.testing.assert_allclose(norms, coder.scale_, rtol=1e-5)
    atoms, centred = coder.components_ / norms, DIGITS[:60] - coder.mean_
    expected = sparse_encode(centred, atoms, algorithm="lasso_cd", alpha=10, max_iter=9999)
    codes = coder.scale_ * coder.transform(DIGITS[:60])
    np.testing.assert_allclose(
        objective(centred, codes, atoms, 10), objective(centred, expected, atoms, 10), rtol=1e-3
    )
    assert np.mean(codes != 0) == pytest.approx(np.mean(expected != 0), abs=0.01)
    assert coder.penalty_ == pytest.approx(10 / coder.scale_)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "most"), [("lasso", 1.01), ("fista", 1.1)])
def test_a_dictionary_is_as_good_as_scikit_learns_for_the_same_alpha(method, most):
    data = DIGITS - DIGITS.mean(axis=0)
    coder = SparseCoder(16, method, alpha=20.0, max_iter=60, random_state=0).fit(data)
    theirs = MiniBatchDictionaryLearning(16, alpha=20, max_iter=20, random_state=0).fit(data)

    def mean_objective(atoms):
        codes = sparse_encode(data, atoms, algorithm="lasso_cd", alpha=20, max_iter=9999)
        return objective(data, codes, atoms, 20).mean()

    ours = mean_objective(coder.components_ / coder.scale_)
    assert ours < most * mean_objective(theirs.components_)


@SOLVED
def test_the_unit_of_the_data_is_that_of_alpha(method):
    one, thousand = learned(method), learned(method, 1000.0)
    np.testing.assert_allclose(
        one.transform(DIGITS[:20]), thousand.transform(1000 * DIGITS[:20]), atol=1e-3
    )
    assert thousand.penalty_ == pytest.approx(one.penalty_, rel=1e-6)


@SOLVED
def test_a_given_dictionary_is_coded_by_as_scikit_learns_sparse_coder_does(method):
    random = np.random.default_rng(0)
    atoms = DIGITS[random.choice(len(DIGITS), 40)] * random.uniform(0.2, 3, (40, 1))
    coder = SparseCoder(method=method, alpha=300.0, dictionary=atoms).fit(DIGITS)
    codes = coder.transform(DIGITS[:50])
    expected = sparse_encode(DIGITS[:50], atoms, algorithm="lasso_cd", alpha=300, max_iter=9999)
    np.testing.assert_allclose(
        objective(DIGITS[:50], codes, atoms, 300),
        objective(DIGITS[:50], expected, atoms, 300),
        rtol=1e-3,
    )


@SOLVED
def test_parts_are_learned_from_at_the_same_penalty(method, tmp_path):
    coder = SparseCoder(32, method, alpha=10.0, random_state=0)
    for part in np.split(DIGITS[:1500] * np.linspace(0.1, 1, 1500)[:, None], 5):
        coder.partial_fit(part)
        assert coder.penalty_ == pytest.approx(10 / coder.scale_)
        norms = np.linalg.norm(coder.components_, axis=1)
        np.testing.assert_allclose(norms, coder.scale_, rtol=1e-5)
    coder.save(tmp_path / "model")
    found = jvsc.load(tmp_path / "model")
    assert found.get_params()["alpha"] == 10.0
    assert found.penalty_ == coder.penalty_
    np.testing.assert_array_equal(found.transform(DIGITS[:9]), coder.transform(DIGITS[:9]))
    found.set_params(alpha=20.0).partial_fit(DIGITS)
    assert found.penalty_ == pytest.approx(20 / found.scale_)
    assert np.mean(found.transform(DIGITS) != 0) < np.mean(coder.transform(DIGITS) != 0)
    assert clone(found).alpha == 20.0


@pytest.mark.parametrize(
    "given", [{"method": "fista"}, pytest.param({"refine_steps": 5}, marks=pytest.mark.slow)]
)
def test_a_small_part_hardly_moves_the_penalty_of_the_parts_before(given):
    coder = SparseCoder(32, sparsity=0.2, random_state=0, batch_size=64, **given)
    for part in np.split(DIGITS[:1536], 3):
        coder.partial_fit(part)
    before, share = coder.penalty_, np.mean(coder.transform(DIGITS) != 0)
    largest = DIGITS[[np.argmax(np.linalg.norm(DIGITS, axis=1))]]
    for row in (coder.mean_[None], largest):
        coder.partial_fit(row)
        assert coder.penalty_ == pytest.approx(before, rel=0.1)
        assert np.mean(coder.transform(DIGITS) != 0) == pytest.approx(share, rel=0.2)


def test_a_penalty_that_does_not_apply_is_refused_in_one_line():
    for given, message in (
        ({"method": "topk"}, "alpha does not apply to topk, which has no such penalty"),
        ({}, "alpha does not apply to inferred_threshold"),
        ({"method": "lasso", "sparsity": 0.2}, "alpha=1.0 and sparsity=0.2 both decide how sparse"),
        ({"method": "lasso", "alpha": 0.0}, "alpha"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            SparseCoder(**{"alpha": 1.0} | given).fit(DIGITS)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="sparsity=None does not apply to lasso; give a share, or"):
        SparseCoder(method="lasso", sparsity=None).fit(DIGITS)


@pytest.mark.parametrize("method", ["lasso", "fista"])
@pytest.mark.parametrize("given", [{}, {"dictionary": DIGITS[:9] * 1e200}])
def test_an_alpha_that_float32_has_no_room_for_is_named(method, given):
    for alpha in (1e-200, 1e300):
        coder = SparseCoder(8, method, alpha=alpha, max_iter=1, **given)
        with pytest.raises(UserError, match=r"alpha is 1e.*give one nearer to that scale"):
            coder.fit(DIGITS * 1e200 if given else DIGITS)


def coherent(num_atoms=48, noise=0.02):
    """Atoms that are nearly one, which FISTA takes long to tell apart."""
    random = np.random.default_rng(0)
    return random.normal(size=64) + noise * random.normal(size=(num_atoms, 64))


def test_codes_that_a_solver_leaves_before_the_optimum_are_told_of():
    atoms = coherent()
    data = np.random.default_rng(1).normal(size=(40, len(atoms))) @ atoms
    given = {"dictionary": atoms, "alpha": 0.1}
    with pytest.warns(ConvergenceWarning, match="or method='lasso'") as told:
        codes = SparseCoder(method="fista", **given).fit(data).transform(data)
    claimed = float(re.search(r"may be by (.*)%", str(told[0].message))[1]) / 100
    best = lasso(data, atoms, 0.1, tolerance=1e-7).codes
    excess = objective(data, codes, atoms, 0.1) / objective(data, best, atoms, 0.1) - 1
    assert 1e-3 < excess.max() < claimed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SparseCoder(method="lasso", **given).fit(data).transform(data)


@pytest.mark.parametrize("method", ["lasso", pytest.param("fista", marks=pytest.mark.slow)])
def test_a_share_is_had_beside_a_row_far_larger_than_all_others(method):
    data = DIGITS[:200].copy()
    data[7] *= 1e5
    coder = SparseCoder(method=method, sparsity=0.2, dictionary=DIGITS[300:332], random_state=0)
    with pytest.warns(UserWarning, match="hold half of the variance"):
        codes = coder.fit(data).transform(data)
    assert np.mean(codes != 0) == pytest.approx(0.2, abs=0.02)


def test_a_share_that_no_penalty_gives_is_told_of():
    data = np.random.default_rng(0).normal(size=(100, 8))
    coder = SparseCoder(method="lasso", sparsity=0.7, dictionary=np.eye(8)[:, :8], random_state=0)
    data[:, 4:] = 0
    with pytest.warns(UserWarning, match=r"sparsity=0\.7 cannot be had: at most 50%"):
        coder.fit(data)


@pytest.mark.slow
def test_a_share_that_data_of_low_rank_cannot_have_ends_in_a_warning_not_an_error():
    random = np.random.default_rng(0)
    data = random.normal(size=(64, 3)) @ random.normal(size=(3, 30))
    with pytest.warns(UserWarning, match=r"sparsity=0\.3 cannot be had: at most"):
        SparseCoder(60, "lasso", sparsity=0.3, random_state=0, max_iter=40).fit(data)


def test_a_share_between_those_that_a_row_can_have_is_no_reason_to_warn():
    coder = SparseCoder(method="lasso", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for row in np.random.default_rng(0).normal(size=(12, 4)):
            coder.partial_fit(row[None])


@pytest.mark.parametrize("alpha", [1.0, 100.0])
def test_the_loss_of_a_fit_is_that_of_its_penalty(alpha):
    coder = learned("fista", alpha=alpha, max_iter=30)
    codes, penalty = coder.transform(DIGITS), coder.penalty_
    error = (DIGITS - coder.inverse_transform(codes)) / coder.scale_
    expected = 0.5 * np.sum(error**2, 1).mean() + penalty * np.abs(codes).sum(1).mean()
    assert coder.loss_curve_[-1] == pytest.approx(expected, rel=0.1)


def test_a_few_large_rows_do_not_make_the_others_codes_sparser():
    coder = SparseCoder(32, "fista", sparsity=0.2, random_state=0, batch_size=64)
    coder.partial_fit(DIGITS[:1024])
    before = np.mean(coder.transform(DIGITS[:1024]) != 0)
    coder.partial_fit(30 * DIGITS[1024:1034])
    assert np.mean(coder.transform(DIGITS[:1024]) != 0) == pytest.approx(before, rel=0.3)


@pytest.mark.parametrize("first", [{"alpha": 20.0}, {"sparsity": 0.1}])
def test_another_share_is_had_from_the_next_part_on(first):
    coder = SparseCoder(32, "lasso", random_state=0, max_iter=5, **first).fit(DIGITS)
    coder.set_params(alpha=None, sparsity=0.3).partial_fit(DIGITS)
    assert np.mean(coder.transform(DIGITS) != 0) == pytest.approx(0.3, abs=0.02)
