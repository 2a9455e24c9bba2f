"""Consistency of the supports of several codes of one datum (eq. 13)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jvsc.errors import UserError


def jaccard_consistency(supports: Bool[Array, "J *B K"]) -> Float[Array, "*B"]:
    """Mean Jaccard index |A and B| / |A or B| over all pairs of J supports (eq. 13).

    Args:
      supports: which latents are not zero in each of J >= 2 codes of a datum; the paper leaves out
        those whose atom has a norm below 0.1.

    Returns:
      A number in [0, 1] for each datum; two empty supports are equal, so their index is 1.

    Raises:
      UserError: for codes in the place of supports, or one alone.
    """
    if jnp.asarray(supports).dtype != bool:
        raise UserError(f"supports are {jnp.asarray(supports).dtype}; give booleans, codes != 0")
    if len(supports) < 2:
        raise UserError(f"{len(supports)} supports of a datum make no pair; give two or more")
    support = jnp.moveaxis(supports, 0, -2).astype(jnp.float32)
    num_codes = support.shape[-2]
    shared = support @ jnp.swapaxes(support, -1, -2)
    sizes = jnp.sum(support, axis=-1)
    either = sizes[..., :, None] + sizes[..., None, :] - shared
    index = jnp.where(either > 0, shared / jnp.maximum(either, 1.0), 1.0)
    pairs = jnp.triu(jnp.ones((num_codes, num_codes)), k=1)
    return jnp.sum(index * pairs, axis=(-1, -2)) / jnp.sum(pairs)
