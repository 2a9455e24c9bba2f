"""Measures as pure functions of arrays: they apply to any codes, without a run."""

from jvsc.metrics.collapse import feature_collapse, posterior_collapse
from jvsc.metrics.cross_entropy import (
    SplicingLosses,
    cross_entropy_recovered,
    splicing_losses,
)
from jvsc.metrics.dependence import mean_mutual_information, pairwise_mutual_information
from jvsc.metrics.frechet import frechet_distance, frechet_distance_of_moments, moments
from jvsc.metrics.gradient_snr import gradient_snr
from jvsc.metrics.importance import gaussian_log_likelihood, importance_weighted_bound
from jvsc.metrics.jaccard import jaccard_consistency
from jvsc.metrics.linear_dictionary import estimated_dictionary
from jvsc.metrics.linear_probe import linear_probe
from jvsc.metrics.multi_information import multi_information
from jvsc.metrics.point_biserial import point_biserial
from jvsc.metrics.support import active_latents, explained_variance, support_statistics

__all__ = [
    "SplicingLosses",
    "active_latents",
    "cross_entropy_recovered",
    "estimated_dictionary",
    "explained_variance",
    "feature_collapse",
    "frechet_distance",
    "frechet_distance_of_moments",
    "gaussian_log_likelihood",
    "gradient_snr",
    "importance_weighted_bound",
    "jaccard_consistency",
    "linear_probe",
    "mean_mutual_information",
    "moments",
    "multi_information",
    "pairwise_mutual_information",
    "point_biserial",
    "posterior_collapse",
    "splicing_losses",
    "support_statistics",
]
