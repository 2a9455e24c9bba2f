"""The shifted soft-threshold, its two gradients, and the thresholds it takes."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammainc
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key
from numpy.polynomial.legendre import leggauss
from scipy.special import ndtr, ndtri

from jvsc.errors import UserError
from jvsc.gamma import sample_standard_gamma

Heads = dict[str, Float[Array, "*B K"]]
Estimator = Literal["straight_through", "subgradient"]
# (size, or a probability; heads) -> one value for each latent (see `posteriors.LocationScale`)
Tail = Callable[[ArrayLike, Heads], Float[Array, "*B K"]]

# Concentration and rate outside this range overflow float32 in the density (appendix B).
LOG_GAMMA_PARAMETER_RANGE = (math.log(1e-6), math.log(1e6))
# Nodes and weights of a mean over probabilities q in [0, 1]: Legendre's in q^(1/3), which are dense
# near zero, where quantiles grow without bound.
_NODES, _WEIGHTS = leggauss(64)
PROBABILITIES = np.float32(((_NODES + 1) / 2) ** 3)
PROBABILITY_WEIGHTS = np.float32(_WEIGHTS / 2 * 3 * ((_NODES + 1) / 2) ** 2)


def soft_threshold(
    noise: Float[Array, "*S"], threshold: Float[Array, "*#S"] | float
) -> Float[Array, "*S"]:
    """Shrinks `noise` towards zero by `threshold`: sign(e) max(|e| - t, 0) (eq. 2, unshifted).

    Args:
      noise: scaled base noise e, any leading shape.
      threshold: t >= 0, broadcast against `noise`.

    Returns:
      An array of `noise`'s shape, exactly zero where |e| <= t.
    """
    # The same as sign(e) max(|e| - t, 0), but never minus zero.
    return noise - jnp.clip(noise, -threshold, threshold)


def shifted_soft_threshold(
    loc: Float[Array, "*S"],
    noise: Float[Array, "*S"],
    threshold: Float[Array, "*#S"] | float,
) -> Float[Array, "*S"]:
    """Thresholds the sample `loc + noise` around its own `loc` (eq. 2).

    Differentiated as written this is the subgradient estimator of appendix C: an inactive latent
    passes no gradient.

    Args:
      loc: location of the base distribution.
      noise: the sample's deviation from `loc`, scaled.
      threshold: t >= 0, broadcast against `noise`.

    Returns:
      `loc + soft_threshold(noise)`, and exactly zero where |noise| <= t.
    """
    return jnp.where(jnp.abs(noise) <= threshold, 0.0, loc + soft_threshold(noise, threshold))


@jax.custom_jvp
def gradient_carrier(values: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """What a straight-through estimator adds, r - sg[r]: zero, with the gradient of `values`.

    Written out it would be computed where nothing is differentiated, such as for the draws that
    are only scored, since a compiler cannot know that r is finite.

    Args:
      values: r, any shape.

    Returns:
      Zeros, exactly, so that zeros they are added to stay exact.
    """
    return jnp.zeros_like(values)


@gradient_carrier.defjvp
def _gradient_carrier_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return gradient_carrier(*primals), *tangents


def straight_through_threshold(
    loc: Float[Array, "*S"],
    noise: Float[Array, "*S"],
    threshold: Float[Array, "*#S"] | float,
) -> Float[Array, "*S"]:
    """The shifted soft-threshold with the straight-through gradient `r + T(sg[r]) - sg[r]` (eq. 4).

    `loc` and the noise's scale receive the gradient of the unthresholded sample r, on active and
    inactive latents alike; `threshold` receives its own through T.

    Args:
      loc: location of the base distribution.
      noise: the sample's deviation from `loc`, scaled.
      threshold: t >= 0, broadcast against `noise`.

    Returns:
      Exactly the value of `shifted_soft_threshold`.
    """
    stop = jax.lax.stop_gradient
    thresholded = shifted_soft_threshold(stop(loc), stop(noise), threshold)
    return thresholded + gradient_carrier(loc + noise)


ESTIMATORS: dict[str, Callable[..., Array]] = {
    "straight_through": straight_through_threshold,
    "subgradient": shifted_soft_threshold,
}


def laplacian_threshold(sparsity: float, scale: float) -> float:
    """Threshold that leaves a share `sparsity` of Laplace(0, scale) noise: -b0 log p (appendix D).

    Args:
      sparsity: wanted share of non-zeros p, in (0, 1).
      scale: scale b0 of the prior.

    Returns:
      The threshold, in the units of `scale`.

    Raises:
      UserError: if `sparsity` is outside (0, 1) or `scale` is not positive.
    """
    _check(sparsity, scale)
    return -scale * math.log(sparsity)


def gaussian_threshold(sparsity: float, variance: float) -> float:
    """Threshold that leaves a share p of N(0, v0) noise: sqrt(v0) Phi^-1(1 - p/2) (appendix D).

    Args:
      sparsity: wanted share of non-zeros p, in (0, 1).
      variance: variance v0 of the prior.

    Returns:
      The threshold, in the units of the standard deviation.

    Raises:
      UserError: if `sparsity` is outside (0, 1) or `variance` is not positive.
    """
    _check(sparsity, variance)
    return float(math.sqrt(variance) * -ndtri(sparsity / 2))


def laplacian_sparsity(threshold: float, scale: float) -> float:
    """Share of Laplace(0, scale) noise beyond `threshold`: exp(-t / b0) (eq. 3).

    Args:
      threshold: t >= 0, in the units of `scale`; neither is checked.
      scale: scale b0 > 0 of the prior.

    Returns:
      The share, in (0, 1]; the inverse of `laplacian_threshold`.
    """
    return math.exp(-threshold / scale)


def gaussian_sparsity(threshold: float, variance: float) -> float:
    """Share of N(0, variance) noise beyond `threshold`: 2 Phi(-t / sqrt(v0)) (appendix D).

    Args:
      threshold: t >= 0, in the units of the standard deviation; neither is checked.
      variance: variance v0 > 0 of the prior.

    Returns:
      The share, in (0, 1]; the inverse of `gaussian_threshold`.
    """
    return float(2 * ndtr(-threshold / math.sqrt(variance)))


class Threshold(NamedTuple):
    """A threshold per latent, fixed or inferred.

    Attributes:
      prior: heads at which it follows its prior; none where it is fixed.
      sample: `(key, heads of one datum) -> threshold`, scalar or [K].
      kl: `heads -> KL to the prior` in nats, [..., K], as it enters the bound.
      log_ratio: `(threshold, heads) -> log p - log q` of a threshold drawn, [K]; not weighted.
      exceeded: `(tail, quantile, heads) -> P(|noise| > threshold)`, [..., K], for noise of that
        tail and quantile function.
    """

    prior: dict[str, float]
    sample: Callable[[Key[Array, ""], Heads], Float[Array, "#K"] | float]
    kl: Callable[[Heads], Float[Array, "*B K"] | float]
    log_ratio: Callable[[Any, Heads], Float[Array, " K"] | float]
    exceeded: Callable[[Tail, Tail, Heads], Float[Array, "*B K"]]


def fixed(threshold: float) -> Threshold:
    """The same threshold for every latent, not learned (section 3.2).

    Args:
      threshold: in the units of the codes.

    Raises:
      UserError: if `threshold` is not positive.
    """
    if not threshold > 0:
        raise UserError(f"threshold is {threshold}; give a positive number")
    return Threshold(
        prior={},
        sample=lambda key, heads: threshold,
        kl=lambda heads: 0.0,
        log_ratio=lambda threshold, heads: 0.0,
        exceeded=lambda tail, quantile, heads: tail(threshold, heads),
    )


def tracked() -> Threshold:
    """A threshold that comes with the heads, as `log_threshold`, but is not the encoder network's.

    It has no prior: a training moves it so that a wanted share of the latents is not zero.
    """
    return Threshold(
        prior={},
        sample=lambda key, heads: jnp.exp(heads["log_threshold"]),
        kl=lambda heads: 0.0,
        log_ratio=lambda threshold, heads: 0.0,
        exceeded=lambda tail, quantile, heads: tail(jnp.exp(heads["log_threshold"]), heads),
    )


def gamma(mean: float, concentration: float = 3.0, kl_weight: float = 0.1) -> Threshold:
    """A threshold inferred per latent and datum, with a Gamma prior (appendix B).

    Concentration and rate are exp of the heads `log_concentration` and `log_rate`, clipped to
    [1e-6, 1e6]. The divergence loses digits to cancellation where a concentration passes 1e3.

    Args:
      mean: the prior's mean lambda0, in the units of the codes.
      concentration: the prior's concentration; its rate is `concentration / mean`.
      kl_weight: factor of this KL within the bound's KL.

    Raises:
      UserError: if `mean` or `concentration` is not positive.
    """
    if not (mean > 0 and concentration > 0):
        raise UserError(
            f"Gamma threshold of mean {mean}, concentration {concentration}; both must be positive"
        )
    import distrax  # takes a second, and only this threshold needs it

    prior = distrax.Gamma(concentration, concentration / mean)

    def parameters(heads: Heads) -> tuple[Array, Array]:
        # Clipped before the exponential, whose overflow would make the gradient NaN.
        concentration = jnp.clip(heads["log_concentration"], *LOG_GAMMA_PARAMETER_RANGE)
        rate = jnp.clip(heads["log_rate"], *LOG_GAMMA_PARAMETER_RANGE)
        return jnp.exp(concentration), jnp.exp(rate)

    def sample(key: Key[Array, ""], heads: Heads) -> Float[Array, " K"]:
        shape, rate = parameters(heads)
        return sample_standard_gamma(key, shape) / rate

    def kl(heads: Heads) -> Float[Array, "*B K"]:
        return kl_weight * jnp.asarray(distrax.Gamma(*parameters(heads)).kl_divergence(prior))

    def log_ratio(threshold: Float[Array, " K"], heads: Heads) -> Float[Array, " K"]:
        posterior = distrax.Gamma(*parameters(heads))
        return jnp.asarray(prior.log_prob(threshold)) - jnp.asarray(posterior.log_prob(threshold))

    def exceeded(tail: Tail, quantile: Tail, heads: Heads) -> Float[Array, "*B K"]:
        del tail
        shape, rate = parameters(heads)

        # E over |noise| of the Gamma distribution function, by the quantiles of |noise|.
        def add(total, node):
            probability, weight = node
            return total + weight * gammainc(shape, rate * quantile(probability, heads)), None

        nodes = (PROBABILITIES, PROBABILITY_WEIGHTS)
        return jax.lax.scan(add, jnp.zeros_like(shape), nodes)[0]

    at_prior = {
        "log_concentration": math.log(concentration),
        "log_rate": math.log(concentration / mean),
    }
    return Threshold(at_prior, sample, kl, log_ratio, exceeded)


def _check(sparsity: float, scale: float) -> None:
    if not 0 < sparsity < 1:
        raise UserError(f"sparsity is {sparsity}; give a share of non-zeros between 0 and 1")
    if not scale > 0:
        raise UserError(f"the prior's scale is {scale}; give a positive number")
