"""The soft threshold, the proximal operator of the L1 norm."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def soft_threshold(
    noise: Float[Array, "*S"], threshold: Float[Array, "*#S"] | float
) -> Float[Array, "*S"]:
    """Shrinks `noise` towards zero by `threshold`: sign(e) max(|e| - t, 0) (eq. 2, unshifted).

    Args:
      noise: scaled base noise e, any leading shape.
      threshold: t >= 0, broadcast against `noise`.

    Returns:
      An array of `noise`'s shape, exactly zero where |e| <= t.
    """
    # The same as sign(e) max(|e| - t, 0), but never minus zero.
    return noise - jnp.clip(noise, -threshold, threshold)
