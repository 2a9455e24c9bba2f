"""Measures of one seed's codes, and of its dictionary: arrays and settings in, numbers out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jvsc.evaluation.inference import Inferred
from jvsc.metrics import (
    active_latents,
    feature_collapse,
    mean_mutual_information,
    multi_information,
    posterior_collapse,
    support_statistics,
)
from jvsc.model.objective import SparseCodingTerms, frobenius_term, sparse_coding_objective

# Table 1's loss adds so many times ||A||_F^2 to objective (10), for every method.
PUBLISHED_FROBENIUS = 1e-3
# A measure's value: a number, a list of them for a picture, or a text.
Values = dict[str, Any]


def objective_terms(
    data: Float[np.ndarray, "N D"],
    codes: Float[np.ndarray, "N K"],
    dictionary: Float[Array, "K D"],
    penalty: float,
) -> SparseCodingTerms:
    """Terms of objective (10), means over the data."""
    reconstruction = jnp.matmul(codes, dictionary, precision=jax.lax.Precision.HIGHEST)
    terms = sparse_coding_objective(jnp.asarray(data), reconstruction, jnp.asarray(codes), penalty)
    return SparseCodingTerms(*map(jnp.mean, terms))


def measure_codes(inferred: Inferred, num_edges: int, pairs: bool = True) -> Values:
    """Measures of codes under any generator, means over the data.

    Args:
      inferred: codes and what was inferred with them.
      num_edges: of multi-information's bins.
      pairs: whether `mutual_information` is wanted, whose time grows with K^2.

    Returns:
      `mse` per pixel, `nonzero_fraction`, `l0` (non-zeros of a datum), `dead_latents` (share of
      latents that are zero for all data), `kl` summed over latents, `multi_information` (bits),
      `mutual_information` (bits, the mean of two latents, its bias taken off; None of one alone),
      `posterior_collapse` and `feature_collapse` (shares of latents); and for pictures
      `active_latents` (how many data have 0, 1, .. latents that are not zero) and
      `latent_frequency` (the share of the data in which each latent is not zero, sorted).
    """
    codes, kl, error, _ = inferred
    pairs = pairs and codes.shape[-1] > 1
    frequency = support_statistics(codes).frequency
    return {
        "mse": float(np.mean(error)),
        "nonzero_fraction": float(np.mean(codes != 0)),
        "l0": float(np.mean(np.sum(codes != 0, axis=-1))),
        "dead_latents": float(np.mean(frequency == 0)),
        "kl": None if kl is None else float(np.mean(np.sum(kl, axis=-1))),
        "multi_information": multi_information(codes, num_edges),
        "mutual_information": mean_mutual_information(codes, num_edges) if pairs else None,
        "posterior_collapse": None if kl is None else posterior_collapse(kl),
        "feature_collapse": feature_collapse(codes),
        "active_latents": active_latents(codes).tolist(),
        "latent_frequency": np.sort(frequency)[::-1].round(6).tolist(),
    }


def measure_dictionary(
    data: Float[np.ndarray, "N D"],
    codes: Float[np.ndarray, "N K"],
    dictionary: Float[Array, "K D"],
    penalty: float,
    optimal_codes: Float[np.ndarray, "N K"],
) -> Values:
    """Measures of a dictionary and its codes, means over the data.

    Args:
      data: x.
      codes: s.
      dictionary: A.
      penalty: lambda of objective (10).
      optimal_codes: the lasso's for the same dictionary.

    Returns:
      `validation_loss` (objective 10 without the dictionary's norm), its two parts
      `reconstruction` (0.5 ||x - s A||^2) and `l1` (lambda ||s||_1), `fista_optimum` (the least
      that codes can reach with this dictionary), the zero code's loss, and of the dictionary
      ||A||_F^2 (`dictionary_energy`) and the loss as Table 1 has it, with 1e-3 of that
      (`published_loss`).
    """
    reconstruction, l1 = map(float, objective_terms(data, codes, dictionary, penalty))
    energy = float(frobenius_term(dictionary, 1.0))
    return {
        "validation_loss": reconstruction + l1,
        "reconstruction": reconstruction,
        "l1": l1,
        "fista_optimum": float(objective_terms(data, optimal_codes, dictionary, penalty).total()),
        "fista_nonzero_fraction": float(np.mean(optimal_codes != 0)),
        "zero_code_loss": 0.5 * float(np.mean(np.sum(data.astype(np.float64) ** 2, axis=-1))),
        "dictionary_norm": float(jnp.mean(jnp.linalg.norm(dictionary, axis=-1))),
        "dictionary_energy": energy,
        "published_loss": reconstruction + l1 + PUBLISHED_FROBENIUS * energy,
    }
