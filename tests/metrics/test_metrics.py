"""Measures against second implementations, known answers, and codes that must fail them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import pointbiserialr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import jaccard_score, mutual_info_score, r2_score

from jvsc.errors import UserError
from jvsc.metrics import (
    active_latents,
    cross_entropy_recovered,
    estimated_dictionary,
    explained_variance,
    frechet_distance,
    gaussian_log_likelihood,
    gradient_snr,
    importance_weighted_bound,
    jaccard_consistency,
    linear_probe,
    mean_mutual_information,
    moments,
    pairwise_mutual_information,
    point_biserial,
    splicing_losses,
    support_statistics,
)
from jvsc.metrics.multi_information import digitise, multi_information


def sparse_codes(num_data: int, num_latents: int, seed: int = 0, share: float = 0.3):
    random = np.random.default_rng(seed)
    shape = (num_data, num_latents)
    return (random.normal(size=shape) * (random.uniform(size=shape) < share)).astype(np.float32)


# Dependence


@pytest.mark.parametrize("num_latents", [5, 130])  # one block of latents, and two
def test_mutual_information_agrees_with_scikit_learn(num_latents):
    codes = sparse_codes(5000, num_latents)
    codes[:, 1] = codes[:, 0] + 0.1 * codes[:, 1]
    found = pairwise_mutual_information(codes)
    digits, _ = digitise(codes)
    for i, j in [(0, 1), (0, 0), (2, 3), (num_latents - 1, 0), (4, num_latents - 1)]:
        expected = mutual_info_score(digits[:, i], digits[:, j]) / np.log(2)
        assert found[i, j] == pytest.approx(expected, abs=2e-5)


def test_independent_latents_have_no_mutual_information_once_the_bias_is_off():
    codes = sparse_codes(2000, 30)
    plug_in = pairwise_mutual_information(codes)[np.triu_indices(30, k=1)]
    # 435 pairs; a pair's plug-in varies by about its bias / sqrt(cells / 2). Five standard errors.
    error = 5 * plug_in.std() * np.sqrt(2 / len(plug_in))
    assert plug_in.mean() > 10 * error
    assert abs(mean_mutual_information(codes)) < error


def test_a_duplicated_latent_is_dependent_and_a_permuted_one_is_not():
    codes = np.repeat(np.random.default_rng(0).choice([0.0, 0.5, -1, 1], (20_000, 1)), 2, axis=1)
    assert mean_mutual_information(codes) == pytest.approx(2.0, abs=5e-3)
    codes[:, 1] = np.random.default_rng(1).permutation(codes[:, 1])
    assert mean_mutual_information(codes) == pytest.approx(0.0, abs=2e-3)


def test_dependence_is_seen_where_multi_information_has_long_saturated():
    base = sparse_codes(1000, 100, share=0.5)
    mixed = base.copy()
    mixed[:, 50:] = base[:, :50]
    assert mean_mutual_information(mixed) > 10 * abs(mean_mutual_information(base))


# The importance-weighted bound


def test_the_bound_reaches_the_likelihood_of_a_model_that_can_be_integrated():
    # z ~ N(0, 1), x = z + N(0, 0.5), so x ~ N(0, 1.5); q is N(x / 2, 1), too wide.
    x, draws = 0.7, 200_000
    z = x / 2 + jax.random.normal(jax.random.key(0), (draws,))
    normal = lambda value, variance: -0.5 * (jnp.log(2 * jnp.pi * variance) + value**2 / variance)  # noqa: E731
    log_weights = normal(x - z, 0.5) + normal(z, 1.0) - normal(z - x / 2, 1.0)
    expected = float(normal(x, 1.5))
    weights = np.exp(np.asarray(log_weights, np.float64) - expected)
    # Five standard errors of the mean weight; fixed key.
    tolerance = 5 * weights.std() / np.sqrt(draws)
    assert float(importance_weighted_bound(log_weights)) == pytest.approx(expected, abs=tolerance)


def test_one_draw_gives_the_evidence_lower_bound_and_more_draws_a_tighter_one():
    log_weights = jax.random.normal(jax.random.key(1), (40, 500))
    assert importance_weighted_bound(log_weights[:1]).tolist() == log_weights[0].tolist()
    means = [float(importance_weighted_bound(log_weights[:j]).mean()) for j in (1, 4, 40)]
    assert means[0] < means[1] < means[2]


def test_the_likelihoods_variance_makes_the_encoders_loss_a_bound():
    random = np.random.default_rng(0)
    x, mean, weight = random.normal(size=9), random.normal(size=9), 0.02
    variance = weight * 9 / 2
    expected = -0.5 * np.sum((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))
    found = gaussian_log_likelihood(jnp.asarray(np.mean((x - mean) ** 2)), weight, 9)
    assert float(found) == pytest.approx(expected, rel=1e-5)


# Gradients


@pytest.mark.parametrize(("num_draws", "chunk"), [(1, 10), (7, 3), (60, 20), (61, 20)])
def test_streamed_signal_to_noise_is_that_of_all_gradients_at_once(num_draws, chunk):
    gradient = lambda key: {  # noqa: E731
        "a": 3.0 + jax.random.normal(key, (4,)),
        "b": 1e3 + 1e-1 * jax.random.normal(key, ()),
    }
    keys = jax.random.split(jax.random.key(0), num_draws)
    found = jax.jit(lambda keys: gradient_snr(gradient, keys, chunk))(keys)
    draws = {name: np.asarray(jax.vmap(gradient)(keys)[name], np.float64) for name in "ab"}
    for name, values in draws.items():
        expected = np.abs(values.mean(0)) / (values.std(0) + 1e-9)
        np.testing.assert_allclose(found[name], expected, rtol=1e-3)


def test_memory_for_signal_to_noise_does_not_grow_with_the_draws():
    gradient = lambda key: jax.random.normal(key, (1000,))  # noqa: E731

    def memory(num_draws: int) -> int:
        keys = jax.random.split(jax.random.key(0), num_draws)
        compiled = jax.jit(lambda keys: gradient_snr(gradient, keys, 10)).lower(keys).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # The keys themselves, 8 bytes each, are copied once.
    assert memory(1000) <= memory(20) + 8 * 1000


# Supports


def test_jaccard_agrees_with_scikit_learn():
    supports = np.random.default_rng(0).uniform(size=(5, 12)) < 0.4
    pairs = [(i, j) for i in range(5) for j in range(i)]
    expected = np.mean([jaccard_score(supports[i], supports[j]) for i, j in pairs])
    assert float(jaccard_consistency(jnp.asarray(supports))) == pytest.approx(expected, rel=1e-6)


def test_alike_disjoint_and_empty_supports():
    eye = jnp.eye(6, dtype=bool)
    alike = jnp.repeat(eye[None, 0], 4, axis=0)
    batch = jnp.stack([alike, eye[:4], jnp.zeros((4, 6), bool)], axis=1)
    assert jaccard_consistency(batch).tolist() == [1.0, 0.0, 1.0]


def test_support_statistics_of_a_known_code():
    codes = np.array([[0, 2.0, 0], [0, -4.0, 1.0]], np.float32)
    found = support_statistics(codes)
    assert found.frequency.tolist() == [0.0, 1.0, 0.5]
    assert found.mean_size.tolist() == [0.0, 3.0, 1.0]
    assert active_latents(codes).tolist() == [0, 1, 1, 0]


def test_explained_variance_agrees_with_scikit_learn():
    random = np.random.default_rng(0)
    data = random.normal(2.0, 1.0, size=(200, 5))
    guess = data + 0.3 * random.normal(size=data.shape)
    found = explained_variance(data, ((data - guess) ** 2).mean(1))
    assert found == pytest.approx(r2_score(data, guess, multioutput="variance_weighted"))


# Data and labels


def test_the_estimated_dictionary_is_the_least_squares_one():
    random = np.random.default_rng(0)
    codes = sparse_codes(500, 8)
    data = codes @ random.normal(size=(8, 5)) + 0.1 * random.normal(size=(500, 5))
    expected = LinearRegression(fit_intercept=False).fit(codes.astype(float), data).coef_.T
    np.testing.assert_allclose(estimated_dictionary(data, codes, chunk=77), expected, atol=1e-6)


def test_the_estimated_dictionary_recovers_the_one_that_made_the_data():
    dictionary = np.random.default_rng(1).normal(size=(8, 5))
    codes = sparse_codes(300, 8)
    codes[:, 3] = 0
    found = estimated_dictionary(codes @ dictionary, codes)
    dictionary[3] = 0
    np.testing.assert_allclose(found, dictionary, atol=1e-5)


def test_point_biserial_agrees_with_scipy():
    random = np.random.default_rng(0)
    codes, attributes = sparse_codes(300, 4), random.uniform(size=(300, 3)) < 0.2
    codes[:, 0] += attributes[:, 1]
    found = point_biserial(codes, attributes)
    for k in range(4):
        for a in range(3):
            expected = pointbiserialr(attributes[:, a], codes[:, k].astype(float)).statistic
            assert found[k, a] == pytest.approx(expected, abs=1e-9)


def test_point_biserial_of_what_does_not_vary_is_zero():
    codes = np.zeros((10, 2), np.float32)
    codes[:5, 1] = 1
    attributes = np.zeros((10, 2), bool)
    attributes[:5, 1] = True
    assert point_biserial(codes, attributes).tolist() == [[0, 0], [0, pytest.approx(1.0)]]
    # 0.1 has no exact mean.
    rounded, some = np.full((19_000, 1), 0.1), np.arange(19_000)[:, None] % 7 == 0
    assert point_biserial(rounded, some).tolist() == [[0]]


def test_frechet_distance_agrees_with_the_matrix_square_root_of_scipy():
    random = np.random.default_rng(0)
    a = random.normal(size=(400, 6)) @ random.normal(size=(6, 6))
    b = random.normal(1.0, 2.0, size=(300, 6))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_of_fewer_data_than_features_is_real():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(5, 20)), random.normal(3.0, 1.0, size=(6, 20))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    # scipy's root of a singular matrix is good to the root of float64's rounding.
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-4)


def test_a_probe_reads_labels_that_codes_hold_and_not_those_they_do_not():
    random = np.random.default_rng(0)
    codes = random.normal(size=(3000, 6))
    classes = codes[:, :3].argmax(axis=1)
    one_hot = np.eye(3, dtype=bool)[classes]
    split = lambda values: (values[:2000], values[2000:])  # noqa: E731
    (train, test), (train_labels, labels) = split(codes), split(one_hot)
    assert linear_probe(train, train_labels, test, labels, exclusive=True) > 0.95
    assert linear_probe(train, train_labels, test, labels, exclusive=False) > 0.8
    wrong = random.permutation(train_labels)
    # Chance is 1/3 with a standard error of 0.015 on 1,000 data: five of them.
    chance = linear_probe(train, wrong, test, labels, exclusive=True)
    assert chance == pytest.approx(1 / 3, abs=0.075)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("count", [2, 10, 300])
def test_frechet_distance_of_equal_features_is_zero_and_never_less(scale, count):
    """Of ten rows of Inception's features too, and in no time."""
    features = scale * np.random.default_rng(0).random((count, 2048 if count < 20 else 64))
    energy = scale**2 * features.shape[1]
    for other in (features, features[::-1], features.astype(np.float32)):
        assert 0 <= frechet_distance(features, other) < 1e-9 * energy
    moved = frechet_distance(features, features + scale)
    assert moved == pytest.approx(energy, rel=1e-9)


@pytest.mark.parametrize("scale", [1e150, 1e200, 1e-200])
def test_frechet_distance_of_features_whose_squares_have_no_room(scale):
    features = scale * np.random.default_rng(0).random((10, 64))
    assert frechet_distance(features, features) <= 1e-9 * 64 * scale**1.5 * scale**0.5


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.ones((1, 4)), "N at least 2"),
        (np.ones(4), r"give \[N, F\]"),
        (np.full((3, 4), np.nan), "leave such rows out"),
        (np.ones((3, 5)), "features are 4 and 5 wide"),
    ],
)
def test_features_that_have_no_moments_are_named(other, message, without_type_checks):
    with pytest.raises(UserError, match=message):
        frechet_distance(np.ones((3, 4)), other)


@pytest.mark.parametrize(("num_a", "num_b"), [(5, 200), (5, 7), (200, 5), (31, 30)])
def test_frechet_distance_by_small_factors_is_that_of_the_whole_covariances(num_a, num_b):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(num_a, 30)), 2 + random.normal(size=(num_b, 30))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    np.testing.assert_allclose(moments(a).covariance, covariances[0], atol=1e-12)
    mixed = np.linalg.eigvals(covariances[0] @ covariances[1])
    trace = np.sqrt(np.maximum(mixed.real, 0)).sum()
    between = np.sum((a.mean(0) - b.mean(0)) ** 2)
    expected = between + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * trace
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-5)


# Cross-entropy recovered


def test_cross_entropy_recovered_of_a_softmax_whose_losses_are_known():
    random = np.random.default_rng(0)
    activations, classes = random.normal(size=(50, 8)) + 1, np.arange(50) % 8

    def loss(rows):
        return float(np.mean(np.log(np.exp(rows).sum(axis=1)) - rows[range(50), classes]))

    activations[range(50), classes] += 3
    halves = splicing_losses(loss, activations, activations / 2)
    assert halves.ablated == pytest.approx(np.log(8))
    assert halves.clean < halves.spliced < halves.ablated
    expected = (np.log(8) - loss(activations / 2)) / (np.log(8) - loss(activations))
    assert halves.recovered == pytest.approx(expected)
    assert splicing_losses(loss, activations, activations).recovered == 1
    assert splicing_losses(loss, activations, 0 * activations).recovered == 0
    assert splicing_losses(loss, activations, -activations).recovered < 0
    means = np.tile(activations.mean(axis=0), (50, 1))
    by_mean = splicing_losses(loss, activations, means, "mean")
    assert by_mean.ablated == pytest.approx(loss(means))
    assert by_mean.recovered == pytest.approx(0, abs=1e-12)


def test_the_mean_of_activations_in_half_precision_is_their_mean():
    activations = np.random.default_rng(0).normal(3, 1, (20_000, 4)).astype(jnp.bfloat16)
    seen = []
    splicing_losses(
        lambda rows: seen.append(rows) or float(len(seen)), activations, activations, "mean"
    )
    assert seen[2].dtype == activations.dtype
    np.testing.assert_allclose(seen[2].astype(float), 3.0, rtol=0.02)


def test_measures_of_codes_that_are_no_numbers_are_none():
    codes = sparse_codes(100, 5)
    codes[3, 2] = np.nan
    assert np.isnan(multi_information(codes))
    assert np.isnan(mean_mutual_information(codes))
    found = support_statistics(codes)
    assert np.isnan(found.frequency).tolist() == np.isnan(found.mean_size).tolist()
    assert np.flatnonzero(np.isnan(found.frequency)).tolist() == [2]
    correlation = point_biserial(codes, np.arange(100)[:, None] % 3 == 0)
    assert np.flatnonzero(np.isnan(correlation[:, 0])).tolist() == [2]


def test_what_no_measure_takes_is_one_line(without_type_checks):
    rows = np.ones((4, 3))
    for call, message in (
        (lambda: explained_variance(rows, rows), r"shape \(4, 3\); give \[N\]"),
        (lambda: jaccard_consistency(jnp.ones((2, 4))), "give booleans, codes != 0"),
        (lambda: jaccard_consistency(jnp.ones((1, 4), bool)), "1 supports of a datum make no pair"),
        (lambda: point_biserial(rows, 2 * rows - 3), "other numbers than 0 and 1"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            call()
        assert "\n" not in str(refused.value)


def test_cross_entropy_that_cannot_be_recovered_is_one_line(without_type_checks):
    rows = np.ones((3, 2))
    for call, message in (
        (lambda: cross_entropy_recovered(1.0, 1.2, 1.0), "whose ablation raises the loss"),
        (lambda: cross_entropy_recovered(1.0, np.nan, 2.0), "all three must be finite"),
        (lambda: splicing_losses(np.sum, rows, rows[:2]), r"shape \(2, 2\); it must have that"),
        (lambda: splicing_losses(np.sum, rows, rows, "median"), '"zero" or "mean"'),
    ):
        with pytest.raises(UserError, match=message) as refused:
            call()
        assert "\n" not in str(refused.value)
