"""FISTA for many lasso problems that share a dictionary (Beck & Teboulle 2009)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jvsc.solvers.lasso import check_lasso
from jvsc.solvers.soft_threshold import soft_threshold

# Accelerators would round products to TensorFloat-32 or bfloat16, and the certificate be void.
product: Callable[..., jax.Array] = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class LassoSolution(NamedTuple):
    """Codes and the proof of how good they are.

    Attributes:
      codes: [N, K].
      gap: duality gap of each datum, [N]: its objective is at most this far above the optimum.
      iterations: how many iterations each datum took, [N].
    """

    codes: Float[Array, "N K"]
    gap: Float[Array, " N"]
    iterations: Int[Array, " N"]


class _Iterate(NamedTuple):
    """State of the iteration; `*_image` is the point times the Gram matrix."""

    iteration: Int[Array, ""]
    codes: Float[Array, "N K"]
    codes_image: Float[Array, "N K"]
    point: Float[Array, "N K"]
    point_image: Float[Array, "N K"]
    momentum: Float[Array, " N"]
    done: Bool[Array, " N"]
    iterations: Int[Array, " N"]


def spectral_norm_bound(gram: Float[Array, "K K"], squarings: int = 6) -> Float[Array, ""]:
    """A tight upper bound of a Gram matrix's largest eigenvalue, by matrix products only.

    The Frobenius norm of G^(2^m) is at least its spectral norm, so its 2^m-th root is never too
    small a Lipschitz constant, and at most K^(1/2^(m+1)) times too large (4% at K = 256, m = 6).

    Args:
      gram: symmetric positive semi-definite matrix.
      squarings: m.

    Returns:
      The bound; zero for a zero matrix.
    """
    norm = jnp.linalg.norm(gram)
    tiny = jnp.finfo(gram.dtype).tiny

    def square(carry, _):
        matrix, log_bound, power = carry
        matrix = product(matrix, matrix)
        size = jnp.maximum(jnp.linalg.norm(matrix), tiny)
        power = power / 2
        return (matrix / size, log_bound + power * jnp.log(size), power), None

    start = (gram / jnp.maximum(norm, tiny), jnp.log(jnp.maximum(norm, tiny)), jnp.ones(()))
    (_, log_bound, _), _ = jax.lax.scan(square, start, length=squarings)
    return jnp.where(norm > 0, jnp.exp(log_bound), 0.0)


def duality_gap(
    residual_data: Float[Array, " N"],
    residual_energy: Float[Array, " N"],
    largest_correlation: Float[Array, " N"],
    l1: Float[Array, " N"],
    penalty: float | Float[Array, ""],
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Primal objective and duality gap of each lasso problem.

    The dual point is the residual r = x - s A, scaled until no atom's correlation with it exceeds
    the penalty.

    Args:
      residual_data: <r, x>.
      residual_energy: ||r||^2.
      largest_correlation: max_k |<r, a_k>|.
      l1: ||s||_1.
      penalty: lambda.

    Returns:
      0.5 ||r||^2 + lambda ||s||_1 and its distance to the dual objective.
    """
    tiny = jnp.finfo(residual_data.dtype).tiny
    scale = jnp.minimum(1.0, penalty / jnp.maximum(largest_correlation, tiny))
    primal = 0.5 * residual_energy + penalty * l1
    dual = scale * residual_data - 0.5 * scale**2 * residual_energy
    return primal, jnp.maximum(primal - dual, 0.0)


def exact_gap(
    codes: Float[Array, "N K"],
    data: Float[Array, "N D"],
    dictionary: Float[Array, "K D"],
    penalty: float | Float[Array, ""],
) -> Float[Array, " N"]:
    """Duality gap of each lasso problem from its residual itself, free of cancellation.

    Args:
      codes: s.
      data: x.
      dictionary: A.
      penalty: lambda.
    """
    residual = data - product(codes, dictionary)
    return duality_gap(
        jnp.sum(residual * data, axis=-1),
        jnp.sum(residual**2, axis=-1),
        jnp.max(jnp.abs(product(residual, dictionary.T)), axis=-1),
        jnp.sum(jnp.abs(codes), axis=-1),
        penalty,
    )[1]


def fista(
    data: Float[ArrayLike, "N D"],
    dictionary: Float[ArrayLike, "K D"],
    penalty: float | Float[Array, ""],
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 5000,
    initial_codes: Float[ArrayLike, "N K"] | None = None,
) -> LassoSolution:
    """Minimises 0.5 ||x - s A||^2 + penalty ||s||_1 for every row x of `data` (eq. 10).

    FISTA (Beck & Teboulle 2009). Each datum stops on its own, when its duality gap is at most
    `tolerance` times its objective, and is frozen from then on. The momentum restarts for a datum
    whenever it points uphill (O'Donoghue & Candes 2015). Jitted; one compilation for each shape.

    Args:
      data: one datum a row.
      dictionary: one atom a row, of any norm.
      penalty: lambda > 0.
      tolerance: relative duality gap to reach. In float32 about 1e-6 is the least that is met,
        or 1e-7 ||x|| ||a|| / penalty where that is more, and no gap is known more closely.
      max_iterations: where to stop a datum that has not reached it.
      initial_codes: where to start; zeros by default.

    Returns:
      Codes, duality gaps (in the objective's units), and iterations of each datum.

    Raises:
      UserError: if data and dictionary do not fit, or `penalty` is a Python number that is not
        positive; an array's value is not checked.
    """
    data, dictionary = jnp.asarray(data), jnp.asarray(dictionary)
    check_lasso(data.shape, dictionary.shape, penalty)
    if initial_codes is None:
        initial_codes = jnp.zeros((data.shape[0], dictionary.shape[0]), data.dtype)
    return _solve(
        data, dictionary, penalty, jnp.asarray(initial_codes), tolerance, int(max_iterations)
    )


@jax.jit
def _solve(data, dictionary, penalty, initial_codes, tolerance, max_iterations) -> LassoSolution:
    gram = product(dictionary, dictionary.T)
    correlation = product(data, dictionary.T)
    energy = jnp.sum(data**2, axis=-1)
    num_data = data.shape[0]
    step = 1.0 / jnp.maximum(spectral_norm_bound(gram), jnp.finfo(data.dtype).tiny)

    def converged(codes, codes_image):
        """By the Gram matrix alone: no product of its own, but differences of large numbers."""
        residual_correlation = correlation - codes_image
        residual_data = energy - jnp.sum(correlation * codes, axis=-1)
        residual_energy = residual_data - jnp.sum(residual_correlation * codes, axis=-1)
        primal, gap = duality_gap(
            residual_data,
            jnp.maximum(residual_energy, 0.0),
            jnp.max(jnp.abs(residual_correlation), axis=-1),
            jnp.sum(jnp.abs(codes), axis=-1),
            penalty,
        )
        return gap <= tolerance * primal

    def unfinished(state: _Iterate):
        return (state.iteration < max_iterations) & ~jnp.all(state.done)

    def iterate(state: _Iterate) -> _Iterate:
        descent = state.point + step * (correlation - state.point_image)
        codes = soft_threshold(descent, step * penalty)
        codes_image = product(codes, gram)
        uphill = jnp.sum((state.point - codes) * (codes - state.codes), axis=-1) > 0
        momentum = jnp.where(uphill, 1.0, state.momentum)
        following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        push = jnp.where(uphill, 0.0, (momentum - 1) / following)[:, None]
        # By linearity the extrapolated point needs no product of its own.
        moved = _Iterate(
            iteration=state.iteration + 1,
            codes=codes,
            codes_image=codes_image,
            point=codes + push * (codes - state.codes),
            point_image=codes_image + push * (codes_image - state.codes_image),
            momentum=following,
            done=converged(codes, codes_image),
            iterations=state.iterations + 1,
        )
        frozen = jax.tree.map(
            lambda old, new: jnp.where(
                state.done.reshape((num_data,) + (1,) * (new.ndim - 1)), old, new
            ),
            state._replace(iteration=state.done),
            moved._replace(iteration=state.done),
        )
        return frozen._replace(iteration=state.iteration + 1)

    image = product(initial_codes, gram)
    start = _Iterate(
        iteration=jnp.int32(0),
        codes=initial_codes,
        codes_image=image,
        point=initial_codes,
        point_image=image,
        momentum=jnp.ones(num_data, data.dtype),
        done=converged(initial_codes, image),
        iterations=jnp.zeros(num_data, jnp.int32),
    )
    final = jax.lax.while_loop(unfinished, iterate, start)
    gap = exact_gap(final.codes, data, dictionary, penalty)
    return LassoSolution(final.codes, gap, final.iterations)
