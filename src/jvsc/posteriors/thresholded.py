"""Thresholding as a wrapper around any location-scale base family (section 3.2 of the paper)."""

import jax
from jaxtyping import Array, Float, Key

from jvsc.posteriors.base import Annealing, LocationScale, Posterior
from jvsc.thresholds import ESTIMATORS, Estimator, Heads, Threshold


def thresholded(
    base: LocationScale, threshold: Threshold, estimator: Estimator = "straight_through"
) -> Posterior:
    """Posterior whose samples are the base's, soft-thresholded around their location (eq. 4).

    With a Laplacian base this is, for a given threshold, exactly a spike-and-slab (Proposition
    3.1). The divergence is the base's, plus the threshold's own where it is inferred (eq. 5).

    Args:
      base: a location-scale family, such as `laplacian(0.1)`.
      threshold: `fixed(0.25)` or `gamma(mean=0.25)`.
      estimator: "straight_through" (eq. 4) or "subgradient" (appendix C).

    Raises:
      ValueError: if `base` has no noise to threshold, or the estimator is unknown.
    """
    if not isinstance(base, LocationScale):
        raise ValueError("thresholded() takes a base family such as laplacian() or gaussian()")
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {estimator!r}; give one of {', '.join(ESTIMATORS)}")
    apply_threshold = ESTIMATORS[estimator]

    def sample(key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        return weighed_sample(key, heads, annealing)[0]

    def kl(heads: Heads) -> Float[Array, "*B K"]:
        return base.kl(heads) + threshold.kl(heads)

    def weighed_sample(
        key: Key[Array, ""], heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        noise_key, threshold_key = jax.random.split(key)
        noise = base.noise(noise_key, heads, annealing)
        value = threshold.sample(threshold_key, heads)
        code = apply_threshold(heads["loc"], noise, value)
        return code, base.log_ratio(noise, heads) + threshold.log_ratio(value, heads)

    def support_probability(heads: Heads) -> Float[Array, "*B K"]:
        return threshold.exceeded(base.tail, base.quantile, heads)

    prior = base.prior | threshold.prior
    return Posterior(prior, sample, kl, weighed_sample, support_probability)
