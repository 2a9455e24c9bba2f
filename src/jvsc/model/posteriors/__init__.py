"""Families of posteriors over codes, as pure functions that compose."""

from jvsc.model.posteriors.base import Annealing, LocationScale, Posterior
from jvsc.model.posteriors.gaussian import Gaussian
from jvsc.model.posteriors.inferred_threshold import InferredThreshold
from jvsc.model.posteriors.laplacian import Laplacian
from jvsc.model.posteriors.spike_and_slab import SpikeAndSlab
from jvsc.model.posteriors.thresholded import Thresholded
from jvsc.model.posteriors.unthresholded import Unthresholded

__all__ = [
    "Annealing",
    "Gaussian",
    "InferredThreshold",
    "Laplacian",
    "LocationScale",
    "Posterior",
    "SpikeAndSlab",
    "Thresholded",
    "Unthresholded",
]
