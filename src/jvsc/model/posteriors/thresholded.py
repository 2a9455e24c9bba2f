"""Thresholding as a wrapper around any location-scale base family (section 3.2 of the paper)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.model.posteriors.base import Annealing, LocationScale, Posterior
from jvsc.model.posteriors.laplacian import Laplacian
from jvsc.model.thresholding import ESTIMATORS, Estimator, Heads
from jvsc.model.thresholds import GammaThreshold, Threshold


@dataclass(frozen=True)
class Thresholded(Posterior):
    """Posterior whose samples are the base's, soft-thresholded around their location (eq. 4).

    With a Laplacian base this is, for a given threshold, exactly a spike-and-slab (Proposition
    3.1). The divergence is the base's, plus the threshold's own where it is inferred (eq. 5).

    Attributes:
      base: a location-scale family, such as `Laplacian(0.1)`.
      threshold: `FixedThreshold(0.25)` or `GammaThreshold(mean=0.25)`.
      estimator: "straight_through" (eq. 4), "subgradient" (appendix C), or "subgradient_published",
        which as in the code of table 2 multiplies a Laplacian's noise by its scale once more before
        it is thresholded; the divergence stays that of the base.

    Raises:
      ValueError: if `base` has no noise to threshold, or the estimator is unknown or is the
        published one of a base that is not Laplacian.
    """

    base: LocationScale
    threshold: Threshold
    estimator: Estimator = "straight_through"

    def __post_init__(self) -> None:
        if not isinstance(self.base, LocationScale):
            raise ValueError("Thresholded takes a base family such as Laplacian() or Gaussian()")
        if self.estimator not in ESTIMATORS:
            raise ValueError(
                f"estimator is {self.estimator!r}; give one of {', '.join(ESTIMATORS)}"
            )
        if self.estimator == "subgradient_published" and not isinstance(self.base, Laplacian):
            raise ValueError("estimator=subgradient_published is for a Laplacian base")

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior: the base's and the threshold's."""
        return self.base.prior | self.threshold.prior

    def sample_and_log_ratio(
        self, key: Key[Array, ""], heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """T(loc + noise) by the estimator, and its log ratio (see `Posterior`)."""
        noise_key, threshold_key = jax.random.split(key)
        noise = self.base.noise(noise_key, heads, annealing)
        threshold = self.threshold.sample(threshold_key, heads)
        code = ESTIMATORS[self.estimator](heads["loc"], noise * self._extra_scale(heads), threshold)
        log_ratio = self.base.log_ratio(noise, heads) + self.threshold.log_ratio(threshold, heads)
        return code, log_ratio

    def _extra_scale(self, heads: Heads) -> Float[Array, "*B K"] | float:
        """Factor of the noise before thresholding."""
        return jnp.exp(heads["log_scale"]) if self.estimator == "subgradient_published" else 1.0

    def _thresholded_noise(self, heads: Heads) -> Heads:
        """Heads whose noise is what the threshold is compared with."""
        if self.estimator != "subgradient_published":
            return heads
        return heads | {"log_scale": 2 * heads["log_scale"]}

    @property
    def has_moments(self) -> bool:
        """Whether the threshold is known, and not drawn."""
        return not isinstance(self.threshold, GammaThreshold)

    def moments(
        self, heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
        """Mean and variance of the thresholded sample, whose noise is symmetric around `loc`.

        With gamma = P(s != 0) they are gamma loc, and gamma loc^2 + E max(|noise| - lambda, 0)^2 -
        (gamma loc)^2.

        Raises:
          ValueError: for a Gamma threshold.
        """
        if not self.has_moments:
            return super().moments(heads, annealing)
        heads = self.base.warmed(self._thresholded_noise(heads), annealing.warmup)
        threshold = self.threshold.sample(jax.random.key(0), heads)  # known: no randomness in it
        probability = self.base.tail(threshold, heads)
        mean = probability * heads["loc"]
        square = probability * heads["loc"] ** 2 + self.base.excess_square(threshold, heads)
        return mean, square - mean**2

    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL of the base and of the threshold (eq. 5), in nats."""
        return self.base.kl(heads) + self.threshold.kl(heads)

    def support_probability(self, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > threshold) of each latent (eq. 3)."""
        return self.threshold.survival_probability(self.base, self._thresholded_noise(heads))
