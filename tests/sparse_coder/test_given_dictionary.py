"""SparseCoder with a dictionary that is given: as scikit-learn's, and as a start."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import sparse_encode

import jvsc
from jvsc import SparseCoder, UserError

DIGITS = load_digits().data
RANDOM = np.random.default_rng(0)
ATOMS = DIGITS[RANDOM.choice(len(DIGITS), 40)] * RANDOM.uniform(0.2, 3, (40, 1))


def explained(coder):
    codes = coder.transform(DIGITS)
    np.testing.assert_allclose(coder.inverse_transform(codes), codes @ coder.components_)
    error = np.sum((coder.inverse_transform(codes) - DIGITS) ** 2)
    assert coder.score(DIGITS) == pytest.approx(1 - error / np.sum(DIGITS**2), abs=1e-4)
    return coder.score(DIGITS)


def test_the_lasso_by_a_given_dictionary_is_scikit_learns():
    coder = SparseCoder(method="fista", dictionary=ATOMS, sparsity=0.2).fit(DIGITS)
    np.testing.assert_array_equal(coder.components_, ATOMS)
    np.testing.assert_array_equal(coder.mean_, 0)
    assert coder.n_iter_ == 0
    penalty = coder.penalty_ * coder.scale_**2
    expected = sparse_encode(DIGITS[:50], ATOMS, algorithm="lasso_cd", alpha=penalty, max_iter=9999)
    codes = coder.transform(DIGITS[:50])
    objectives = [
        0.5 * np.sum((DIGITS[:50] - s @ ATOMS) ** 2, 1) + penalty * np.abs(s).sum(1)
        for s in (codes, expected)
    ]
    np.testing.assert_allclose(*objectives, rtol=1e-3)
    assert np.mean(coder.transform(DIGITS) != 0) == pytest.approx(0.2, abs=0.01)
    assert explained(coder) > 0.8


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("inferred_threshold", marks=pytest.mark.slow),
        "topk",
        "thresholded_laplacian",
    ],
)
def test_an_encoder_is_trained_for_a_given_dictionary(method, tmp_path):
    coder = SparseCoder(
        method=method, dictionary=ATOMS, n_samples=3, sparsity=0.2, max_iter=40, random_state=0
    ).fit(DIGITS)
    np.testing.assert_array_equal(coder.components_, ATOMS)
    short = SparseCoder(
        method=method, dictionary=ATOMS, n_samples=3, sparsity=0.2, max_iter=1, random_state=0
    ).fit(DIGITS)
    assert explained(coder) > max(0.6, explained(short))
    coder.save(tmp_path / "model")
    found = jvsc.load(tmp_path / "model")
    np.testing.assert_array_equal(found.transform(DIGITS[:9]), coder.transform(DIGITS[:9]))
    with pytest.raises(UserError, match="would not change a given dictionary; use fit"):
        coder.partial_fit(DIGITS)


def test_a_dictionary_begins_in_given_directions():
    given = {"n_components": 40, "random_state": 0, "max_iter": 1, "batch_size": 1797}
    coder = SparseCoder(**given, dict_init=ATOMS).fit(DIGITS)
    cosine = np.sum(coder.components_ * ATOMS, 1) / (
        np.linalg.norm(coder.components_, axis=1) * np.linalg.norm(ATOMS, axis=1)
    )
    assert cosine.min() > 0.99
    other = SparseCoder(**given).fit(DIGITS)
    assert not np.allclose(other.components_, coder.components_, atol=1)


@pytest.mark.parametrize("name", ["dictionary", "dict_init"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ATOMS[:, :5], r"has the shape \(40, 5\); give \[K, 64\], one atom a row"),
        (ATOMS[0], r"has the shape \(64,\)"),
        (ATOMS * np.nan, "holds NaN, infinity or an atom of zeros"),
        (ATOMS * (np.arange(40) > 3)[:, None], "holds NaN, infinity or an atom of zeros"),
        (ATOMS[:0], r"has the shape \(0, 64\)"),
        (ATOMS + 1j, "is of type complex128; give real numbers"),
        (np.ma.masked_array(ATOMS, ATOMS > 9), "has masked values; fill them in"),
        ([[1, 2], [3]], "setting an array element with a sequence"),
    ],
)
def test_dictionaries_that_do_not_serve_are_refused(name, given, message):
    with pytest.raises(UserError, match=f"{name}:? {message}"):
        SparseCoder(40, **{name: given}).fit(DIGITS)
    with pytest.raises(UserError, match="dict_init has 40 atoms, but n_components is 41"):
        SparseCoder(41, dict_init=ATOMS).fit(DIGITS)


@pytest.mark.parametrize("method", ["lasso", "inferred_threshold"])
def test_atoms_of_any_size_serve_beside_data_of_theirs(method):
    given = {"method": method, "max_iter": 1, "random_state": 0}
    usual = SparseCoder(dictionary=ATOMS, **given).fit(DIGITS)
    for size in (1e-200, 1e200):
        coder = SparseCoder(dictionary=ATOMS * size, **given).fit(DIGITS * size)
        np.testing.assert_allclose(
            coder.transform(DIGITS[:9] * size), usual.transform(DIGITS[:9]), rtol=1e-3, atol=1e-4
        )
        with pytest.raises(UserError, match=r"atom 0 has norm .*, too far apart for float32"):
            SparseCoder(dictionary=ATOMS * size, **given).fit(DIGITS)
    coder = SparseCoder(40, dict_init=ATOMS * 1e200, **given).fit(DIGITS)
    other = SparseCoder(40, dict_init=ATOMS, **given).fit(DIGITS)
    np.testing.assert_allclose(coder.components_, other.components_, rtol=1e-3, atol=1e-3)


def test_codes_stay_those_of_the_dictionary_that_was_fitted():
    coder = SparseCoder(dictionary=ATOMS, max_iter=1, random_state=0).fit(DIGITS)
    codes = coder.transform(DIGITS[:9])
    np.testing.assert_array_equal(coder.set_params(dictionary=None).transform(DIGITS[:9]), codes)


@pytest.mark.parametrize("method", ["lasso", "fista"])
def test_parts_do_not_go_on_from_a_dictionary_that_was_given(method):
    atoms = np.eye(64)[:8]
    coder = SparseCoder(8, method, dictionary=atoms, random_state=0).fit(DIGITS[:200])
    coder.set_params(dictionary=None)
    with pytest.raises(UserError, match="give it as dict_init"):
        coder.partial_fit(DIGITS[:200])
    np.testing.assert_array_equal(coder.components_, atoms)
