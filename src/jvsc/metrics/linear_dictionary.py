"""The linear dictionary that best fits a nonlinear model's codes (section 4.2)."""

import numpy as np
from jaxtyping import Float


def estimated_dictionary(
    data: Float[np.ndarray, "N D"], codes: Float[np.ndarray, "N K"], chunk: int = 10_000
) -> Float[np.ndarray, "K D"]:
    """The least-squares dictionary for given codes: pinv(C_ss) C_sx (Isely et al. 2010).

    C_ss = s^T s and C_sx = s^T x are second moments about zero (section 4.2).

    Args:
      data: x.
      codes: s.
      chunk: rows processed at once.

    Returns:
      One atom per row, in units of the data per unit of code; zero for a latent never used.
    """
    num_latents = codes.shape[1]
    second = np.zeros((num_latents, num_latents))
    cross = np.zeros((num_latents, data.shape[1]))
    for first in range(0, len(codes), chunk):
        s = codes[first : first + chunk].astype(np.float64)
        second += s.T @ s
        cross += s.T @ data[first : first + chunk]
    return np.linalg.pinv(second, hermitian=True) @ cross
