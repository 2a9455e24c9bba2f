"""SparseCoder(allow_nan=True): entries that are NaN are not there, and are filled in."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_sample_image
from sklearn.feature_extraction.image import extract_patches_2d

import jvsc
from jvsc import SparseCoder, UserError
from jvsc.sparse_coder.standardised_rows import moments

DIGITS = load_digits().data
HIDDEN = np.random.default_rng(0).random(DIGITS.shape) < 0.3
HOLES = np.where(HIDDEN, np.nan, DIGITS)
METHODS = {"inferred_threshold": 60, "lasso": 4, "fista": 80}
# Of the hidden entries' variance; zeros for what is missing leave about nothing explained.
LEAST = {"inferred_threshold": 0.45, "lasso": 0.45, "fista": 0.35}
EACH = pytest.mark.parametrize("method", METHODS)


def fitted(method, data=HOLES, **given):
    given = {"n_components": 32, "max_iter": METHODS[method], "random_state": 0} | given
    return SparseCoder(method=method, allow_nan=True, **given).fit(data)


def explained(filled, truth, hidden, mean):
    """Share of the hidden entries' variance around the columns' means."""
    errors = (filled - truth)[hidden], (np.broadcast_to(mean, truth.shape) - truth)[hidden]
    return 1 - np.sum(errors[0] ** 2) / np.sum(errors[1] ** 2)


@pytest.mark.parametrize(
    "method",
    ["lasso", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "lasso")],
)
def test_what_is_missing_is_filled_in(method, tmp_path):
    coder = fitted(method)
    np.testing.assert_allclose(coder.mean_, np.nanmean(HOLES, axis=0))
    assert coder.scale_ == pytest.approx(np.nanvar(HOLES, axis=0).mean() ** 0.5)
    codes = coder.transform(HOLES)
    filled = coder.inverse_transform(codes)
    assert 0.07 < np.mean(codes != 0) < 0.13
    assert explained(filled, DIGITS, HIDDEN, coder.mean_) > LEAST[method]
    without = np.where(HIDDEN, coder.mean_, DIGITS)
    usual = clone(coder).set_params(allow_nan=False).fit(without)
    beside = usual.inverse_transform(usual.transform(without))
    assert explained(filled, DIGITS, HIDDEN, coder.mean_) > 0.1 + explained(
        beside, DIGITS, HIDDEN, coder.mean_
    )
    left, total = (HOLES - filled)[~HIDDEN], (HOLES - coder.mean_)[~HIDDEN]
    assert coder.score(HOLES) == pytest.approx(1 - np.sum(left**2) / np.sum(total**2), abs=1e-4)
    coder.save(tmp_path / "model")
    found = jvsc.load(tmp_path / "model")
    np.testing.assert_array_equal(found.transform(HOLES[:9]), codes[:9])
    found.partial_fit(HOLES[:500])


@EACH
def test_where_nothing_is_missing_nothing_changes(method):
    given = {"max_iter": 2, "batch_size": 256}
    holes, usual = fitted(method, DIGITS, **given), fitted(method, DIGITS, **given)
    usual = clone(usual).set_params(allow_nan=False).fit(DIGITS)
    np.testing.assert_allclose(holes.components_, usual.components_, atol=0.02 * usual.scale_)
    assert holes.score(DIGITS) == pytest.approx(usual.score(DIGITS), abs=0.01)


@pytest.mark.parametrize(
    "method",
    ["inferred_threshold", *(pytest.param(m, marks=pytest.mark.slow) for m in ("lasso", "fista"))],
)
def test_a_row_of_nothing_has_a_code_of_zeros(method):
    data = HOLES.copy()
    data[3] = np.nan
    coder = fitted(method, data, max_iter=20)
    codes = coder.transform(data[:5])
    assert not codes[3].any()
    assert codes.any()
    np.testing.assert_allclose(coder.inverse_transform(codes)[3], coder.mean_)


def test_an_encoder_of_rows_is_given_means_for_what_is_missing():
    coder = fitted("inferred_threshold", encoder="linear", max_iter=30)
    filled = coder.inverse_transform(coder.transform(HOLES))
    assert explained(filled, DIGITS, HIDDEN, coder.mean_) > 0.3
    assert not coder.transform(np.full((1, 64), np.nan)).any()


def test_parts_have_the_moments_of_the_whole():
    data = HOLES + np.arange(64)
    before = None
    for part in np.array_split(data, 7):
        before = moments(part, before)
    np.testing.assert_allclose(before.mean, np.nanmean(data, axis=0))
    np.testing.assert_allclose(before.deviation, np.nanstd(data, axis=0), atol=1e-6)
    np.testing.assert_array_equal(before.counts, np.sum(~HIDDEN, axis=0))
    weights = np.random.default_rng(1).integers(1, 4, len(data)).astype(float)
    weighted, repeated = moments(data, weights=weights), np.repeat(data, weights.astype(int), 0)
    np.testing.assert_allclose(weighted.mean, np.nanmean(repeated, axis=0))


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_column_without_an_entry_in_a_part_keeps_its_moments(first, monkeypatch):
    """Whether parts are the user's, or those in which large data are read."""
    data = HOLES[:, :40] + np.arange(40)
    data[100 * first : 100 * (first + 1), 5] = np.nan
    weights = np.ones(300)
    whole = data[:300]
    if first < 2:
        parts = np.array_split(whole, 3)
        before = None
        for part in (parts[2], *parts[:2]):
            before = moments(part, before)
        np.testing.assert_allclose(before.deviation, np.nanstd(whole, axis=0), atol=1e-6)
        empty = moments(np.full((9, 40), np.nan), before)
        np.testing.assert_allclose(empty.deviation, before.deviation)
        assert empty.scale == pytest.approx(before.scale)
    monkeypatch.setattr("jvsc.sparse_coder.standardised_rows.CHUNK_BYTES", 8 * 40 * 50)
    for weighed in (None, weights, np.repeat([0.0, 1.0], 150)):
        found = moments(whole, weights=weighed)
        kept = whole if weighed is None else whole[weighed > 0]
        np.testing.assert_allclose(found.mean, np.nanmean(kept, axis=0))
        np.testing.assert_allclose(found.deviation, np.nanstd(kept, axis=0), atol=1e-6)


def test_what_does_not_go_with_missing_entries_is_refused_in_one_line():
    empty = HOLES.copy()
    empty[:, 5] = np.nan
    unfit = {"allow_nan": True}
    for data, given, message in (
        (HOLES, {}, "X contains NaN; give allow_nan=True to code the entries that are there"),
        (empty, unfit, "column 5 has no number but NaN; leave it out"),
        (scipy.sparse.csr_array(HOLES), unfit, "allow_nan=True is for dense data"),
        (HOLES, unfit | {"method": "topk"}, "allow_nan=True does not apply to topk; fill"),
        (HOLES, unfit | {"encoder": "message_passing"}, "does not apply to encoder="),
        (HOLES, unfit | {"refine_steps": 3}, "refine_steps would need the entries that are NaN"),
        (HOLES, unfit | {"sparsity": None}, "sparsity=None learns the noise"),
        (np.where(HIDDEN, np.inf, DIGITS), unfit, "contains infinity"),
    ):
        for call in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=message) as refused:
                getattr(SparseCoder(**given), call)(data)
            assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="X contains NaN; give allow_nan=True"):
        SparseCoder(8, max_iter=1).fit(DIGITS).transform(HOLES)


def test_an_encoder_that_was_trained_without_gaps_is_given_none():
    """It would take them for numbers, and all codes be zero."""
    coder = SparseCoder(8, max_iter=1, random_state=0).fit(DIGITS).set_params(allow_nan=True)
    expected = coder.transform(DIGITS[:5])
    for call in (coder.transform, coder.score, coder.predict_support_proba):
        with pytest.raises(UserError, match="the fit was without allow_nan=True; fit again"):
            call(HOLES)
    np.testing.assert_array_equal(coder.transform(DIGITS[:5]), expected)
    solved = SparseCoder(8, method="lasso", max_iter=1, random_state=0).fit(DIGITS)
    assert np.isfinite(solved.set_params(allow_nan=True).transform(HOLES)).all()


@EACH
def test_a_complete_row_has_the_same_code_beside_a_row_with_gaps(method):
    coder = fitted(method, max_iter=1)
    rows = DIGITS[:20].astype(float)
    beside = rows.copy()
    beside[3, 5:9] = np.nan
    others = np.arange(20) != 3
    np.testing.assert_array_equal(coder.transform(beside)[others], coder.transform(rows)[others])


def test_nothing_but_nan_has_no_score():
    coder = fitted("lasso", max_iter=1)
    with pytest.raises(UserError, match="X holds nothing but NaN, of which there is no score"):
        coder.score(np.full((3, 64), np.nan))


@pytest.mark.slow
def test_half_of_a_photographs_pixels_are_filled_in():
    grey = load_sample_image("china.jpg").mean(axis=2) / 255
    patches = extract_patches_2d(grey, (8, 8), max_patches=5000, random_state=0).reshape(-1, 64)
    hidden = np.random.default_rng(0).random(patches.shape) < 0.5
    holes = np.where(hidden, np.nan, patches)
    mean = np.nanmean(holes[:4000], axis=0)

    def of_rest(filled):
        return explained(filled, patches[4000:], hidden[4000:], mean)

    # What a patch's own mean explains, which is most.
    own_mean = np.broadcast_to(np.nanmean(holes[4000:], axis=1, keepdims=True), (1000, 64))
    assert of_rest(own_mean) > 0.85
    for method, passes in (("inferred_threshold", 30), ("lasso", 8)):
        coder = fitted(method, holes[:4000], n_components=128, sparsity=0.05, max_iter=passes)
        filled = coder.inverse_transform(coder.transform(holes[4000:]))
        without = np.where(hidden, mean, patches)
        usual = clone(coder).set_params(allow_nan=False).fit(without[:4000])
        beside = usual.inverse_transform(usual.transform(without[4000:]))
        assert of_rest(filled) > of_rest(beside) + 0.2
        if method == "inferred_threshold":  # the lasso shrinks what is penalised, the mean too
            assert of_rest(filled) > of_rest(own_mean) + 0.005


@pytest.mark.parametrize(
    "given", [{"method": "topk"}, {"refine_steps": 3}, {"sparsity": None}, {"method": "gaussian"}]
)
def test_where_nan_cannot_be_coded_the_message_does_not_say_so(given):
    with pytest.raises(UserError, match=r"X contains NaN; fill them$"):
        SparseCoder(8, max_iter=1, **given).fit(HOLES)
