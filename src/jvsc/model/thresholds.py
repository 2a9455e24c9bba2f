"""Thresholds, fixed or inferred, and the analytic rules for them (appendix B and D)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammainc
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from scipy.special import ndtr, ndtri

from jvsc.errors import UserError
from jvsc.kernels.gamma_divergence import gamma_kl
from jvsc.kernels.gamma_sampler import (
    TINY,
    sample_standard_gamma,
    standard_gamma_quantile,
)
from jvsc.model.thresholding import Heads

# Concentration and rate outside this range overflow float32 in the density (appendix B).
LOG_GAMMA_PARAMETER_RANGE = (math.log(1e-6), math.log(1e6))
# Nodes and weights of a mean over probabilities q in [0, 1]: Legendre's in q^(1/3), which are dense
# near zero, where quantiles grow without bound.
_NODES, _WEIGHTS = leggauss(64)
PROBABILITIES = np.float32(((_NODES + 1) / 2) ** 3)
PROBABILITY_WEIGHTS = np.float32(_WEIGHTS / 2 * 3 * ((_NODES + 1) / 2) ** 2)
# From so large a concentration on, a mean over a Gamma distribution takes its own quantiles, at
# Hermite's scores: its distribution function is too steep to be seen by quantiles of the noise.
NARROW = 30.0
SCORES, SCORE_WEIGHTS = (np.float32(each) for each in hermegauss(24))
SCORE_WEIGHTS = SCORE_WEIGHTS / SCORE_WEIGHTS.sum()


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


@runtime_checkable
class NoiseDistribution(Protocol):
    """Distribution of the noise that a threshold is compared with (see `LocationScale`)."""

    def tail(self, size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > size)."""
        ...

    def quantile(self, probability: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """The size with P(|noise| > size) = probability."""
        ...


class Threshold(ABC):
    """A threshold per latent, fixed or inferred; a frozen dataclass of its constants."""

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which the threshold follows its prior; none where it is not inferred."""
        return {}

    @abstractmethod
    def sample(self, key: Key[Array, ""], heads: Heads) -> Float[Array, "#K"] | float:
        """The threshold of one datum's latents, scalar or [K]."""

    def kl(self, heads: Heads) -> Float[Array, "*B K"] | float:
        """KL to the prior in nats, as it enters the bound; zero where it is not inferred."""
        del heads
        return 0.0

    def log_ratio(self, threshold: Any, heads: Heads) -> Float[Array, " K"] | float:
        """Log p - log q of a threshold drawn, not weighted; zero where it is not inferred."""
        del threshold, heads
        return 0.0

    @abstractmethod
    def survival_probability(self, noise: NoiseDistribution, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > threshold) of each latent."""


@dataclass(frozen=True)
class FixedThreshold(Threshold):
    """The same threshold for every latent, not learned (section 3.2).

    Attributes:
      value: in the units of the codes.

    Raises:
      UserError: if `value` is not positive.
    """

    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise UserError(f"threshold is {self.value}; give a positive number")

    def sample(self, key: Key[Array, ""], heads: Heads) -> float:
        """The value."""
        del key, heads
        return self.value

    def survival_probability(self, noise: NoiseDistribution, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > value) of each latent."""
        return noise.tail(self.value, heads)


@dataclass(frozen=True)
class TrackedThreshold(Threshold):
    """A threshold that comes with the heads, as `log_threshold`, but is not the encoder network's.

    It has no divergence: a training moves it so that a wanted share of the latents is not zero.

    Attributes:
      under_prior: its value at which the prior has that share.
    """

    under_prior: float = 1.0

    @property
    def prior(self) -> dict[str, float]:
        """The head at which the prior has the wanted share."""
        return {"log_threshold": math.log(self.under_prior)}

    def sample(self, key: Key[Array, ""], heads: Heads) -> Float[Array, " K"]:
        """exp(log_threshold)."""
        del key
        return jnp.exp(heads["log_threshold"])

    def survival_probability(self, noise: NoiseDistribution, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > exp(log_threshold)) of each latent."""
        return noise.tail(jnp.exp(heads["log_threshold"]), heads)


@dataclass(frozen=True)
class GammaThreshold(Threshold):
    """A threshold inferred per latent and datum, with a Gamma prior (appendix B).

    Concentration and rate are exp of the heads `log_concentration` and `log_rate`, clipped to
    [1e-6, 1e6].

    Attributes:
      mean: the prior's mean lambda0, in the units of the codes.
      concentration: the prior's concentration; its rate is `concentration / mean`.
      kl_weight: factor of this KL within the bound's KL.

    Raises:
      UserError: if `mean` or `concentration` is not positive.
    """

    mean: float
    concentration: float = 3.0
    kl_weight: float = 0.1

    def __post_init__(self) -> None:
        if not (self.mean > 0 and self.concentration > 0):
            raise UserError(
                f"Gamma threshold of mean {self.mean}, concentration {self.concentration}; "
                "both must be positive"
            )

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which it follows its prior."""
        return {
            "log_concentration": math.log(self.concentration),
            "log_rate": math.log(self.concentration / self.mean),
        }

    def sample(self, key: Key[Array, ""], heads: Heads) -> Float[Array, " K"]:
        """A draw from the inferred Gamma distribution, by implicit reparameterisation."""
        concentration, rate = _gamma_parameters(heads)
        return jnp.maximum(sample_standard_gamma(key, concentration) / rate, TINY)

    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL to the prior in nats, times its weight."""
        prior_rate = self.concentration / self.mean
        return self.kl_weight * gamma_kl(*_gamma_parameters(heads), self.concentration, prior_rate)

    def log_ratio(self, threshold: Float[Array, " K"], heads: Heads) -> Float[Array, " K"]:
        """Log p - log q of a threshold drawn, not weighted."""
        prior, posterior = (
            self._prior_distribution(),
            _gamma_distribution(*_gamma_parameters(heads)),
        )
        return jnp.asarray(prior.log_prob(threshold)) - jnp.asarray(posterior.log_prob(threshold))

    def survival_probability(self, noise: NoiseDistribution, heads: Heads) -> Float[Array, "*B K"]:
        """E over |noise| of the Gamma distribution function, by the quantiles of |noise|.

        Of a narrow Gamma distribution, E of P(|noise| > threshold), by the threshold's quantiles.
        """
        concentration, rate = _gamma_parameters(heads)
        narrow = concentration >= NARROW

        def by_noise(total, node):
            probability, weight = node
            size = noise.quantile(probability, heads)
            share = gammainc(jnp.where(narrow, 1.0, concentration), rate * size)
            return total + weight * share, None

        def by_threshold(total, node):
            score, weight = node
            threshold = standard_gamma_quantile(score, jnp.maximum(concentration, NARROW)) / rate
            return total + weight * noise.tail(threshold, heads), None

        zero = jnp.zeros_like(concentration)
        wide_mean, _ = jax.lax.scan(by_noise, zero, (PROBABILITIES, PROBABILITY_WEIGHTS))
        narrow_mean, _ = jax.lax.scan(by_threshold, zero, (SCORES, SCORE_WEIGHTS))
        return jnp.where(narrow, narrow_mean, wide_mean)

    def _prior_distribution(self) -> Any:
        return _gamma_distribution(self.concentration, self.concentration / self.mean)


def _gamma_parameters(heads: Heads) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
    """Concentration and rate, clipped before the exponential: its overflow has a NaN gradient."""
    concentration = jnp.clip(heads["log_concentration"], *LOG_GAMMA_PARAMETER_RANGE)
    rate = jnp.clip(heads["log_rate"], *LOG_GAMMA_PARAMETER_RANGE)
    return jnp.exp(concentration), jnp.exp(rate)


def _gamma_distribution(concentration: Any, rate: Any) -> Any:
    import distrax  # takes a second, and only this threshold needs it

    return distrax.Gamma(concentration, rate)


def _check(sparsity: float, scale: float) -> None:
    if not 0 < sparsity < 1:
        raise UserError(f"sparsity is {sparsity}; give a share of non-zeros between 0 and 1")
    if not scale > 0:
        raise UserError(f"the prior's scale is {scale}; give a positive number")
