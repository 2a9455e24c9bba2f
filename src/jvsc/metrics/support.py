"""Use of each latent, and the share of the data's variance that codes explain."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from jvsc.errors import UserError


class SupportStatistics(NamedTuple):
    """Use of each latent over the data.

    Attributes:
      frequency: share of the data in which it is not exactly zero, [K]; NaN where a code is NaN.
      mean_size: its mean |s| where it is not zero, [K]; zero for a latent never used.
    """

    frequency: Float[np.ndarray, " K"]
    mean_size: Float[np.ndarray, " K"]


def support_statistics(codes: Float[np.ndarray, "N K"]) -> SupportStatistics:
    """How often each latent is used, and its mean |s| where it is (see `SupportStatistics`)."""
    active = codes != 0
    counts = active.sum(axis=0)
    size = np.abs(codes).sum(axis=0, dtype=np.float64) / np.maximum(counts, 1)
    return SupportStatistics(np.where(np.isnan(size), np.nan, counts / len(codes)), size)


def active_latents(codes: Float[np.ndarray, "N K"]) -> Integer[np.ndarray, " K+1"]:
    """How many data have 0, 1, .. K latents that are not zero."""
    return np.bincount((codes != 0).sum(axis=1), minlength=codes.shape[1] + 1)


def explained_variance(
    data: Float[np.ndarray, "N D"], squared_error: Float[np.ndarray, " N"]
) -> float:
    """1 - (mean squared error) / (variance of the data about their mean), pooled over pixels.

    Args:
      data: x.
      squared_error: mean over the pixels of each datum.

    Returns:
      At most 1, which is perfect; negative where predicting the mean would be better; not finite
      for constant data.

    Raises:
      UserError: for something else than an error a datum, such as a reconstruction.
    """
    if np.shape(squared_error) != (len(data),):
        raise UserError(
            f"squared_error has the shape {np.shape(squared_error)}; give [N], the mean of each "
            f"datum's squared errors, N={len(data)}"
        )
    variance = np.mean(data.var(axis=0, dtype=np.float64))
    return float(1 - np.mean(squared_error, dtype=np.float64) / variance)
