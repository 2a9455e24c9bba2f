"""Methods by name: the paper's compositions, solvers, and sparse autoencoders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jvsc.model.autoencoders import AUTOENCODERS, MakeAutoencoder
from jvsc.model.posteriors import (
    Gaussian,
    InferredThreshold,
    Laplacian,
    Posterior,
    SpikeAndSlab,
    Thresholded,
    Unthresholded,
)
from jvsc.model.thresholding import Estimator
from jvsc.model.thresholds import (
    FixedThreshold,
    GammaThreshold,
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
      sparsity: prior share of non-zeros of the spike-and-slab and the inferred threshold.
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


@dataclass(frozen=True)
class ThresholdRule:
    """The analytic rule between a threshold and the prior's share of non-zeros (appendix D).

    Attributes:
      threshold_of: `(sparsity, hyperparameters) -> threshold`.
      sparsity_of: `(threshold, hyperparameters) -> sparsity`, its inverse.
    """

    threshold_of: Callable[[float, Hyperparameters], float]
    sparsity_of: Callable[[float, Hyperparameters], float]


@dataclass(frozen=True)
class VariationalMethod:
    """A method whose encoder infers a posterior.

    Attributes:
      posterior: hyperparameters -> posterior.
      rule: between its threshold and sparsity; None without a threshold.
      has_sparsity: whether the prior has a wanted share of non-zeros.
      warms_up: whether the warm-up multiplies its noise.
      finds_prior: whether training learns noise and prior (`EmpiricalBayes`), and codes need no
        draw.
    """

    posterior: Callable[[Hyperparameters], Posterior]
    rule: ThresholdRule | None = None
    has_sparsity: bool = False
    warms_up: bool = False
    finds_prior: bool = False

    @property
    def has_moments(self) -> bool:
        """Whether its posterior's moments are known, so that its bound may be exact."""
        return self.posterior(Hyperparameters()).has_moments


@dataclass(frozen=True)
class SolverMethod:
    """A method whose codes a solver infers, by objective (10).

    Attributes:
      learns_online: whether the dictionary is made of codes' moments (`online_dictionary`), not by
        gradient steps.
    """

    learns_online: bool = False
    rule: ThresholdRule | None = None
    has_sparsity: bool = False
    warms_up: bool = False


@dataclass(frozen=True)
class AutoencoderMethod:
    """A sparse autoencoder, whose encoder gives codes and whose loss is its own.

    Attributes:
      make: (D, K, options) -> autoencoder.
    """

    make: MakeAutoencoder
    rule: ThresholdRule | None = None
    has_sparsity: bool = False
    warms_up: bool = False


Method = VariationalMethod | SolverMethod | AutoencoderMethod

GAUSSIAN_RULE = ThresholdRule(
    lambda sparsity, h: gaussian_threshold(sparsity, h.variance),
    lambda threshold, h: gaussian_sparsity(threshold, h.variance),
)
LAPLACIAN_RULE = ThresholdRule(
    lambda sparsity, h: laplacian_threshold(sparsity, h.scale),
    lambda threshold, h: laplacian_sparsity(threshold, h.scale),
)


def _gamma(h: Hyperparameters) -> GammaThreshold:
    return GammaThreshold(h.threshold, h.threshold_concentration, h.threshold_kl_weight)


METHODS: dict[str, Method] = {
    "fista": SolverMethod(),
    "lasso": SolverMethod(learns_online=True),
    "gaussian": VariationalMethod(lambda h: Unthresholded(Gaussian(h.variance))),
    "laplacian": VariationalMethod(lambda h: Unthresholded(Laplacian(h.scale)), warms_up=True),
    "inferred_threshold": VariationalMethod(
        lambda h: InferredThreshold(h.scale, h.sparsity), has_sparsity=True, finds_prior=True
    ),
    "spike_and_slab": VariationalMethod(
        lambda h: SpikeAndSlab(h.sparsity, h.variance), has_sparsity=True
    ),
    "thresholded_gaussian": VariationalMethod(
        lambda h: Thresholded(Gaussian(h.variance), FixedThreshold(h.threshold), h.estimator),
        GAUSSIAN_RULE,
        has_sparsity=True,
    ),
    "thresholded_gaussian_gamma": VariationalMethod(
        lambda h: Thresholded(Gaussian(h.variance), _gamma(h), h.estimator),
        GAUSSIAN_RULE,
        has_sparsity=True,
    ),
    "thresholded_laplacian": VariationalMethod(
        lambda h: Thresholded(Laplacian(h.scale), FixedThreshold(h.threshold), h.estimator),
        LAPLACIAN_RULE,
        has_sparsity=True,
        warms_up=True,
    ),
    "thresholded_laplacian_gamma": VariationalMethod(
        lambda h: Thresholded(Laplacian(h.scale), _gamma(h), h.estimator),
        LAPLACIAN_RULE,
        has_sparsity=True,
        warms_up=True,
    ),
    **{name: AutoencoderMethod(make) for name, make in AUTOENCODERS.items()},
}
VARIATIONAL_METHODS: dict[str, VariationalMethod] = {
    name: method for name, method in METHODS.items() if isinstance(method, VariationalMethod)
}


def build_posterior(method: str, hyperparameters: Hyperparameters | None = None) -> Posterior:
    """The posterior of a method.

    Args:
      method: a name of `VARIATIONAL_METHODS`.
      hyperparameters: constants of the priors; by default the paper's of the linear Laplacian
        methods (its Gaussian ones have threshold=0.52).

    Raises:
      ValueError: if there is no such method, it has no posterior, or the estimator is unknown.
      UserError: if a constant is outside its range (a ValueError).
    """
    if method not in VARIATIONAL_METHODS:
        names = ", ".join(VARIATIONAL_METHODS)
        raise ValueError(f"method {method!r} has no posterior; those that have: {names}")
    return VARIATIONAL_METHODS[method].posterior(hyperparameters or Hyperparameters())


def finds_prior(method: Method) -> bool:
    """Whether training finds noise and prior."""
    return isinstance(method, VariationalMethod) and method.finds_prior
