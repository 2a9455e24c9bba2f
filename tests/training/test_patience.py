"""Patience counts as scikit-learn's SGD estimators do."""

import math

from jvsc.training.patience import Patience


def waited(losses, min_delta=0.0):
    patience, counts = Patience(), []
    for loss in losses:
        patience = patience.after(loss, min_delta)
        counts.append(patience.waited)
    return counts


def test_a_loss_that_is_not_lower_waits():
    assert waited([3.0, 2.0, 2.0, 2.5, 1.0, 1.0]) == [0, 0, 1, 2, 0, 1]


def test_a_loss_that_falls_by_less_than_asked_waits_though_it_is_the_best_then():
    assert waited([3.0, 2.5, 2.0, 0.9], min_delta=1.0) == [0, 1, 2, 0]
    assert waited([3.0, 2.1, 1.05], min_delta=1.0) == [0, 1, 0]


def test_what_is_not_finite_is_no_improvement():
    assert waited([math.nan, math.inf, 1.0, math.nan, 0.5]) == [1, 2, 0, 1, 0]
