"""Multi-information of discretised codes (section 4.1.1 of the paper)."""

import numpy as np
from jaxtyping import Float, Integer

# Edges next to zero give exact zeros their own bin.
ZERO_EDGE = 1e-50


def bin_edges(num_edges: int = 20, limit: float = 2.0) -> Float[np.ndarray, " E"]:
    """`linspace(-limit, limit, num_edges)` and +-1e-50, sorted, float64 (as published)."""
    return np.sort(np.append(np.linspace(-limit, limit, num_edges), [-ZERO_EDGE, ZERO_EDGE]))


def digitise(
    codes: Float[np.ndarray, "N K"], num_edges: int = 20
) -> tuple[Integer[np.ndarray, "N K"], int]:
    """The bin of each latent among `bin_edges`, and the number of bins."""
    edges = bin_edges(num_edges)
    num_bins = len(edges) + 1
    digits = np.full(codes.shape, np.digitize(0.0, edges), np.min_scalar_type(num_bins))
    # Most latents are zero and need no search for their bin.
    active = np.flatnonzero(codes != 0)
    digits.ravel()[active] = np.digitize(codes.ravel()[active].astype(np.float64), edges)
    return digits, num_bins


def entropy(counts: np.ndarray) -> float:
    """Plug-in entropy in bits of a distribution given by counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-np.sum(shares * np.log2(shares)))


def marginal_counts(digits: Integer[np.ndarray, "N K"], num_bins: int) -> np.ndarray:
    """How many codes have each latent in each bin, [K, num_bins]."""
    num_codes, num_latents = digits.shape
    # Count all codes in the bins of the first, then move those that are in other bins.
    common = digits[0]
    uncommon = np.flatnonzero(digits != common)
    latents = uncommon % num_latents
    counts = np.bincount(
        latents * num_bins + digits.ravel()[uncommon], minlength=num_latents * num_bins
    ).reshape(num_latents, num_bins)
    counts[np.arange(num_latents), common] += num_codes - counts.sum(axis=1)
    return counts


def multi_information(codes: Float[np.ndarray, "N K"], num_edges: int = 20) -> float:
    """Plug-in multi-information of codes in bits: sum_k H(s_k) - H(s_1 .. s_K) (section 4.1.1).

    The joint entropy comes from the counts of distinct code vectors, so it is at most log2 N: for
    wide codes this measures marginal entropy more than dependence.

    Args:
      codes: one code per row.
      num_edges: edges over [-2, 2]; the published code has 20 for linear models, 30 for conv ones.

    Returns:
      A number of bits, at least zero up to rounding; NaN where a code is NaN.
    """
    if np.isnan(codes).any():
        return float("nan")
    digits, num_bins = digitise(codes, num_edges)
    marginal = sum(entropy(counts) for counts in marginal_counts(digits, num_bins))
    rows = (
        np.ascontiguousarray(digits)
        .view(np.dtype((np.void, digits.itemsize * digits.shape[1])))
        .ravel()
    )
    _, counts = np.unique(rows, return_counts=True)
    return marginal - entropy(counts)
