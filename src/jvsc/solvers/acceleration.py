"""Parts of accelerated proximal methods: the momentum, and freezing data that are done."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def accelerate(momentum: Float[Array, " N"]) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """The momentum after t, and the weight of the extrapolation (Beck & Teboulle 2009, eq. 4.2).

    Args:
      momentum: t >= 1 of each datum; 1 restarts without extrapolation.

    Returns:
      t' = (1 + sqrt(1 + 4 t^2)) / 2, and (t - 1) / t'.
    """
    following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
    return following, (momentum - 1) / following


def frozen_where_done(state: Any, following: Any) -> Any:
    """The following state, in which data that were done keep their old values.

    Args:
      state: a named tuple of arrays with one row a datum, or scalars, which all data share;
        `state.done` [N] says which are done.
      following: the same after an iteration.
    """

    def choose(old: Array, new: Array) -> Array:
        if new.ndim == 0:
            return new
        return jnp.where(jnp.expand_dims(state.done, tuple(range(1, new.ndim))), old, new)

    return jax.tree.map(choose, state, following)
