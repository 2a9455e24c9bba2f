"""Iterative sparse coding: arrays in, arrays out."""

from jvsc.solvers.fista import LassoSolution, fista, spectral_norm_bound
from jvsc.solvers.lasso import lasso
from jvsc.solvers.proximal import SparseCodes, proximal_gradient

__all__ = [
    "LassoSolution",
    "SparseCodes",
    "fista",
    "lasso",
    "proximal_gradient",
    "spectral_norm_bound",
]
