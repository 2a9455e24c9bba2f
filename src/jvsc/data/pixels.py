"""Pixels stored as bytes, as models take them."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def as_float(data: Shaped[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Bytes as float32 in [0, 1]; floats as they are."""
    return data / jnp.float32(255) if data.dtype == jnp.uint8 else data
