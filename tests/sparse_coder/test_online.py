"""SparseCoder(method="lasso"): a dictionary learned online, watched, continued and kept."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import sparse_encode

import jvsc
from jvsc import SparseCoder


def digits():
    return np.random.default_rng(0).permutation(load_digits().data)


def coder(**changed):
    settings = {"n_components": 32, "method": "lasso", "max_iter": 5, "random_state": 0} | changed
    return SparseCoder(**settings)


def test_its_codes_are_the_lassos_and_explain_digits():
    data = digits()
    fitted = coder(sparsity=0.2, max_iter=20).fit(data[:1400])
    held_out = data[1400:]
    codes = fitted.transform(held_out)
    assert np.mean(fitted.transform(data[:1400]) != 0) == pytest.approx(0.2, abs=0.02)
    assert fitted.score(held_out) > 0.75
    atoms = fitted.components_ / fitted.scale_
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1, rtol=1e-4)
    exact = sparse_encode(
        (held_out - fitted.mean_) / fitted.scale_,
        atoms,
        algorithm="lasso_lars",
        alpha=fitted.penalty_,
    )
    np.testing.assert_allclose(codes, exact, atol=0.05)


def test_the_loss_falls_and_a_callback_ends_it():
    seen = []
    fitted = coder(callback=lambda state: bool(seen.append(state) or state.n_iter == 3)).fit(
        digits()
    )
    assert fitted.n_iter_ == 3
    assert [state.n_steps for state in seen] == [3, 6, 9]
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    np.testing.assert_allclose(seen[-1].components, fitted.components_, rtol=1e-6)


def test_parts_go_on_also_after_it_was_kept(tmp_path):
    data = digits()
    fitted = coder().partial_fit(data[:600])
    first = fitted.score(data)
    fitted.save(tmp_path / "coder")
    again = jvsc.load(tmp_path / "coder")
    for one in (fitted, again):
        one.partial_fit(data[600:1200])
    np.testing.assert_array_equal(again.components_, fitted.components_)
    assert fitted.score(data) > first - 0.02


def test_scaled_data_have_the_same_dictionary_in_parts():
    data = digits()
    plain, scaled = coder(), coder()
    for part in (data[:600], data[600:1200]):
        plain.partial_fit(part)
        scaled.partial_fit(part * 1000)
    np.testing.assert_allclose(scaled.components_, plain.components_ * 1000, rtol=1e-2, atol=5)


def test_codes_that_are_not_negative_and_a_start():
    data = digits()
    fitted = coder(positive_code=True, dict_init=data[:32] + 1).fit(data)
    assert fitted.transform(data[:200]).min() == 0
    given = coder(dictionary=data[:40] + 1).fit(data)
    np.testing.assert_allclose(given.components_, data[:40] + 1)
