"""Data of any size, in parts, sparse and weighted, and what the machine cannot hold."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

import jvsc
from jvsc import SparseCoder, UserError
from jvsc.sparse_coder.coder import make_coder, packed
from jvsc.sparse_coder.coding import learned
from jvsc.sparse_coder.rescaling import rescaled
from jvsc.sparse_coder.settings import CoderSettings, make_plan
from jvsc.sparse_coder.standardised_rows import moments, weighted_order

DIGITS = load_digits().data
NORMAL = np.random.default_rng(0).normal(size=(500, 16))
SMALL = {"n_components": 24, "n_samples": 2, "random_state": 0, "max_iter": 2}


@pytest.mark.parametrize("exponent", [600, 1000, -600, -1000, 130, -130])
@pytest.mark.parametrize("method", ["inferred_threshold", "fista", "topk"])
def test_data_of_any_size_have_the_codes_of_ordinary_ones(exponent, method):
    """Powers of two, so that every number is the ordinary one's but for the exponent."""
    factor = 2.0**exponent
    plain = SparseCoder(**SMALL, method=method).fit(NORMAL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = SparseCoder(**SMALL, method=method).fit(NORMAL * factor)
        codes = other.transform(NORMAL * factor)
    np.testing.assert_array_equal(codes, plain.transform(NORMAL))
    np.testing.assert_allclose(other.components_ / factor, plain.components_, rtol=1e-6)
    np.testing.assert_allclose(
        other.inverse_transform(codes) / factor, plain.inverse_transform(codes), atol=1e-5
    )
    assert other.score(NORMAL * factor) == plain.score(NORMAL)


@pytest.mark.parametrize("factor", [1e16, 1e40, 1e200, 1e307])
@pytest.mark.parametrize("method", ["inferred_threshold", "fista", "thresholded_laplacian"])
def test_rows_far_from_the_data_fitted_are_named(factor, method):
    coder = SparseCoder(**SMALL, method=method).fit(NORMAL)
    far = NORMAL[:200].copy()
    far[150] *= factor
    with pytest.raises(UserError, match=r"row 150 is more than 1e\+15 times as large") as refused:
        coder.transform(far)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="row 150"):
        coder.score(far)


@pytest.mark.parametrize("method", ["inferred_threshold", "fista", "lasso"])
def test_a_row_too_small_for_float32_beside_the_others_counts_as_zeros(method):
    data, atoms = NORMAL[:200].copy(), NORMAL[300:324]
    data[150] *= 1e-40
    data[151, 3] *= 1e-40
    coder = SparseCoder(method=method, dictionary=atoms, max_iter=2, random_state=0).fit(data)
    codes = coder.transform(data)
    assert np.isfinite(codes).all()
    assert codes.any()
    if method != "inferred_threshold":
        assert not codes[150].any()


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_moments_of_parts_are_those_of_the_whole(scale):
    data = (NORMAL + np.arange(16)) * scale
    whole, found = moments(data), None
    for part in (data[:1], data[1:3], data[3:100], data[100:]):
        found = moments(part, found)
    assert found is not None
    np.testing.assert_array_equal(found.counts, len(data))
    np.testing.assert_allclose(found.mean, whole.mean)
    np.testing.assert_allclose(found.deviation, whole.deviation)
    assert found.scale == pytest.approx(whole.scale)
    if scale == 1:
        scaler = StandardScaler().fit(data)
        np.testing.assert_allclose(whole.mean, scaler.mean_)
        np.testing.assert_allclose(whole.deviation, scaler.scale_)


@pytest.mark.parametrize(
    "sizes",
    [
        (1,),
        pytest.param((2,), marks=pytest.mark.slow),
        pytest.param((1, 1, 3), marks=pytest.mark.slow),
        pytest.param((0.5,), marks=pytest.mark.slow),
    ],
)
def test_a_first_part_of_few_rows_decides_nothing(sizes, tmp_path):
    """The first parts' rows are far from the mean, and the score is that of equal parts."""
    order = np.argsort(-np.sum((DIGITS - DIGITS.mean(0)) ** 2, axis=1), kind="stable")
    sizes = [int(size * len(DIGITS)) if size < 1 else size for size in sizes]
    few, rest = order[: sum(sizes)], np.random.default_rng(0).permutation(order[sum(sizes) :])
    coder = SparseCoder(24, random_state=0)
    for part in np.split(few, np.cumsum(sizes)[:-1]):
        coder.partial_fit(DIGITS[part])
        assert np.isfinite(coder.transform(DIGITS[:3])).all()
    coder.save(tmp_path / "model")
    coder = jvsc.load(tmp_path / "model")
    for _ in range(12):
        for part in np.array_split(rest, 5):
            coder.partial_fit(DIGITS[part])
    assert coder.score(DIGITS) > 0.6
    if sum(sizes) < 10:
        np.testing.assert_allclose(coder.mean_, DIGITS.mean(axis=0), atol=0.2)
        assert coder.scale_ == pytest.approx(moments(DIGITS).scale, rel=0.02)


@pytest.mark.parametrize("method", ["topk", "thresholded_laplacian"])
def test_a_first_part_whose_mean_is_far_off_is_forgotten(method):
    coder = SparseCoder(24, method=method, random_state=0).partial_fit(100 * NORMAL[:2])
    for _ in range(20):
        coder.partial_fit(NORMAL)
    assert coder.score(NORMAL) > 0


@pytest.mark.parametrize("method", ["topk", "inferred_threshold"])
def test_the_score_of_constant_data_counts_no_rounding(method):
    data = np.full((300, 8), 14.62)
    coder = SparseCoder(24, method=method, max_iter=1, random_state=0).fit(data)
    assert coder.score(data) in (0, 1)
    assert coder.score(data + 1e-3 * NORMAL[:300, :8]) < 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ma.array(NORMAL, mask=NORMAL > 2), "X has masked values"),
        (np.zeros((300, 16), "m8[s]"), "X is of type timedelta64"),
    ],
)
def test_masked_values_and_time_spans_are_no_data(data, message):
    with pytest.raises(UserError, match=message):
        SparseCoder(24, max_iter=1).fit(data)


def test_bfloat16_is_data():
    coder = SparseCoder(24, max_iter=1, random_state=0).fit(NORMAL)
    narrow = NORMAL.astype(jnp.bfloat16)
    codes = coder.transform(narrow)
    np.testing.assert_array_equal(codes, coder.transform(narrow.astype(np.float32)))
    assert coder.inverse_transform(codes.astype(jnp.bfloat16)).dtype == np.float32


def test_no_step_is_made_of_rows_that_are_all_alike():
    coder = SparseCoder(24, random_state=0).partial_fit(NORMAL[:1])
    assert (coder.n_steps_, coder.n_iter_, coder.scale_) == (0, 0, 1.0)
    np.testing.assert_array_equal(coder.mean_, NORMAL[0])
    coder.partial_fit(np.repeat(NORMAL[:1], 5, axis=0))
    assert (coder.n_steps_, coder.n_iter_) == (0, 0)
    coder.partial_fit(NORMAL)
    assert coder.n_iter_ == 1


@pytest.mark.parametrize("change", [{"n_components": 25}, {"method": "jump_relu"}])
def test_a_part_for_another_model_than_was_learned_is_refused(change):
    coder = SparseCoder(24, method="topk", max_iter=1, random_state=0).fit(NORMAL)
    with pytest.raises(UserError, match="have changed since this was fitted"):
        coder.set_params(**change).partial_fit(NORMAL)
    coder.set_params(n_components=24, method="topk", batch_size=64).partial_fit(NORMAL)


def test_a_part_that_fails_changes_nothing():
    coder = SparseCoder(24, random_state=0).partial_fit(NORMAL)
    before = coder.transform(NORMAL)
    curve, mean = list(coder.loss_curve_), coder.mean_

    def fails(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        coder.set_params(callback=fails).partial_fit(NORMAL + 5)
    np.testing.assert_array_equal(coder.transform(NORMAL), before)
    np.testing.assert_array_equal(coder.mean_, mean)
    assert coder.loss_curve_ == curve


RESCALED = [
    ("fista", None, 1e-3),
    ("relu_l1", None, 1e-4),
    ("jump_relu", None, 1e-4),
    ("batch_topk", None, 1e-4),
    ("matryoshka", None, 1e-4),
    ("topk", None, 1e-4),
    ("gaussian", "mlp", 1e-4),
    ("thresholded_laplacian", "linear", 1e-4),
    ("spike_and_slab", "unrolled", 1e-3),
    ("inferred_threshold", "unrolled", 1e-3),
    ("inferred_threshold", "mlp", 1e-3),
    ("inferred_threshold", "linear", 1e-3),
    ("inferred_threshold", "message_passing", 1e-3),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "encoder", "tolerance"), RESCALED)
def test_what_is_learned_is_the_same_function_in_other_units(method, encoder, tolerance):
    coder = SparseCoder(**SMALL, method=method, encoder=encoder)
    coder.set_params(max_iter=20, sparsity=0.3).fit(NORMAL)
    settings = coder._settings()
    assert isinstance(settings, CoderSettings)
    plan = make_plan(settings, 16, 128)
    x = ((NORMAL - coder.mean_) / coder.scale_)[:128].astype(np.float32)
    ratio = 0.37
    before = learned(plan, coder._state, 16, 0)
    after = learned(plan, rescaled(plan, coder._state, ratio), 16, 0)
    moved = (ratio * x).astype(np.float32)

    def explained(what, rows):
        if what.is_solved:
            penalty = float(np.exp(what.statistics.generator["control"]))
            codes = what.solve(rows, penalty).codes
        else:
            # Draws follow from a datum's values, so locations are compared instead.
            model = what.coder.model
            if method in ("gaussian", "thresholded_laplacian", "spike_and_slab"):
                heads, _ = jax.jit(model.heads)(what.parameters, what.statistics, rows)
                return np.asarray(heads["loc"] @ what.dictionary), heads
            codes = what.encode(rows)
        return np.asarray(rows - what.residual(rows, np.asarray(codes))), codes

    one, codes = explained(before, x)
    other, changed = explained(after, moved)
    if isinstance(codes, dict):
        for name in codes:
            np.testing.assert_allclose(codes[name], changed[name], atol=20 * tolerance)
    else:
        agree = np.mean((np.asarray(codes) != 0) == (np.asarray(changed) != 0))
        assert agree > 0.999
    expected = ratio * one
    difference = np.abs(other - expected)
    assert np.quantile(difference, 0.99) < 20 * tolerance * np.abs(expected).max()
    assert jax.tree.structure(packed(before.coder.init(jax.random.key(0)[None]))) is not None
    assert make_coder(plan, 16) is before.coder


@pytest.mark.parametrize(
    "method", ["inferred_threshold", pytest.param("fista", marks=pytest.mark.slow)]
)
def test_sparse_data_are_the_dense_ones(method):
    dense = np.where(DIGITS > 8, DIGITS, 0)
    plain = SparseCoder(**SMALL, method=method).fit(dense)
    for kind in (scipy.sparse.csr_array, scipy.sparse.csr_matrix, scipy.sparse.coo_array):
        coder = SparseCoder(**SMALL, method=method).fit(kind(dense))
        np.testing.assert_array_equal(coder.components_, plain.components_)
        np.testing.assert_array_equal(coder.transform(kind(dense)), plain.transform(dense))
        assert coder.score(kind(dense)) == plain.score(dense)
    coder.partial_fit(scipy.sparse.csr_array(dense))


def test_real_weights_make_no_more_passes_than_were_asked_for():
    weights = np.random.default_rng(0).uniform(size=len(DIGITS))
    whole = SparseCoder(8, max_iter=8, batch_size=128, random_state=0).fit(DIGITS)
    assert abs(whole.set_params().fit(DIGITS, sample_weight=weights).n_steps_ - 8 * 14) < 8
    order, passes = weighted_order(np.random.default_rng(0).uniform(size=450_000))
    assert (len(order), passes) == (450_000, 1)


def test_constant_data_have_a_penalty_however_long_they_are_fitted():
    coder = SparseCoder(4, method="lasso", max_iter=600, batch_size=4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coder.fit(np.ones((4, 3)))
    assert coder.penalty_ > 0


def test_rows_come_as_often_as_their_weights_say():
    np.testing.assert_array_equal(weighted_order(np.array([2.0, 0.0, 4.0]))[0], [0, 2, 2])
    np.testing.assert_array_equal(weighted_order(np.ones(3))[0], [0, 1, 2])
    weights = np.random.default_rng(0).uniform(size=50)
    counts = np.bincount(weighted_order(weights)[0], minlength=50)
    assert counts.sum() == 400
    assert np.abs(counts - 400 * weights / weights.sum()).max() < 1
    for equal in (0.5, 1 / 500, 1e-30):
        np.testing.assert_array_equal(weighted_order(np.full(500, equal))[0], np.arange(500))
    np.testing.assert_array_equal(weighted_order(np.array([0.3, 0.1, 0.0]))[0], [0, 0, 0, 1])
    counts = np.bincount(weighted_order(np.array([1.0, 1e9]))[0], minlength=2)
    assert counts.tolist() == [0, 16]


@pytest.mark.parametrize("weight", [1e-20, 1e9, 1e13, 1e30])
def test_moments_do_not_depend_on_the_size_of_the_weights(weight):
    data = 300 + 5 * NORMAL
    plain = moments(data)
    found = moments(data, weights=np.full(len(data), weight))
    assert found.scale == pytest.approx(plain.scale, rel=1e-9)
    np.testing.assert_allclose(found.mean, plain.mean, rtol=1e-12)


def test_a_table_of_time_spans_is_refused_as_an_array_is():
    pandas = pytest.importorskip("pandas")
    for kind in ("m8[s]", "M8[s]"):
        table = pandas.DataFrame(np.arange(40).reshape(20, 2).astype(kind))
        with pytest.raises(ValueError, match="give real numbers"):
            SparseCoder(**SMALL).fit(table)


def test_weights_are_repetitions():
    weights = np.random.default_rng(0).integers(0, 3, len(NORMAL))
    repeated = np.repeat(NORMAL, weights, axis=0)
    one = SparseCoder(**SMALL).fit(NORMAL, sample_weight=weights)
    other = SparseCoder(**SMALL).fit(repeated)
    np.testing.assert_allclose(one.mean_, other.mean_, atol=1e-12)
    np.testing.assert_allclose(one.components_, other.components_, atol=1e-4)
    for wrong, message in (
        (np.ones(3), "sample_weight.shape"),
        (-np.ones(500), "[Nn]egative"),
        (np.zeros(500), "[Ss]ample weights"),
        (np.arange(500) == 3, "sample_weight is zero for all rows but one at most"),
    ):
        with pytest.raises(ValueError, match=message):
            SparseCoder(**SMALL).fit(NORMAL, sample_weight=wrong)


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e300, 1.7e308])
def test_weights_of_any_size_weigh_the_same(size):
    weights = np.arange(len(NORMAL)) % 2 + 0.0
    one = SparseCoder(**SMALL).fit(NORMAL, sample_weight=size * weights)
    other = SparseCoder(**SMALL).fit(NORMAL, sample_weight=0.3 * weights)
    np.testing.assert_allclose(one.mean_, other.mean_, atol=1e-9)
    assert one.scale_ == pytest.approx(other.scale_, rel=1e-9)
    np.testing.assert_allclose(one.components_, other.components_, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_components": 10**9}, "n_components: would take 64 GB|n_components: would take 256"),
        ({"n_components": 10**15}, "n_components: would take"),
        ({"n_samples": 10**9, "method": "gaussian"}, "n_samples, n_components and batch_size"),
        ({"n_components": 10**9, "method": "topk"}, "n_components: would take"),
        ({"n_components": 10**6, "method": "lasso"}, "n_components: would take"),
    ],
)
def test_what_the_machine_cannot_hold_is_refused(given, message):
    with pytest.raises(UserError, match=message) as refused:
        SparseCoder(**given).fit(NORMAL)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="and this machine has"):
        SparseCoder(**given).partial_fit(NORMAL)


def test_whole_weights_whose_sum_has_no_room_are_weights_still():
    weights = np.random.default_rng(0).integers(2**51, 2**52, 5000).astype(np.float64)
    order, _ = weighted_order(weights)
    assert len(order) == 8 * 5000
    counts = np.bincount(order, minlength=5000)
    np.testing.assert_allclose(counts, weights / weights.mean() * 8, atol=1)
