"""How many atoms an estimator has where nothing is said, and shares that data cannot have."""

import numpy as np
import pytest

from jvsc import SparseCoder
from jvsc.errors import UserError

SHORT = {"max_iter": 1, "random_state": 0}


def mixtures(num_data=600, num_features=16):
    random = np.random.default_rng(1)
    atoms = random.normal(size=(2 * num_features, num_features))
    codes = random.laplace(size=(num_data, len(atoms))) * (
        random.random((num_data, len(atoms))) < 0.1
    )
    return codes @ atoms + 0.1 * random.normal(size=(num_data, num_features))


@pytest.mark.slow
def test_usual_components_are_four_a_feature_and_256_at_most():
    random = np.random.default_rng(0)
    for num_features, count in ((3, 12), (80, 256)):
        data = random.normal(size=(60, num_features))
        assert SparseCoder(**SHORT).fit(data).components_.shape == (count, num_features)
        part = SparseCoder(**SHORT).partial_fit(data).partial_fit(data)
        assert part.components_.shape == (count, num_features)
    start = random.normal(size=(7, 3))
    data = random.normal(size=(60, 3))
    assert SparseCoder(dict_init=start, **SHORT).fit(data).components_.shape == (7, 3)
    with pytest.raises(UserError, match="dict_init has 7 atoms, but n_components is 8"):
        SparseCoder(8, dict_init=start, **SHORT).fit(data)
    with pytest.raises(UserError, match="so dict_init has no use; leave one out"):
        SparseCoder(dictionary=start, dict_init=start, **SHORT).fit(data)


def test_the_usual_fit_of_few_features_is_sparse_sure_and_explains():
    data = mixtures()
    coder = SparseCoder(random_state=1).fit(data)
    assert coder.score(data) > 0.99
    assert 0.05 < np.mean(coder.transform(data) != 0) < 0.15
    assert coder.predict_support_proba(data).mean() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_non_zeros_than_features_are_warned_of_and_not_pursued(seed):
    data = mixtures()
    coder = SparseCoder(256, sparsity=0.1, random_state=seed)
    with pytest.warns(UserWarning, match="26 non-zeros of a datum with 16 features"):
        coder.fit(data)
    # Without a limit to what the noise may fall to, all probabilities went to 1/2.
    assert coder.score(data) > 0.95
    assert coder.predict_support_proba(data).mean() < 0.2


def test_a_fitted_estimator_has_the_probabilities_of_its_fit():
    data = mixtures(100)
    solved = SparseCoder(8, method="lasso", **SHORT).fit(data).set_params(method="topk")
    assert not hasattr(solved, "predict_support_proba")
    inferred = SparseCoder(8, **SHORT).fit(data).set_params(method="lasso")
    assert inferred.predict_support_proba(data).shape == (100, 8)


def test_constant_data_are_not_said_to_have_dominant_rows(recwarn):
    SparseCoder(8, sparsity=0.2, **SHORT).fit(np.ones((50, 5)))
    assert not [w for w in recwarn if "hold half of the variance" in str(w.message)]
