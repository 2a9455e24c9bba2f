"""Preparation of a batch on the device: mirrored images, bytes to floats."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from jvsc.data.pixels import as_float

Prepare = Callable[[Shaped[Array, "B D"], Key[Array, " B"]], Float[Array, "B D"]]


def mirror(
    data: Shaped[Array, "B D"], keys: Key[Array, " B"], shape: tuple[int, ...]
) -> Shaped[Array, "B D"]:
    """Mirrors each image left to right with probability one half.

    Args:
      data: flat images.
      keys: one key a datum.
      shape: an image's (H, W, ...).
    """
    images = data.reshape(-1, *shape)
    # Of a type, so that with double precision the same are mirrored.
    mirrored = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32) < 0.5)(keys)
    chosen = mirrored.reshape((-1,) + (1,) * len(shape))
    return jnp.where(chosen, jnp.flip(images, axis=2), images).reshape(data.shape)


def make_prepare(shape: tuple[int, ...], mirrored: bool) -> Prepare:
    """How a training's batches are prepared: mirrored where the data say so, then floats."""

    def prepare(data: Shaped[Array, "B D"], keys: Key[Array, " B"]) -> Float[Array, "B D"]:
        return as_float(mirror(data, keys, shape) if mirrored else data)

    return prepare
