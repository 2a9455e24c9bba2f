"""The Matryoshka BatchTopK autoencoder (Bussmann et al. 2025)."""

from functools import partial
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jvsc.errors import UserError
from jvsc.model.autoencoders.base import Autoencoder, sum_of_squares
from jvsc.model.autoencoders.batch_topk import batch_topk


def nested_error(
    data: Float[Array, "B D"], codes: Float[Array, "B K"], generator: Any, sizes: tuple[int, ...]
) -> Float[Array, " B"]:
    """sum_m ||x - s_{1..m} A_{1..m} - b||^2 over nested dictionaries.

    Args:
      data: x.
      codes: s.
      generator: `dictionary` A and `bias` b.
      sizes: the m, rising.
    """
    residual = data - generator["bias"]
    errors = []
    for first, last in pairwise((0, *sizes)):
        residual = residual - codes[:, first:last] @ generator["dictionary"][first:last]
        errors.append(sum_of_squares(residual))
    return jnp.sum(jnp.stack(errors), axis=0)


def nested_sizes(num_latents: int, prefixes: tuple[float, ...]) -> tuple[int, ...]:
    """How many latents each nested dictionary has, rising; the last has all of them."""
    sizes = {max(1, round(num_latents * share)) for share in prefixes}
    return tuple(sorted(sizes | {num_latents}))


def matryoshka(
    num_features: int, num_latents: int, prefixes: tuple[float, ...], **options: Any
) -> Autoencoder:
    """BatchTopK whose first latents alone must explain the data too, and so are general ones.

    Bussmann, Nabeshima, Karvonen & Nanda (2025): the loss is the sum of the squared errors of
    nested dictionaries, and AuxK of the whole one's error.

    Args:
      num_features: D.
      num_latents: K.
      prefixes: shares of the latents that the nested dictionaries have.
      options: of `batch_topk`.

    Raises:
      UserError: if a share is not above 0 and at most 1.
    """
    if not all(0 < share <= 1 for share in prefixes):
        raise UserError(f"prefixes are {prefixes}; give shares of the latents, > 0 and <= 1")
    error = partial(nested_error, sizes=nested_sizes(num_latents, prefixes))
    return batch_topk(num_features, num_latents, error=error, **options)
