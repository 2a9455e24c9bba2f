"""Correlation of latents with binary attributes."""

import numpy as np
from jaxtyping import Bool, Float

from jvsc.errors import UserError


def point_biserial(
    codes: Float[np.ndarray, "N K"], attributes: Bool[np.ndarray, "N A"]
) -> Float[np.ndarray, "K A"]:
    """Point-biserial correlation (M1 - M0) / std * sqrt(n1 n0 / n^2) (Tate 1954).

    Args:
      codes: s.
      attributes: whether each datum has each attribute.

    Returns:
      Correlations in [-1, 1]; zero for a latent that never varies or an attribute that
      is always or never present; NaN for a latent with a code that is NaN.

    Raises:
      UserError: for attributes that are neither booleans nor 0 and 1.
    """
    if not np.isin(attributes, (0, 1)).all():
        raise UserError("attributes hold other numbers than 0 and 1; give booleans, such as x > 0")
    codes = codes.astype(np.float64)
    has = attributes.astype(np.float64)
    ones, zeros = has.sum(axis=0), (1 - has).sum(axis=0)
    # Written as a difference of means, as the formula has it.
    mean_of_ones = codes.T @ has / np.maximum(ones, 1)
    mean_of_zeros = codes.T @ (1 - has) / np.maximum(zeros, 1)
    deviation = codes.std(axis=0)[:, None]
    share = np.sqrt(ones * zeros) / len(codes)
    # A constant's deviation is not zero, for its mean is rounded.
    varies = (np.ptp(codes, axis=0) != 0)[:, None] & (ones > 0) & (zeros > 0)
    return np.where(
        varies, (mean_of_ones - mean_of_zeros) / np.where(varies, deviation, 1) * share, 0.0
    )
