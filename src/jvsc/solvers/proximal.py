"""Accelerated proximal gradient for codes of a generator that is not linear."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from jvsc.errors import UserError
from jvsc.solvers.acceleration import accelerate, frozen_where_done
from jvsc.solvers.problem import as_real, common_type, limits, positive_number, positive_penalty
from jvsc.solvers.soft_threshold import soft_threshold


class SparseCodes(NamedTuple):
    """Codes, objectives and iterations.

    Attributes:
      codes: [N, K].
      objective: data term + penalty ||s||_1 of each datum, [N].
      iterations: how many iterations each datum took, [N].
    """

    codes: Float[Array, "N K"]
    objective: Float[Array, " N"]
    iterations: Int[Array, " N"]


class _Iterate(NamedTuple):
    iteration: Int[Array, ""]
    codes: Float[Array, "N K"]
    objective: Float[Array, " N"]
    point: Float[Array, "N K"]
    momentum: Float[Array, " N"]
    step: Float[Array, " N"]
    done: Bool[Array, " N"]
    iterations: Int[Array, " N"]


def proximal_gradient(
    data_term: Callable[[Float[Array, "N K"]], Float[Array, " N"]],
    initial_codes: Shaped[ArrayLike, "N K"],
    penalty: ArrayLike,
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
    initial_step: float = 1.0,
) -> SparseCodes:
    """Lowers data_term(s) + penalty ||s||_1 for every datum from where it starts (eq. 10).

    FISTA (Beck & Teboulle 2009) with a step of its own for each datum: a step that overshoots its
    quadratic bound is not taken and halved, one that does not may grow. The momentum restarts when
    the objective would rise. For a generator that is not linear the result is a stationary point,
    with no certificate. Each datum is frozen when a step lowers its objective by less than
    `tolerance` of it, and at once where its objective is not finite, which its result then shows.

    Args:
      data_term: smooth term of each datum, a function of its own code alone.
      initial_codes: where to start; float64 is kept (if JAX_ENABLE_X64 is set), another type
        becomes float32.
      penalty: lambda > 0, one number or one a datum ([N] or [N, 1]); infinity gives zeros.
      tolerance: relative decrease at which a datum is done.
      max_iterations: where to stop; an iteration is two evaluations and one gradient.
      initial_step: first length of the steps.

    Returns:
      Codes, objectives and iterations of each datum.

    Raises:
      UserError: if a penalty is not positive, unless it is traced, or has another shape, or another
        argument does not serve.
    """
    start = as_real(initial_codes, "initial_codes")
    if start.ndim != 2:
        raise UserError(f"initial_codes have the shape {start.shape}; give [N, K]")
    tolerance, max_iterations = limits(tolerance, max_iterations)
    initial_step = positive_number(initial_step, "initial_step")
    dtype = jax.dtypes.canonicalize_dtype(common_type(start))
    num_data = start.shape[0]
    penalties = jnp.asarray(positive_penalty(penalty, num_data)[:, 0], dtype)
    penalties = jnp.broadcast_to(penalties, (num_data,))
    codes = jnp.where(jnp.isinf(penalties)[:, None], 0.0, jnp.asarray(start, dtype))

    def term(codes: Array) -> Array:
        return data_term(codes).astype(dtype)

    def objective(value: Array, codes: Array) -> Array:
        size = jnp.sum(jnp.abs(codes), axis=-1)
        # Infinity times zero would be NaN.
        return value + jnp.where(size > 0, penalties, 0.0) * size

    def iterate(state: _Iterate) -> _Iterate:
        value, pullback = jax.vjp(term, state.point)
        (slope,) = pullback(jnp.ones_like(value))
        step = state.step[:, None]
        codes = soft_threshold(state.point - step * slope, step * penalties[:, None])
        move = codes - state.point
        bound = value + jnp.sum(slope * move, axis=-1) + jnp.sum(move**2, -1) / (2 * state.step)
        reached = term(codes)
        fits = reached <= bound + 1e-6 * jnp.abs(bound)
        lower = objective(reached, codes) <= state.objective
        taken = fits & lower
        momentum, weight = accelerate(state.momentum)
        momentum, weight = jnp.where(taken, momentum, 1.0), jnp.where(taken, weight, 0.0)
        kept = jnp.where(taken[:, None], codes, state.codes)
        best = jnp.where(taken, objective(reached, codes), state.objective)
        # A rise after a momentum step asks for a plain step; a plain step that gains nothing ends.
        plain = jnp.all(state.point == state.codes, axis=-1)
        stalled = fits & ~lower & plain
        slow = taken & (state.objective - best <= tolerance * jnp.abs(best))
        following = _Iterate(
            iteration=state.iteration + 1,
            codes=kept,
            objective=best,
            point=kept + weight[:, None] * (kept - state.codes),
            momentum=momentum,
            step=jnp.where(fits, 1.1 * state.step, 0.5 * state.step),
            done=slow | stalled | ~jnp.isfinite(best),
            iterations=state.iterations + 1,
        )
        return frozen_where_done(state, following)

    value = objective(term(codes), codes)
    start = _Iterate(
        iteration=jnp.int32(0),
        codes=codes,
        objective=value,
        point=codes,
        momentum=jnp.ones(num_data, dtype),
        step=jnp.full(num_data, initial_step, dtype),
        done=~jnp.isfinite(value),
        iterations=jnp.zeros(num_data, jnp.int32),
    )
    final = jax.lax.while_loop(
        lambda state: (state.iteration < max_iterations) & ~jnp.all(state.done), iterate, start
    )
    return SparseCodes(final.codes, final.objective, final.iterations)
