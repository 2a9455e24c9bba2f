"""SparseCoder keeps scikit-learn's contract, and holds what it promises of its codes."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from jvsc import SparseCoder


@parametrize_with_checks([SparseCoder()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_checks(estimator, check, without_type_checks):
    check(estimator)
