"""Codes improved by steps from given ones, the lasso's, and the penalty for a wanted share."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jvsc.model.model import Model
from jvsc.model.parameters import Statistics
from jvsc.model.variational import Variational, needs_no_draw
from jvsc.solvers import refine_support
from jvsc.solvers.fista import refine

# Of penalties that are looked through: three powers of ten.
RANGE = 3 * math.log(10)
# A share of non-zeros that has so much of the wanted one has it.
NEARLY = 0.8
# (data, dictionary, penalty, codes, steps) -> codes
Refine = Callable[..., Float[Array, "B K"]]


def refined_support(
    data: Float[np.ndarray, "B D"],
    dictionary: Float[np.ndarray, "K D"],
    penalty: float,
    codes: Float[Array, "B K"],
    steps: int,
) -> Float[Array, "B K"]:
    """Codes after so many steps of `refine_support` from given ones."""
    arrays = (jnp.asarray(data), jnp.asarray(dictionary), codes)
    return _refine_support(*arrays, jnp.float32(penalty), steps)


_refine_support = jax.jit(refine_support)


def refinement(model: Model) -> Refine:
    """What `refine_steps` descend: objective (10), or with a count of non-zeros in place of L1.

    The latter for codes whose values no penalty shrinks.
    """
    return refined_support if needs_no_draw(model) else refine


def highest_penalty(model: Model, statistics: Statistics, correlation: float, width: int) -> float:
    """Above any penalty of `refinement` that leaves codes as sparse as is wanted.

    Args:
      model: the method.
      statistics: its own.
      correlation: the largest between a datum and an atom.
      width: D.
    """
    if isinstance(model, Variational) and needs_no_draw(model):
        return 50 * float(model.bound_weight(statistics, width)) * width
    return correlation or 1.0


def penalty_for(
    share: Callable[[float], float], sparsity: float, highest: float, halvings: int = 12
) -> tuple[float, float]:
    """The penalty at which a share of non-zeros is the wanted one, by bisection of its logarithm.

    Of three powers of ten; of the next three where none of those gives nearly so many non-zeros, as
    where few data are far larger than the others.

    Args:
      share: penalty -> share of non-zeros, which falls as the penalty grows.
      sparsity: wanted share.
      highest: a penalty at which the share is zero.
      halvings: of a range.

    Returns:
      The penalty, near the lowest where no share is as large, and the largest share that was seen.
    """
    low = high = math.log(highest)
    lowest, most = high - 2 * RANGE, 0.0
    while most < NEARLY * sparsity and low > lowest + 0.5 * RANGE:
        low = high - RANGE
        for _ in range(halvings):
            middle = (low + high) / 2
            found = share(math.exp(middle))
            most = max(most, found)
            if found > sparsity:
                low = middle
            else:
                high = middle
    return math.exp((low + high) / 2), most
