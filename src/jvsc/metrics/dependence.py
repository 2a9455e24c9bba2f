"""Dependence of pairs of latents: a measure that does not saturate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from jvsc.metrics.multi_information import digitise, entropy, marginal_counts

# Latents of one block; the joint counts of two blocks take (block * bins)^2 numbers.
BLOCK = 128
ROWS_AT_ONCE = 4000


def pairwise_mutual_information(
    codes: Float[np.ndarray, "N K"], num_edges: int = 20
) -> Float[np.ndarray, "K K"]:
    """Plug-in mutual information of every pair of latents in bits; entropies on the diagonal.

    Latents are digitised as for `multi_information`. With m bins in use of each of two independent
    latents the plug-in estimate is too large by about (m - 1)^2 / (2 N ln 2) (Miller 1955); see
    `mean_mutual_information`.

    Args:
      codes: one code per row.
      num_edges: edges over [-2, 2].

    Returns:
      Bits; NaN where a code is NaN.
    """
    if np.isnan(codes).any():
        return np.full((codes.shape[1],) * 2, np.nan)
    digits, num_bins = digitise(codes, num_edges)
    num_latents = codes.shape[1]
    starts = range(0, num_latents, BLOCK)
    blocks = [digits[:, start : start + BLOCK] for start in starts]
    entropies = np.array([entropy(counts) for counts in marginal_counts(digits, num_bins)])
    information = np.empty((num_latents, num_latents))
    for row, rows in zip(starts, blocks, strict=True):
        for column, columns in zip(starts, blocks, strict=True):
            if column < row:
                continue
            joint = _joint_entropies(rows, columns, num_bins)
            of_rows = entropies[row : row + rows.shape[1], None]
            block = of_rows + entropies[None, column : column + columns.shape[1]] - joint
            information[row : row + BLOCK, column : column + BLOCK] = block
            information[column : column + BLOCK, row : row + BLOCK] = block.T
    return information


def mean_mutual_information(
    codes: Float[np.ndarray, "N K"], num_edges: int = 20, seed: int = 0
) -> float:
    """Mean mutual information of two different latents in bits, corrected for its bias.

    The bias is estimated by shuffling each latent separately. That keeps the marginal distributions
    and removes all dependence, so what remains is the bias of the plug-in estimate.

    Args:
      codes: one code per row, K >= 2.
      num_edges: edges over [-2, 2].
      seed: of the shuffling.

    Returns:
      Bits; zero on average for independent latents, so it may be slightly negative; NaN where a
      code is NaN.
    """
    shuffled = np.random.default_rng(seed).permuted(codes, axis=0)
    pairs = np.triu_indices(codes.shape[1], k=1)
    biased = pairwise_mutual_information(codes, num_edges)[pairs].mean()
    return float(biased - pairwise_mutual_information(shuffled, num_edges)[pairs].mean())


def _joint_entropies(
    rows: Integer[np.ndarray, "N P"], columns: Integer[np.ndarray, "N Q"], num_bins: int
) -> Float[np.ndarray, "P Q"]:
    """Entropy in bits of each pair of a latent of `rows` and one of `columns`."""
    counts = jnp.zeros((rows.shape[1] * num_bins, columns.shape[1] * num_bins))
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        counts = _add_counts(counts, rows[part], columns[part], num_bins)
    shape = (rows.shape[1], num_bins, columns.shape[1], num_bins)
    return np.asarray(_entropies(counts.reshape(shape), len(rows)))


@partial(jax.jit, static_argnums=3, donate_argnums=0)
def _add_counts(counts: Array, rows: Array, columns: Array, num_bins: int) -> Array:
    """Adds how often each pair of bins occurs; counts below 2^24 are exact in float32."""
    one_hot = lambda digits: jax.nn.one_hot(digits, num_bins).reshape(len(digits), -1)  # noqa: E731
    return counts + jnp.matmul(
        one_hot(rows).T, one_hot(columns), precision=jax.lax.Precision.HIGHEST
    )


@jax.jit
def _entropies(counts: Array, total: Array) -> Array:
    shares = counts / total
    terms = jnp.where(counts > 0, shares * jnp.log2(jnp.maximum(shares, 1e-30)), 0.0)
    return -jnp.sum(terms, axis=(1, 3))
