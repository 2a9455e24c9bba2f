"""The paper's methods, each a composition found under its name."""

from collections.abc import Callable
from typing import NamedTuple

from jvsc.posteriors.base import Posterior, as_posterior
from jvsc.posteriors.gaussian import gaussian
from jvsc.posteriors.laplacian import laplacian
from jvsc.posteriors.spike_and_slab import spike_and_slab
from jvsc.posteriors.thresholded import thresholded
from jvsc.thresholds import (
    Estimator,
    fixed,
    gamma,
    gaussian_sparsity,
    gaussian_threshold,
    laplacian_sparsity,
    laplacian_threshold,
)


class Hyperparameters(NamedTuple):
    """Constants of the priors (appendix B and D).

    Attributes:
      scale: b0 of the Laplacian prior.
      variance: v0 of the Gaussian prior and of the slab.
      sparsity: prior share of non-zeros of the spike-and-slab.
      threshold: the fixed threshold, or the Gamma prior's mean.
      threshold_concentration: concentration of the Gamma prior.
      threshold_kl_weight: factor of the Gamma threshold's KL.
      estimator: gradient of the threshold.
    """

    scale: float = 0.1
    variance: float = 0.1
    sparsity: float = 0.1
    threshold: float = 0.25
    threshold_concentration: float = 3.0
    threshold_kl_weight: float = 0.1
    estimator: Estimator = "straight_through"


class Method(NamedTuple):
    """How a method's posterior is made, and its analytic rule between threshold and sparsity.

    Attributes:
      posterior: makes the posterior; None for FISTA, which has no encoder.
      threshold_of: `(sparsity, hyperparameters) -> threshold`, None without a threshold.
      sparsity_of: `(threshold, hyperparameters) -> sparsity`, its inverse.
      has_sparsity: whether the prior has a wanted share of non-zeros.
      warms_up: whether the warm-up is a factor of its noise.
    """

    posterior: Callable[[Hyperparameters], Posterior] | None
    threshold_of: Callable[[float, Hyperparameters], float] | None = None
    sparsity_of: Callable[[float, Hyperparameters], float] | None = None
    has_sparsity: bool = False
    warms_up: bool = False


def _gamma(h: Hyperparameters):
    return gamma(h.threshold, h.threshold_concentration, h.threshold_kl_weight)


def _thresholded_gaussian(posterior: Callable[[Hyperparameters], Posterior]) -> Method:
    return Method(
        posterior,
        lambda sparsity, h: gaussian_threshold(sparsity, h.variance),
        lambda threshold, h: gaussian_sparsity(threshold, h.variance),
        has_sparsity=True,
    )


def _thresholded_laplacian(posterior: Callable[[Hyperparameters], Posterior]) -> Method:
    return Method(
        posterior,
        lambda sparsity, h: laplacian_threshold(sparsity, h.scale),
        lambda threshold, h: laplacian_sparsity(threshold, h.scale),
        has_sparsity=True,
        warms_up=True,
    )


METHODS: dict[str, Method] = {
    "fista": Method(None),
    "gaussian": Method(lambda h: as_posterior(gaussian(h.variance))),
    "laplacian": Method(lambda h: as_posterior(laplacian(h.scale)), warms_up=True),
    "spike_and_slab": Method(lambda h: spike_and_slab(h.sparsity, h.variance), has_sparsity=True),
    "thresholded_gaussian": _thresholded_gaussian(
        lambda h: thresholded(gaussian(h.variance), fixed(h.threshold), h.estimator)
    ),
    "thresholded_gaussian_gamma": _thresholded_gaussian(
        lambda h: thresholded(gaussian(h.variance), _gamma(h), h.estimator)
    ),
    "thresholded_laplacian": _thresholded_laplacian(
        lambda h: thresholded(laplacian(h.scale), fixed(h.threshold), h.estimator)
    ),
    "thresholded_laplacian_gamma": _thresholded_laplacian(
        lambda h: thresholded(laplacian(h.scale), _gamma(h), h.estimator)
    ),
}


def build_posterior(method: str, hyperparameters: Hyperparameters | None = None) -> Posterior:
    """The posterior of one of the paper's methods.

    Args:
      method: a name of `METHODS` that has an encoder (every one but "fista").
      hyperparameters: constants of the priors; by default the paper's of the linear Laplacian
        methods (its Gaussian ones have threshold=0.52).

    Raises:
      ValueError: if there is no such method, it has no posterior, or the estimator is unknown.
      UserError: if a constant is outside its range (a ValueError).
    """
    found = METHODS.get(method)
    if found is None or found.posterior is None:
        names = ", ".join(name for name, entry in METHODS.items() if entry.posterior)
        raise ValueError(f"method {method!r} has no posterior; those that have: {names}")
    return found.posterior(hyperparameters or Hyperparameters())
