"""A fit can be watched and ended, and is then what it would have been without that."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from jvsc import SparseCoder, UserError
from jvsc.solvers import lasso

DIGITS = load_digits().data
SMALL = {"n_components": 48, "n_samples": 5, "batch_size": 128, "random_state": 0}


def test_a_watched_fit_is_the_same_fit(capsys):
    seen = []
    plain = SparseCoder(**SMALL, max_iter=4).fit(DIGITS)
    watched = SparseCoder(
        **SMALL, max_iter=4, verbose=1, tol=0.0, n_iter_no_change=9, callback=seen.append
    ).fit(DIGITS)
    np.testing.assert_array_equal(watched.components_, plain.components_)
    assert watched.loss_curve_ == plain.loss_curve_ == [state.loss for state in seen]
    assert [(state.n_iter, state.n_steps) for state in seen] == [(n, 14 * n) for n in (1, 2, 3, 4)]
    np.testing.assert_array_equal(seen[-1].components, plain.components_)
    assert not np.array_equal(seen[0].components, plain.components_)
    assert 0 < seen[-1].nonzero_fraction < 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[3].startswith(f"pass 4: loss {plain.loss_curve_[3]:.4f}  non-zeros ")


def test_nothing_is_shown_unless_it_is_asked_for(capsys):
    SparseCoder(**SMALL, max_iter=1).fit(DIGITS)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_a_callback_ends_a_fit_that_can_be_used_and_gone_on_with():
    coder = SparseCoder(**SMALL, max_iter=50, callback=lambda state: state.n_iter == 3)
    coder.fit(DIGITS)
    assert (coder.n_iter_, coder.n_steps_, len(coder.loss_curve_)) == (3, 42, 3)
    assert coder.transform(DIGITS).shape == (len(DIGITS), 48)
    seen = []
    coder.set_params(callback=seen.append).partial_fit(DIGITS)
    assert (coder.n_iter_, coder.n_steps_, len(coder.loss_curve_)) == (4, 42 + 15, 4)
    assert [(state.n_iter, state.n_steps) for state in seen] == [(4, 42 + 15)]


def test_a_fit_that_fails_leaves_the_estimator_as_it_was():
    """Else old components would code by a new mean and scale."""

    def fails(state):
        raise RuntimeError("of the callback")

    coder = SparseCoder(**SMALL, max_iter=1, callback=fails)
    with pytest.raises(RuntimeError, match="of the callback"):
        coder.fit(DIGITS)
    with pytest.raises(NotFittedError):
        coder.transform(DIGITS)
    coder.set_params(callback=None).fit(DIGITS)
    codes = coder.transform(DIGITS[:9])
    coder.set_params(callback=fails)
    for data, error in ((9 * DIGITS + 1, RuntimeError), (DIGITS[:, :5] * np.nan, ValueError)):
        with pytest.raises(error):
            coder.fit(data)
        np.testing.assert_array_equal(coder.transform(DIGITS[:9]), codes)


def test_a_true_of_numpy_ends_a_fit():
    callback = lambda state: np.linalg.norm(state.components) > 0  # noqa: E731
    assert SparseCoder(**SMALL, max_iter=3, callback=callback).fit(DIGITS).n_iter_ == 1


def test_a_callback_may_wait_for_another_thread_that_solves():
    atoms = np.eye(64, dtype=np.float32)

    def callback(state):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lasso, DIGITS[:5], atoms, 1.0).result(timeout=60) is None

    coder = SparseCoder(8, method="lasso", max_iter=2, callback=callback, random_state=0)
    assert coder.fit(DIGITS[:300]).n_iter_ == 2


def test_a_callback_sees_the_dictionary_that_was_given():
    given, seen = 5 * np.eye(64)[:20] + 0.1, []
    coder = SparseCoder(dictionary=given, max_iter=1, callback=lambda s: seen.append(s.components))
    np.testing.assert_array_equal(coder.fit(DIGITS).components_, seen[0])


def test_only_true_ends_a_fit():
    coder = SparseCoder(**SMALL, max_iter=2, callback=lambda state: state.components)
    assert coder.fit(DIGITS).n_iter_ == 2


@pytest.mark.slow
def test_a_loss_that_has_stopped_falling_ends_a_fit():
    coder = SparseCoder(**SMALL, max_iter=100, tol=1e-2, n_iter_no_change=5).fit(DIGITS)
    # 500 steps, 14 a pass, do not count; of what follows the first is the best so far.
    first = -(-500 // 14)
    assert first + 5 < coder.n_iter_ < 100
    best = np.minimum.accumulate(coder.loss_curve_[first:])
    assert all(coder.loss_curve_[-n] > best[-n - 1] - 1e-2 for n in range(1, 6))
    whole = SparseCoder(**SMALL, max_iter=100, tol=0.0, n_iter_no_change=100).fit(DIGITS)
    assert whole.n_iter_ == 100
    np.testing.assert_array_equal(whole.loss_curve_[: coder.n_iter_], coder.loss_curve_)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tol": -1.0}, "tol is -1.0: must be a number >= 0, or None"),
        ({"n_iter_no_change": 0}, "n_iter_no_change is 0"),
        ({"verbose": "yes"}, "verbose is 'yes'"),
        ({"callback": 3}, "callback is 3; give a function of a FitState, or None"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(given, message, without_type_checks):
    with pytest.raises(UserError, match=message) as refused:
        SparseCoder(**given).fit(DIGITS)
    assert "\n" not in str(refused.value)
