"""SparseCoder keeps scikit-learn's contract, and holds what it promises of its codes."""

import tracemalloc
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from models import CODED_METHODS
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from jvsc import SparseCoder, UserError
from jvsc.model.methods import METHODS
from jvsc.sparse_coder.standardised_rows import moments, warn_of_dominant_rows

DIGITS = load_digits().data
SMALL = {"n_components": 48, "n_samples": 5, "random_state": 0}


@pytest.fixture(scope="module")
def fitted() -> SparseCoder:
    return SparseCoder(**SMALL, max_iter=40).fit(DIGITS)


@pytest.mark.slow
@parametrize_with_checks([SparseCoder(8, n_samples=2, max_iter=5)])
def test_scikit_learn_checks(estimator, check, without_type_checks):
    check(estimator)


# They shuffle the weighted rows, and steps are made of batches in the rows' order; in one order
# weights are repetitions (`test_numbers.py`).
BY_BATCHES = dict.fromkeys(
    (f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")),
    "rows in another order make other batches",
)


@pytest.mark.slow
@parametrize_with_checks(
    [SparseCoder(), SparseCoder(method="fista")], expected_failed_checks=lambda _: BY_BATCHES
)
def test_scikit_learn_checks_of_the_defaults(estimator, check, without_type_checks):
    check(estimator)


def test_the_share_of_non_zeros_is_the_wanted_one(fitted):
    share = np.mean(fitted.transform(DIGITS) != 0)
    assert 0.08 < share < 0.125
    np.testing.assert_array_equal(
        fitted.predict_support_proba(DIGITS) > 0.5, fitted.transform(DIGITS) != 0
    )


@pytest.mark.parametrize("value", [14.62, -3e7, 0.0])
def test_constant_columns_have_no_scale(value):
    """400,000 rows: the streaming variance's rounding is of the order of 1e-22 of the square."""
    found = moments(np.full((400_000, 8), value))
    np.testing.assert_allclose(found.mean, value)
    assert found.scale == 1.0
    assert found.is_constant
    mixed = np.full((1000, 2), value)
    mixed[:, 0] += np.random.default_rng(0).normal(size=1000)
    assert moments(mixed).scale == pytest.approx(np.sqrt(mixed[:, 0].var() / 2))


def test_few_rows_of_huge_norm_are_named_with_the_remedy():
    data = np.random.default_rng(0).normal(size=(2000, 64))
    mean = data.mean(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_dominant_rows(data, mean)
    data[[3, 7, 11, 1999]] *= 300
    with pytest.warns(UserWarning, match=r"of 2000 rows hold half .*divide each row by its norm"):
        warn_of_dominant_rows(data, data.mean(axis=0))


def test_rows_dominate_by_their_weights():
    data = np.random.default_rng(0).normal(size=(500, 16))
    data[7] *= 1e4
    weights = np.ones(500)
    weights[7] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_dominant_rows(data, np.zeros(16), 1.0, weights)
    weights[7] = 1
    with pytest.warns(UserWarning, match=r"rows 7\)"):
        warn_of_dominant_rows(data, np.zeros(16), 1.0, weights)
    weights = np.ones(500)
    weights[3] = 1e6
    with pytest.warns(UserWarning, match=r"rows 3\)"):
        warn_of_dominant_rows(np.ones((500, 16)), np.zeros(16), 1.0, weights)


def test_sparse_codes_for_a_frame_are_refused_before_the_fit():
    coder = SparseCoder(**SMALL, sparse_output=True).set_output(transform="pandas")
    with pytest.raises(UserError, match="leave one of them out"):
        coder.fit(DIGITS)


def test_codes_explain_the_data_in_their_own_units(fitted):
    codes = fitted.transform(DIGITS)
    error = np.sum((fitted.inverse_transform(codes) - DIGITS) ** 2)
    total = np.sum((DIGITS - DIGITS.mean(axis=0)) ** 2)
    assert fitted.score(DIGITS) == pytest.approx(1 - error / total, abs=1e-5)
    assert fitted.score(DIGITS) > 0.3


def test_a_scale_of_the_data_is_undone():
    coder = SparseCoder(**SMALL, max_iter=2).fit(DIGITS)
    larger = SparseCoder(**SMALL, max_iter=2).fit(1024 * DIGITS)
    np.testing.assert_array_equal(larger.transform(1024 * DIGITS), coder.transform(DIGITS))
    np.testing.assert_allclose(larger.components_, 1024 * coder.components_, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "gain"), [("thresholded_laplacian", 0.05), ("inferred_threshold", 0.002)]
)
def test_refining_explains_more_at_the_same_share(method, gain):
    """At least so much: the paper's codes are drawn, those of the inferred threshold are not."""
    given = SMALL | {"max_iter": 10, "method": method}
    plain = SparseCoder(**given).fit(DIGITS)
    refined = SparseCoder(**given, refine_steps=10).fit(DIGITS)
    assert refined.score(DIGITS) > plain.score(DIGITS) + gain
    assert np.mean(refined.transform(DIGITS) != 0) == pytest.approx(0.1, abs=0.01)


@pytest.mark.slow
def test_fista_solves_the_lasso_at_the_wanted_share():
    coder = SparseCoder(**SMALL, method="fista", sparsity=0.2, max_iter=40).fit(DIGITS)
    assert np.mean(coder.transform(DIGITS) != 0) == pytest.approx(0.2, abs=0.01)
    assert coder.score(DIGITS) > 0.6
    assert not hasattr(coder, "predict_support_proba")


@pytest.mark.slow
@pytest.mark.parametrize("method", CODED_METHODS)
def test_every_method_fits_and_holds_its_share(method):
    coder = SparseCoder(**SMALL, method=method, max_iter=40).fit(DIGITS)
    share = np.mean(coder.transform(DIGITS) != 0)
    dense = method != "fista" and not METHODS[method].has_sparsity
    assert share == 1 if dense else 0.07 < share < 0.14


def test_the_type_that_holds_a_datum_does_not_change_its_code(fitted):
    codes = fitted.transform(DIGITS)
    single = fitted.transform(DIGITS.astype(np.float32))
    assert (codes.dtype, single.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(codes.astype(np.float32), single)
    np.testing.assert_array_equal(fitted.transform(jnp.asarray(DIGITS, jnp.float32)), single)
    np.testing.assert_array_equal(fitted.transform(DIGITS.astype(np.uint8)), codes)


@pytest.mark.slow
def test_in_a_pipeline_under_a_grid_search():
    classes = load_digits().target
    coder = SparseCoder(**SMALL, max_iter=40)
    pipeline = make_pipeline(coder, LogisticRegression(max_iter=500))
    grid = {"sparsecoder__refine_steps": np.array([0, 5])}
    search = GridSearchCV(pipeline, grid, cv=2).fit(DIGITS, classes)
    assert search.best_score_ > 0.5


def test_partial_fit_learns_from_parts():
    coder = SparseCoder(**SMALL)
    for _ in range(25):
        for part in np.array_split(DIGITS, 5):
            coder.partial_fit(part)
    assert (coder.n_iter_, coder.n_steps_) == (25 * 5, 25 * 5 * 3)
    assert coder.score(DIGITS) > 0.3
    assert 0.07 < np.mean(coder.transform(DIGITS) != 0) < 0.14


@pytest.mark.slow
def test_partial_fit_goes_on_from_a_fit():
    coder = SparseCoder(**SMALL, max_iter=2).fit(DIGITS)
    mean, steps = coder.mean_, coder.n_steps_
    coder.partial_fit(DIGITS[:128] + 1)
    np.testing.assert_array_equal(coder.mean_, mean)
    assert coder.n_steps_ == steps + 1


def peak_bytes(function) -> int:
    """The most that Python and NumPy held at once while a function ran."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_memory_mapped_data_are_never_copied_whole(tmp_path):
    data = np.random.default_rng(0).normal(size=(60_000, 128))
    np.save(tmp_path / "data.npy", data)
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    coder = SparseCoder(8, n_samples=1, max_iter=1, random_state=0, sparse_output=True)
    coder.fit(data[:256])  # compiled apart from what is measured
    coder.transform(data[:2048])
    assert peak_bytes(lambda: coder.fit(mapped)) < mapped.nbytes / 3
    assert peak_bytes(lambda: coder.transform(mapped)) < mapped.nbytes / 3
    codes = coder.transform(mapped)
    np.testing.assert_array_equal(codes[:2048].toarray(), coder.transform(data)[:2048].toarray())


@pytest.mark.slow
def test_sparse_codes_are_the_dense_ones_and_take_the_memory_of_their_non_zeros():
    data = np.random.default_rng(0).normal(size=(8192, 16))
    peaks = []
    for sparsity in (0.02, 0.2):
        coder = SparseCoder(256, n_samples=1, sparsity=sparsity, max_iter=1, random_state=0)
        dense = coder.fit(data).transform(data)
        coder.set_params(sparse_output=True)
        codes = coder.transform(data)
        assert codes.format == "csr"
        assert codes.nnz == np.count_nonzero(dense)
        np.testing.assert_array_equal(codes.toarray(), dense)
        peaks.append((codes.nnz, peak_bytes(lambda coder=coder: coder.transform(data))))
    (few, small), (many, large) = peaks
    # A value and its column take 12 bytes; the parts and the whole are held at once.
    assert large - small < 3 * 12 * (many - few)
    assert small < dense.nbytes / 2


def test_codes_as_a_data_frame(fitted):
    pytest.importorskip("pandas")
    coder = SparseCoder(**SMALL, max_iter=1).set_output(transform="pandas")
    frame = coder.fit_transform(DIGITS)
    assert list(frame.columns[:2]) == ["sparsecoder0", "sparsecoder1"]
    assert frame.shape == (len(DIGITS), 48)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_components": 0}, "n_components is 0: must be a whole number > 0"),
        ({"sparsity": 1.5}, "sparsity is 1.5: must be a number > 0 and < 1, or None"),
        ({"method": "thresholded_laplacien"}, "did you mean 'thresholded_laplacian'"),
        ({"refine_steps": -1}, "refine_steps is -1"),
        ({"max_iter": 2.5}, "max_iter is 2.5"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(given, message, without_type_checks):
    with pytest.raises(UserError, match=message) as refused:
        SparseCoder(**given).fit(DIGITS)
    assert "\n" not in str(refused.value)


def test_wrong_data_are_refused_in_one_line(fitted):
    with pytest.raises(ValueError, match="63 features, but SparseCoder is expecting 64"):
        fitted.transform(DIGITS[:, 1:])
    with pytest.raises(ValueError, match="give what transform returns"):
        fitted.inverse_transform(DIGITS)
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.transform(np.where(DIGITS > 15, np.nan, DIGITS))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        SparseCoder().fit(DIGITS[:1])


def test_refining_that_was_not_asked_for_in_the_fit_is_refused():
    coder = SparseCoder(**SMALL, max_iter=1).fit(DIGITS).set_params(refine_steps=3)
    with pytest.raises(UserError, match="fit again"):
        coder.transform(DIGITS)


@pytest.mark.parametrize("given", [{"method": "topk"}, {"allow_nan": True}])
def test_refining_that_no_fit_would_do_is_refused_as_the_fit_refuses_it(given):
    coder = SparseCoder(**SMALL | given, max_iter=1).fit(DIGITS).set_params(refine_steps=3)
    with pytest.raises(UserError, match="leave it 0"):
        coder.transform(DIGITS)


@pytest.mark.slow
def test_a_copy_without_a_seed_differs():
    one, other = (SparseCoder(8, max_iter=1).fit(DIGITS[:100]).components_ for _ in range(2))
    assert not np.array_equal(one, other)
