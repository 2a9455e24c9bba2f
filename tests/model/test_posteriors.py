"""Posterior families: what they sample, what they cost, and where gradients go."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from statistics_of_tests import SMALLEST_P, assert_mean

from jvsc.errors import UserError
from jvsc.model.methods import VARIATIONAL_METHODS, Hyperparameters, build_posterior
from jvsc.model.posteriors import (
    Annealing,
    Gaussian,
    Laplacian,
    SpikeAndSlab,
    Thresholded,
    Unthresholded,
)
from jvsc.model.posteriors.base import slab_of_prior
from jvsc.model.posteriors.gaussian import gaussian_kl
from jvsc.model.posteriors.laplacian import laplacian_kl
from jvsc.model.thresholds import FixedThreshold, GammaThreshold

N = 200_000
FINAL = Annealing()


def heads_of(posterior, **values):
    """Constant heads of N latents; those not named are zero."""
    return {name: jnp.full(N, values.get(name, 0.0)) for name in posterior.heads}


def samples_of(posterior, heads, seed=0, annealing=FINAL):
    return np.asarray(posterior.sample(jax.random.key(seed), heads, annealing), np.float64)


# Proposition 3.1


@pytest.mark.parametrize(("loc", "scale", "threshold"), [(0.3, 0.1, 0.25), (-1.0, 0.5, 0.1)])
def test_thresholded_laplacian_is_spike_and_slab_by_proposition_3_1(loc, scale, threshold):
    posterior = Thresholded(Laplacian(0.1), FixedThreshold(threshold))
    samples = samples_of(posterior, heads_of(posterior, loc=loc, log_scale=np.log(scale)))
    assert_mean(samples == 0, 1 - np.exp(-threshold / scale))
    slab = samples[samples != 0]
    assert stats.kstest(slab, stats.laplace(loc, scale).cdf).pvalue > SMALLEST_P


def test_thresholded_gaussian_has_the_gaussian_spike_mass():
    posterior = Thresholded(Gaussian(0.1), FixedThreshold(0.52))
    samples = samples_of(posterior, heads_of(posterior, loc=0.2, log_variance=np.log(0.1)))
    assert_mean(samples != 0, 2 * stats.norm.sf(0.52 / np.sqrt(0.1)))


def test_a_gamma_threshold_has_the_spike_mass_of_its_mixture():
    """E_lambda[exp(-lambda/b)] over Gamma(a, r) is (1 + 1/(b r))^-a."""
    concentration, rate, scale = 3.0, 12.0, 0.2
    posterior = Thresholded(Laplacian(0.1), GammaThreshold(mean=0.25))
    heads = heads_of(
        posterior,
        loc=0.1,
        log_scale=np.log(scale),
        log_concentration=np.log(concentration),
        log_rate=np.log(rate),
    )
    expected = (1 + 1 / (scale * rate)) ** -concentration
    assert_mean(samples_of(posterior, heads) != 0, expected)


@pytest.mark.parametrize("method", list(VARIATIONAL_METHODS))
def test_each_method_samples_the_wanted_sparsity_at_its_prior(method):
    """Heads at the prior: the share of non-zeros follows from threshold or sparsity."""
    constants = Hyperparameters(sparsity=0.1, threshold=0.25)
    posterior = build_posterior(method, constants)
    heads = heads_of(
        posterior,
        log_scale=np.log(0.1),
        log_variance=np.log(0.1),
        gate=np.log(0.1 / 0.9),
        log_concentration=np.log(3.0),
        log_rate=np.log(3.0 / 0.25),
    )
    samples = samples_of(posterior, heads)
    if method in ("spike_and_slab", "inferred_threshold"):
        assert_mean(samples != 0, 0.1)
    elif method == "thresholded_laplacian_gamma":
        assert_mean(samples != 0, (1 + 0.25 / (3.0 * 0.1)) ** -3.0)
    elif method == "thresholded_gaussian_gamma":
        thresholds = np.random.default_rng(0).gamma(3.0, 0.25 / 3.0, 2_000_000)
        mixture = float(np.mean(2 * stats.norm.sf(thresholds / np.sqrt(0.1))))
        # The reference is itself a Monte Carlo mean of ten times as many draws.
        assert abs((samples != 0).mean() - mixture) < 5e-3
    elif rule := VARIATIONAL_METHODS[method].rule:
        assert_mean(samples != 0, rule.sparsity_of(0.25, constants))
    else:
        assert (samples != 0).mean() > 0.999


# Base families


def test_laplacian_noise_is_laplace_and_bounded():
    posterior = Unthresholded(Laplacian(0.1))
    samples = samples_of(posterior, heads_of(posterior, loc=0.5, log_scale=np.log(0.3)))
    assert stats.kstest(samples, stats.laplace(0.5, 0.3).cdf).pvalue > SMALLEST_P
    assert np.abs(samples - 0.5).max() <= 0.3 * np.log(1e6) * (1 + 1e-6)


def test_laplacian_warmup_scales_the_noise_only():
    posterior = Unthresholded(Laplacian(0.1))
    heads = heads_of(posterior, loc=0.5)
    full = samples_of(posterior, heads)
    small = samples_of(posterior, heads, annealing=Annealing(warmup=0.1))
    np.testing.assert_allclose(small - 0.5, 0.1 * (full - 0.5), atol=1e-6)


def test_gaussian_samples_are_normal():
    posterior = Unthresholded(Gaussian(0.1))
    samples = samples_of(posterior, heads_of(posterior, loc=-0.4, log_variance=np.log(0.25)))
    assert stats.kstest(samples, stats.norm(-0.4, 0.5).cdf).pvalue > SMALLEST_P


def test_spike_probability_uses_the_logit():
    """The published code's log instead of logit would give gamma / (1 + gamma)."""
    posterior = SpikeAndSlab(0.1, 0.1)
    heads = heads_of(posterior, gate=np.log(0.4 / 0.6))
    for temperature in (0.5, 0.005):
        samples = samples_of(posterior, heads, annealing=Annealing(1.0, temperature))
        assert_mean(samples != 0, 0.4)


def test_spike_and_slab_slab_is_the_inferred_gaussian_after_the_warmup():
    posterior = SpikeAndSlab(0.1, 0.1)
    heads = heads_of(posterior, loc=0.3, log_variance=np.log(0.25), gate=5.0)
    samples = samples_of(posterior, heads)
    assert stats.kstest(samples[samples != 0], stats.norm(0.3, 0.5).cdf).pvalue > SMALLEST_P
    warm = samples_of(posterior, heads, annealing=Annealing(warmup=0.19))
    expected = stats.norm(0.19 * 0.3, 0.19 * 0.5 + np.sqrt(0.81))
    assert stats.kstest(warm[warm != 0], expected.cdf).pvalue > SMALLEST_P


def test_relaxed_spike_gradient_is_that_of_the_relaxation():
    from jvsc.model.posteriors.spike_and_slab import relaxed_spike

    key, temperature = jax.random.key(2), 0.5
    log_odds = jnp.linspace(-3, 3, 64)
    hard = jax.grad(lambda h: relaxed_spike(key, h, temperature).sum())(log_odds)

    def relaxation(log_odds):
        noise = jax.random.logistic(key, log_odds.shape)
        return jax.nn.sigmoid((log_odds + noise) / temperature).sum()

    np.testing.assert_allclose(hard, jax.grad(relaxation)(log_odds), rtol=1e-4, atol=1e-6)


def published_spike(head):
    """The published probability that a latent is on, without a gradient for a head above zero."""
    return jnp.clip(jnp.exp(-jax.nn.relu(-head)), 1e-6, 1 - 1e-6)


def test_a_latent_that_is_stuck_on_comes_back():
    """By gradient steps on the divergence from P(on) = 0.993; the published form stays at one."""
    posterior = SpikeAndSlab(0.1, 0.1)
    at_prior = {name: jnp.array([value]) for name, value in posterior.prior.items()}

    def descended(divergence, head):
        for _ in range(400):
            head -= jax.grad(divergence)(head)
        return head

    def divergence(gate):
        return posterior.kl(at_prior | {"gate": gate[None]})[0]

    def published(head):
        p = published_spike(head)
        return p * jnp.log(p / 0.1) + (1 - p) * jnp.log((1 - p) / 0.9)

    np.testing.assert_allclose(jax.nn.sigmoid(descended(divergence, 5.0)), 0.1, atol=0.02)
    assert published_spike(descended(published, 0.01)) == pytest.approx(1 - 1e-6)


def test_no_gate_is_without_a_gradient():
    posterior = SpikeAndSlab(0.1, 0.1)
    gates = jnp.linspace(-12, 12, 25)
    heads = {name: jnp.full(25, value) for name, value in posterior.prior.items()}
    slopes = jax.grad(lambda gate: posterior.kl(heads | {"gate": gate}).sum())(gates)
    assert (np.sign(slopes) == np.sign(gates - posterior.prior["gate"])).all()
    assert (jax.vmap(jax.grad(published_spike))(jnp.linspace(0.1, 12, 25)) == 0).all()


# Divergences


@pytest.mark.parametrize("loc", [0.0, 0.02, -1.3, 8.0])
@pytest.mark.parametrize("scale", [0.003, 0.1, 2.0])
def test_laplacian_divergence_is_the_closed_form_of_the_specification(loc, scale):
    b0 = 0.1
    expected = (
        abs(loc) / b0 + np.log(b0) - np.log(scale) - 1 + scale / b0 * np.exp(-abs(loc) / scale)
    )
    kl = Laplacian(b0).kl({"loc": jnp.array([loc]), "log_scale": jnp.log(jnp.array([scale]))})
    np.testing.assert_allclose(kl, [expected], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("loc", [0.0, -1.3, 8.0])
@pytest.mark.parametrize("variance", [0.003, 0.1, 2.0])
def test_gaussian_divergence_is_the_closed_form_of_the_specification(loc, variance):
    v0 = 0.1
    expected = 0.5 * (np.log(v0) - np.log(variance) - 1 + (loc**2 + variance) / v0)
    heads = {"loc": jnp.array([loc]), "log_variance": jnp.log(jnp.array([variance]))}
    np.testing.assert_allclose(Gaussian(v0).kl(heads), [expected], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("probability", [1e-6, 0.03, 0.1, 0.9, 1 - 1e-6])
def test_spike_and_slab_divergence_is_the_closed_form_of_the_specification(probability):
    v0, p0, loc, variance = 0.1, 0.1, 0.4, 0.3
    gauss = 0.5 * (np.log(v0) - np.log(variance) - 1 + (loc**2 + variance) / v0)
    g = probability
    expected = g * gauss + g * np.log(g / p0) + (1 - g) * np.log((1 - g) / (1 - p0))
    heads = {
        "loc": jnp.array([loc]),
        "log_variance": jnp.log(jnp.array([variance])),
        "gate": jnp.array([np.log(g) - np.log1p(-g)], jnp.float32),
    }
    np.testing.assert_allclose(SpikeAndSlab(p0, v0).kl(heads), [expected], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("threshold", [None, 0.52])
@pytest.mark.parametrize(("family", "head"), [(Gaussian, "log_variance"), (Laplacian, "log_scale")])
def test_moments_have_gradients_where_the_noise_underflows(family, head, threshold):
    base = family()
    posterior = Thresholded(base, FixedThreshold(threshold)) if threshold else Unthresholded(base)

    def total(logs):
        return sum(
            jnp.sum(x) for x in posterior.moments({"loc": jnp.full(5, 0.6), head: logs}, FINAL)
        )

    slopes = jax.grad(total)(jnp.array([-60.0, -88.0, -90.0, -120.0, -300.0]))
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize(
    "posterior",
    [
        Thresholded(Laplacian(0.1), FixedThreshold(2.0)),
        Thresholded(Gaussian(0.1), FixedThreshold(8.0)),
    ],
)
def test_a_threshold_that_leaves_nothing_of_the_prior_is_refused(posterior):
    with pytest.raises(UserError, match="leaves no non-zeros of its prior; give a lower threshold"):
        slab_of_prior(posterior)


@pytest.mark.parametrize(("family", "head"), [(Gaussian, "log_variance"), (Laplacian, "log_scale")])
def test_log_ratios_are_finite_where_the_noise_underflows(family, head):
    heads = {"loc": jnp.full(4, 0.1), head: jnp.array([-80.0, -100.0, -150.0, -300.0])}
    posterior = Unthresholded(family())
    code, ratio = posterior.sample_and_log_ratio(jax.random.key(0), heads, FINAL)
    np.testing.assert_allclose(code, 0.1, rtol=1e-6)
    # To within the noise in its own units, which has 23 at most.
    assert (abs(ratio + posterior.kl(heads)) < 25).all()


@pytest.mark.parametrize(
    "posterior",
    [
        Thresholded(Gaussian(0.1), FixedThreshold(0.52)),
        Thresholded(Laplacian(0.3), FixedThreshold(0.25)),
        SpikeAndSlab(0.1, 0.4),
    ],
)
def test_encoders_are_told_the_scale_and_odds_of_the_priors_own_slab(posterior):
    scale, log_odds = slab_of_prior(posterior)
    drawn = samples_of(posterior, heads_of(posterior, **posterior.prior))
    assert_mean(drawn != 0, 1 / (1 + np.exp(-log_odds)))
    assert_mean(drawn[drawn != 0] ** 2, 2 * scale**2)


def test_laplacian_divergence_is_the_mean_log_ratio_of_its_samples():
    posterior = Unthresholded(Laplacian(0.1))
    samples = samples_of(posterior, heads_of(posterior, loc=0.05, log_scale=np.log(0.2)))
    ratio = stats.laplace(0.05, 0.2).logpdf(samples) - stats.laplace(0, 0.1).logpdf(samples)
    assert_mean(ratio, float(posterior.kl(heads_of(posterior, loc=0.05, log_scale=np.log(0.2)))[0]))


def test_gaussian_divergence_is_the_mean_log_ratio_of_its_samples():
    posterior = Unthresholded(Gaussian(0.1))
    heads = heads_of(posterior, loc=0.05, log_variance=np.log(0.2))
    samples = samples_of(posterior, heads)
    prior = stats.norm(0, np.sqrt(0.1))
    ratio = stats.norm(0.05, np.sqrt(0.2)).logpdf(samples) - prior.logpdf(samples)
    assert_mean(ratio, float(posterior.kl(heads)[0]))


def test_gamma_divergence_is_the_mean_log_ratio_of_its_samples():
    threshold = GammaThreshold(mean=0.25, kl_weight=1.0)
    heads = {
        "log_concentration": jnp.full(N, np.log(2.0)),
        "log_rate": jnp.full(N, np.log(5.0)),
    }
    samples = np.asarray(threshold.sample(jax.random.key(9), heads), np.float64)
    posterior, prior = stats.gamma(2.0, scale=1 / 5.0), stats.gamma(3.0, scale=0.25 / 3.0)
    ratio = posterior.logpdf(samples) - prior.logpdf(samples)
    assert_mean(ratio, float(threshold.kl(heads)[0]))


def test_spike_and_slab_divergence_is_the_mean_log_ratio_of_its_samples():
    posterior = SpikeAndSlab(0.1, 0.1)
    heads = heads_of(posterior, loc=0.3, log_variance=np.log(0.2), gate=np.log(0.3 / 0.7))
    samples = samples_of(posterior, heads)
    slab = stats.norm(0.3, np.sqrt(0.2)).logpdf(samples) - stats.norm(0, np.sqrt(0.1)).logpdf(
        samples
    )
    ratio = np.where(samples != 0, np.log(0.3 / 0.1) + slab, np.log(0.7 / 0.9))
    assert_mean(ratio, float(posterior.kl(heads)[0]))


@pytest.mark.parametrize("method", list(VARIATIONAL_METHODS))
def test_divergence_gradients_are_finite_and_agree_with_finite_differences(method):
    posterior = build_posterior(method)
    heads = {name: jnp.array([0.31 + 0.1 * i]) for i, name in enumerate(posterior.heads)}
    total = lambda heads: posterior.kl(heads).sum()  # noqa: E731
    gradient = jax.grad(total)(heads)
    for name in heads:
        step = 1e-2
        up, down = dict(heads), dict(heads)
        up[name], down[name] = heads[name] + step, heads[name] - step
        slope = float((total(up) - total(down)) / (2 * step))
        assert float(gradient[name][0]) == pytest.approx(slope, rel=5e-3, abs=2e-3)


@pytest.mark.parametrize("method", list(VARIATIONAL_METHODS))
@pytest.mark.parametrize("size", [-200.0, -60.0, -1.0, 60.0])
@pytest.mark.parametrize("loc", [0.0, 1e-20, 3.0])
def test_divergences_far_from_the_prior_are_no_nan_and_small_scales_stay_finite(method, size, loc):
    """Where exp(head) underflows, and where distrax's forms divide or take the log of a zero."""
    posterior = build_posterior(method)
    heads = {name: jnp.array([size]) for name in posterior.heads}
    heads["loc"] = jnp.array([loc])
    value, gradient = jax.value_and_grad(lambda heads: posterior.kl(heads).sum())(heads)
    assert not np.isnan(value)
    for name, slope in gradient.items():
        assert not np.isnan(slope).any(), name
    if size < 0:
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in gradient.values())


@pytest.mark.parametrize("loc", [0.0, -0.02, 1.3])
@pytest.mark.parametrize("scale", [0.01, 0.1, 2.0])
def test_closed_forms_agree_with_distrax_in_value_and_gradient(loc, scale):
    def theirs(family, log_scale):
        return family(loc, jnp.exp(log_scale)).kl_divergence(family(0.0, 0.1))

    def gaussian_of(log_scale):
        return gaussian_kl(jnp.array([loc]), 2 * log_scale[None], 0.1**2)[0]

    def laplacian_of(log_scale):
        return laplacian_kl(jnp.array([loc]), log_scale[None], 0.1)[0]

    log_scale = jnp.log(jnp.float32(scale))
    for ours, family in ((gaussian_of, distrax.Normal), (laplacian_of, distrax.Laplace)):
        expected = jax.value_and_grad(lambda s, f=family: theirs(f, s))(log_scale)
        np.testing.assert_allclose(
            jax.value_and_grad(ours)(log_scale), expected, rtol=1e-5, atol=2e-6
        )


# Gradients of the estimators through a whole posterior


def sample_gradients(posterior, heads, key):
    return jax.grad(lambda heads: posterior.sample(key, heads, FINAL).sum())(heads)


@pytest.mark.parametrize("threshold", [FixedThreshold(0.25), GammaThreshold(0.25)])
def test_straight_through_passes_to_loc_exactly_one_on_active_and_inactive_latents(threshold):
    posterior = Thresholded(Laplacian(0.1), threshold)
    heads = {name: jnp.full(512, np.log(0.2)) for name in posterior.heads}
    key = jax.random.key(11)
    codes = np.asarray(posterior.sample(key, heads, FINAL))
    assert 0 < (codes != 0).mean() < 1
    np.testing.assert_array_equal(sample_gradients(posterior, heads, key)["loc"], np.ones(512))


def test_straight_through_passes_the_unthresholded_noise_to_log_scale():
    base = Laplacian(0.1)
    heads = {"loc": jnp.zeros(512), "log_scale": jnp.full(512, np.log(0.2))}
    key = jax.random.key(12)
    gradients = sample_gradients(Thresholded(base, FixedThreshold(0.25)), heads, key)
    noise = base.noise(jax.random.split(key)[0], heads, FINAL)
    np.testing.assert_allclose(gradients["log_scale"], noise, rtol=1e-6)


def test_a_fixed_threshold_has_no_gradient_and_a_learned_one_only_where_active():
    assert Thresholded(Laplacian(0.1), FixedThreshold(0.25)).heads == ("loc", "log_scale")
    posterior = Thresholded(Laplacian(0.1), GammaThreshold(0.25))
    heads = {name: jnp.full(512, np.log(0.2)) for name in posterior.heads}
    key = jax.random.key(13)
    active = np.asarray(posterior.sample(key, heads, FINAL)) != 0
    to_rate = np.asarray(sample_gradients(posterior, heads, key)["log_rate"])
    assert (to_rate[~active] == 0).all()
    assert (to_rate[active] != 0).all()


def test_subgradient_passes_nothing_through_inactive_latents():
    posterior = Thresholded(Laplacian(0.1), FixedThreshold(0.25), "subgradient")
    heads = {name: jnp.full(512, np.log(0.2)) for name in posterior.heads}
    key = jax.random.key(14)
    active = np.asarray(posterior.sample(key, heads, FINAL)) != 0
    gradients = sample_gradients(posterior, heads, key)
    np.testing.assert_array_equal(gradients["loc"], active.astype(np.float32))
    assert (np.asarray(gradients["log_scale"])[~active] == 0).all()


def test_the_published_subgradient_multiplies_the_noise_by_its_scale_twice():
    """Table 2: T(loc + b^2 e) for standard noise e, so 2 b^2 e and no less reaches log_scale."""
    base, scale = Laplacian(0.1), 0.6
    posterior = Thresholded(base, FixedThreshold(0.25), "subgradient_published")
    heads = {"loc": jnp.full(512, 0.3), "log_scale": jnp.full(512, np.log(scale))}
    key = jax.random.key(14)
    noise = scale * np.asarray(base.noise(jax.random.split(key)[0], heads, FINAL))
    active = np.abs(noise) > 0.25
    assert 0 < active.mean() < 1
    expected = np.where(active, 0.3 + noise - 0.25 * np.sign(noise), 0)
    np.testing.assert_allclose(posterior.sample(key, heads, FINAL), expected, rtol=1e-5, atol=1e-7)
    gradients = sample_gradients(posterior, heads, key)
    np.testing.assert_array_equal(gradients["loc"], active.astype(np.float32))
    np.testing.assert_allclose(gradients["log_scale"], np.where(active, 2 * noise, 0), rtol=1e-5)


def test_the_published_subgradient_knows_its_own_share_of_non_zeros():
    posterior = Thresholded(Laplacian(0.1), FixedThreshold(0.25), "subgradient_published")
    heads = heads_of(posterior, loc=0.3, log_scale=np.log(0.6))
    samples = samples_of(posterior, heads)
    assert_mean(samples != 0, float(np.exp(-0.25 / 0.6**2)))
    np.testing.assert_allclose(posterior.support_probability(heads)[0], np.exp(-0.25 / 0.6**2))
    mean, variance = posterior.moments(heads, FINAL)
    assert_mean(samples, float(mean[0]))
    assert_mean((samples - samples.mean()) ** 2, float(variance[0]))


# Mistakes


def test_the_published_subgradient_is_of_a_laplacian():
    with pytest.raises(ValueError, match="Laplacian"):
        Thresholded(Gaussian(0.1), FixedThreshold(0.5), "subgradient_published")


def test_a_family_without_noise_cannot_be_thresholded():
    with pytest.raises(Exception, match=r"base family|LocationScale"):
        Thresholded(SpikeAndSlab(), FixedThreshold(0.25))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("make", [Gaussian, Laplacian])
def test_priors_that_are_not_positive_are_refused(make):
    with pytest.raises(UserError, match="positive"):
        make(0.0)


def test_fista_has_no_posterior():
    with pytest.raises(ValueError, match="has no posterior"):
        build_posterior("fista")


# The importance-weighted bound's draws


@pytest.mark.parametrize("method", list(VARIATIONAL_METHODS))
def test_the_log_ratios_mean_is_minus_the_divergence(method):
    # Unweighted, as the densities are; the Laplacian's noise is clipped beyond probability 1e-6.
    posterior = build_posterior(method, Hyperparameters(threshold_kl_weight=1.0))
    num_draws = 40_000
    heads = {
        name: jnp.asarray([value, value + 0.3, value - 0.2])
        for name, value in posterior.prior.items()
    }
    keys = jax.random.split(jax.random.key(3), num_draws)
    codes, ratios = jax.vmap(lambda key: posterior.sample_and_log_ratio(key, heads, Annealing()))(
        keys
    )
    again = jax.vmap(lambda key: posterior.sample(key, heads, Annealing()))(keys)
    np.testing.assert_array_equal(codes, again)
    ratios = np.asarray(ratios, np.float64)
    error = ratios.std(axis=0) / np.sqrt(num_draws)
    # Five standard errors, fixed key; 21 comparisons.
    np.testing.assert_array_less(
        np.abs(ratios.mean(axis=0) + np.asarray(posterior.kl(heads))), 5 * error + 1e-5
    )
    # Importance weights of a posterior have mean one under it.
    weights = np.exp(ratios)
    np.testing.assert_array_less(
        np.abs(weights.mean(axis=0) - 1), 6 * weights.std(axis=0) / np.sqrt(num_draws) + 1e-4
    )
