"""Programs of functions that are called with data of any length, of which few are kept."""

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any

import jax
import jax.numpy as jnp

# Each takes several megabytes; JAX by itself would keep that of every shape.
PROGRAMS_KEPT = 16


def compiled_by_shape(*static: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`jax.jit` that keeps the programs of the shapes used last.

    Args:
      static: names of arguments that are compiled in; they are given by name.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @lru_cache(maxsize=PROGRAMS_KEPT)
        def program(shapes: Hashable, options: Hashable) -> Callable[..., Any]:
            del shapes, options  # by which programs are told apart

            # A function of its own, for JAX keeps what it has traced by function.
            def traced(*values: Any, **given: Any) -> Any:
                return function(*values, **given)

            return jax.jit(traced, static_argnames=static)

        @wraps(function)
        def call(*values: Any, **given: Any) -> Any:
            leaves, structure = jax.tree.flatten(values)
            shapes = tuple((jnp.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves)
            return program((structure, shapes), tuple(given.items()))(*values, **given)

        return call

    return decorate
