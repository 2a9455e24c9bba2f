"""The paper's losses of each datum: objective (10), the dictionary's (11), the encoder's (12).

Each function returns the terms of its loss; whoever calls it weighs, sums and averages them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jvsc.model.thresholding import gradient_carrier


class SparseCodingTerms(NamedTuple):
    """Terms of objective (10), in the data's units squared.

    Attributes:
      data: 0.5 ||x - x_hat||^2 of each datum.
      l1: lambda ||s||_1 of each datum.
    """

    data: Float[Array, "*B"]
    l1: Float[Array, "*B"]

    def total(self) -> Float[Array, "*B"]:
        """The objective of each datum."""
        return self.data + self.l1


class DictionaryTerms(NamedTuple):
    """Terms of the dictionary's loss (11), in the data's units squared.

    Attributes:
      data: 0.5 ||x - x_hat||^2 of each datum.
      norm: weight ||A||_F^2, of the dictionary as a whole.
    """

    data: Float[Array, "*B"]
    norm: Float[Array, ""]

    def total(self) -> Float[Array, "*B"]:
        """The loss of each datum."""
        return self.data + self.norm


class EncoderTerms(NamedTuple):
    """Terms of the encoder's loss (12).

    Attributes:
      squared_error: mean_d (x_d - x_hat_d)^2 of each datum.
      kl: beta KL of each datum, summed over the latents.
    """

    squared_error: Float[Array, "*B"]
    kl: Float[Array, "*#B"]

    def total(self) -> Float[Array, "*B"]:
        """The loss of each datum."""
        return self.squared_error + self.kl


def sparse_coding_objective(
    data: Float[Array, "*#B D"],
    reconstruction: Float[Array, "*B D"],
    codes: Float[Array, "*B K"],
    penalty: float | Float[Array, ""],
) -> SparseCodingTerms:
    """Objective (10) of each datum's code: 0.5 ||x - x_hat||^2 + lambda ||s||_1.

    Args:
      data: x.
      reconstruction: x_hat, what the codes generate.
      codes: s.
      penalty: lambda.
    """
    return SparseCodingTerms(
        half_squared_norm(data - reconstruction), penalty * jnp.sum(jnp.abs(codes), axis=-1)
    )


def dictionary_objective(
    data: Float[Array, "*#B D"],
    reconstruction: Float[Array, "*B D"],
    dictionary: Float[Array, "K D"],
    frobenius: float,
) -> DictionaryTerms:
    """The dictionary's loss (11): 0.5 ||x - s A||^2, and a weight times ||A||_F^2.

    Args:
      data: x.
      reconstruction: s A.
      dictionary: A.
      frobenius: weight of the norm.
    """
    return DictionaryTerms(
        half_squared_norm(data - reconstruction), frobenius_term(dictionary, frobenius)
    )


def encoder_objective(
    data: Float[Array, "*#B D"],
    reconstruction: Float[Array, "*B D"],
    kl: Float[Array, "*#B K"],
    kl_weight: float | Float[Array, ""],
) -> EncoderTerms:
    """The encoder's loss (12): mean_d (x_d - x_hat_d)^2 + beta sum_k KL_k.

    Args:
      data: x.
      reconstruction: x_hat of a code.
      kl: divergence of each latent's posterior from its prior, in nats.
      kl_weight: beta.
    """
    return EncoderTerms(squared_error(data, reconstruction), kl_weight * jnp.sum(kl, axis=-1))


def squared_error(
    data: Float[Array, "*#B D"], reconstruction: Float[Array, "*B D"]
) -> Float[Array, "*B"]:
    """Reconstruction term of the encoder's loss: mean_d (x_d - x_hat_d)^2 (eq. 12)."""
    return jnp.mean((data - reconstruction) ** 2, axis=-1)


def filled(
    data: Float[Array, "*B D"], values: float | Float[Array, "*B D"]
) -> Float[Array, "*B D"]:
    """Data with other values where they are NaN: entries that are not there.

    Of a reconstruction these leave neither an error nor a gradient.
    """
    return jnp.where(jnp.isnan(data), values, data)


def entries_of(
    data: Float[Array, "*B D"], has_missing: bool
) -> tuple[Float[Array, "*B D"], Bool[Array, "*B D"] | None]:
    """Data, zero where NaN says that an entry is not there, and where they are; None if everywhere.

    Args:
      data: x.
      has_missing: whether NaN says that.
    """
    return (filled(data, 0.0), ~jnp.isnan(data)) if has_missing else (data, None)


def half_squared_norm(residual: Float[Array, "*B D"]) -> Float[Array, "*B"]:
    """Data term of sparse coding: 0.5 ||x - x_hat||^2 (eq. 10 and 11)."""
    return 0.5 * jnp.sum(residual**2, axis=-1)


def frobenius_term(dictionary: Float[Array, "K D"], weight: float) -> Float[Array, ""]:
    """Penalty that bounds the dictionary: weight ||A||_F^2 (eq. 10 and 11)."""
    return weight * jnp.sum(dictionary**2)


def nonzero_fraction(codes: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """Share of each code's latents that are not exactly zero."""
    return jnp.mean(codes != 0, axis=-1, dtype=jnp.float32)


def scale_gradient(values: Any, scale: float) -> Any:
    """The values as they are, with their gradient multiplied by `scale`.

    With it one pass serves both losses: of the same codes 0.5 ||x - x_hat||^2 (11) is D/2 times
    mean_d (x_d - x_hat_d)^2 (12), so a dictionary whose gradient of (12) is multiplied by D/2
    descends (11), while the encoder descends (12).
    """
    stop = jax.lax.stop_gradient
    return jax.tree.map(lambda leaf: stop(leaf) + scale * gradient_carrier(leaf), values)
