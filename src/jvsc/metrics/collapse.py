"""Shares of latents that carry no information (eq. 15 and 16 of the paper)."""

import numpy as np
from jaxtyping import Float

NEGLIGIBLE = 1e-2
SHARE_OF_DATA = 0.95


def posterior_collapse(kl: Float[np.ndarray, "N K"]) -> float:
    """Share of latents whose KL is at most 1e-2 on at least 95% of the data (eq. 15).

    Args:
      kl: divergence of each datum's posterior from the prior, per latent, in nats.

    Returns:
      A share in [0, 1], NaN where a divergence is NaN; the paper gives percent.
    """
    return _share_of_latents(kl)


def feature_collapse(codes: Float[np.ndarray, "N K"]) -> float:
    """Share of latents with |s| at most 1e-2 on at least 95% of the data (eq. 16).

    Args:
      codes: one code per row.

    Returns:
      A share in [0, 1], NaN where a code is NaN; the paper gives percent.
    """
    return _share_of_latents(np.abs(codes))


def _share_of_latents(sizes: np.ndarray) -> float:
    """The share of latents that are negligible on most of the data."""
    if np.isnan(sizes).any():
        return float("nan")
    return float(np.mean((sizes <= NEGLIGIBLE).mean(axis=0) >= SHARE_OF_DATA))
