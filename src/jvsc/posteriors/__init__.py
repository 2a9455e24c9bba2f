"""Families of posteriors over codes, as pure functions that compose."""

from jvsc.posteriors.base import Annealing, LocationScale, Posterior, as_posterior
from jvsc.posteriors.gaussian import gaussian
from jvsc.posteriors.laplacian import laplacian
from jvsc.posteriors.registry import METHODS, Hyperparameters, Method, build_posterior
from jvsc.posteriors.spike_and_slab import spike_and_slab
from jvsc.posteriors.thresholded import thresholded

__all__ = [
    "METHODS",
    "Annealing",
    "Hyperparameters",
    "LocationScale",
    "Method",
    "Posterior",
    "as_posterior",
    "build_posterior",
    "gaussian",
    "laplacian",
    "spike_and_slab",
    "thresholded",
]
