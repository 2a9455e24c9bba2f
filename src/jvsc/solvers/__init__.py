"""Iterative sparse coding: arrays in, arrays out."""

from jvsc.solvers.fista import fista, spectral_norm_bound
from jvsc.solvers.lasso import lasso
from jvsc.solvers.omp import omp
from jvsc.solvers.online_dictionary import learn_dictionary
from jvsc.solvers.problem import LassoSolution
from jvsc.solvers.proximal import SparseCodes, proximal_gradient
from jvsc.solvers.support import least_squares_on_support, refine_support

__all__ = [
    "LassoSolution",
    "SparseCodes",
    "fista",
    "lasso",
    "learn_dictionary",
    "least_squares_on_support",
    "omp",
    "proximal_gradient",
    "refine_support",
    "spectral_norm_bound",
]
