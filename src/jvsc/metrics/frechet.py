"""Frechet distance of two samples taken as Gaussian (Heusel et al. 2017)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Moments(NamedTuple):
    """Mean [F] and covariance [F, F] of features."""

    mean: Float[np.ndarray, " F"]
    covariance: Float[np.ndarray, "F F"]


def moments(features: Float[np.ndarray, "N F"]) -> Moments:
    """Mean and unbiased covariance of features, N >= 2 rows, in float64."""
    features = features.astype(np.float64)
    return Moments(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)))


def frechet_distance(a: Float[np.ndarray, "N F"], b: Float[np.ndarray, "M F"]) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) between the Gaussians of two samples.

    Of Inception-v3's features it is the FID (Heusel et al. 2017).

    Args:
      a: features of one sample, a row each, N >= 2.
      b: of the other.

    Returns:
      A squared distance, in the features' units squared; zero for equal moments.
    """
    return frechet_distance_of_moments(moments(a), moments(b))


def frechet_distance_of_moments(a: Moments, b: Moments) -> float:
    """The Frechet distance of two Gaussians (Dowson & Landau 1982), as `frechet_distance` gives it.

    The trace of (C_a C_b)^(1/2) is that of (C_a^(1/2) C_b C_a^(1/2))^(1/2), which is symmetric: no
    square root of a matrix that is nearly singular, and no imaginary part.
    """
    root = _root(a.covariance)
    mixed = np.linalg.eigvalsh(root @ b.covariance @ root)
    trace = np.sqrt(np.maximum(mixed, 0)).sum()
    between = np.sum((a.mean - b.mean) ** 2)
    return float(between + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace)


def _root(matrix: Float[np.ndarray, "F F"]) -> Float[np.ndarray, "F F"]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
