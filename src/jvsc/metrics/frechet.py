"""Frechet distance between two samples, each described by a Gaussian (Heusel et al. 2017)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jvsc.errors import UserError


class Moments(NamedTuple):
    """Mean of features, and a factor of their covariance.

    Attributes:
      mean: [F].
      factor: R with R^T R the covariance, [R, F]; it has no more rows than features or data.
    """

    mean: Float[np.ndarray, " F"]
    factor: Float[np.ndarray, "R F"]

    @property
    def covariance(self) -> Float[np.ndarray, "F F"]:
        """The covariance."""
        return self.factor.T @ self.factor


def moments(features: Float[np.ndarray, "N F"]) -> Moments:
    """Mean and unbiased covariance of features, N >= 2 rows, in float64.

    Raises:
      UserError: for fewer rows, or features that are not a matrix of finite numbers.
    """
    features = np.asarray(features).astype(np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"features have the shape {features.shape}; give [N, F], N at least 2")
    if not np.isfinite(features).all():
        raise UserError("features hold NaN or infinity; leave such rows out")
    mean = features.mean(axis=0)
    factor = (features - mean) / np.sqrt(len(features) - 1)
    if len(features) > features.shape[1]:
        factor = np.asarray(np.linalg.qr(factor, mode="r"))
    return Moments(mean, factor)


def frechet_distance(a: Float[np.ndarray, "N F"], b: Float[np.ndarray, "M F"]) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) between the Gaussians of two samples.

    With Inception-v3's features it is the FID (Heusel et al. 2017).

    Args:
      a: features of one sample, one row per datum, N >= 2.
      b: features of the other sample.

    Returns:
      A squared distance, in the features' units squared, never negative; zero for equal moments,
      up to rounding.

    Raises:
      UserError: for features of different widths, fewer than two data, or values not finite.
    """
    return frechet_distance_of_moments(moments(a), moments(b))


def frechet_distance_of_moments(a: Moments, b: Moments) -> float:
    """The Frechet distance of two Gaussians (Dowson & Landau 1982), as `frechet_distance` gives it.

    The trace of (C_a C_b)^(1/2) is the sum of the singular values of R_a R_b^T. This needs no
    square root of a nearly singular matrix, and no matrix larger than the number of data.
    """
    if a.mean.shape != b.mean.shape:
        raise UserError(
            f"features are {a.mean.size} and {b.mean.size} wide; give two samples of the same ones"
        )
    between = a.mean - b.mean
    # Scaled by a power of two, so that no square overflows.
    parts = (a.factor, b.factor, between)
    exponent = int(np.frexp(max(np.abs(part).max(initial=0) for part in parts))[1])
    first, second, between = (np.ldexp(part, -exponent) for part in parts)
    trace = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    distance = np.sum(between**2) + np.sum(first**2) + np.sum(second**2) - 2 * trace
    with np.errstate(over="ignore"):
        return max(0.0, float(np.ldexp(distance, 2 * exponent)))
