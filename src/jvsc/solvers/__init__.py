"""Iterative sparse coding: arrays in, arrays out."""

from jvsc.solvers.fista import LassoSolution, fista, spectral_norm_bound

__all__ = ["LassoSolution", "fista", "spectral_norm_bound"]
