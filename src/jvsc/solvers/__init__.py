"""Iterative sparse coding: arrays in, arrays out."""

from jvsc.solvers.fista import fista, spectral_norm_bound
from jvsc.solvers.lasso import lasso
from jvsc.solvers.problem import LassoSolution
from jvsc.solvers.proximal import SparseCodes, proximal_gradient
from jvsc.solvers.support import least_squares_on_support, refine_support

__all__ = [
    "LassoSolution",
    "SparseCodes",
    "fista",
    "lasso",
    "least_squares_on_support",
    "proximal_gradient",
    "refine_support",
    "spectral_norm_bound",
]
