"""FISTA for many lasso problems that share a dictionary (Beck & Teboulle 2009)."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from jvsc.errors import UserError
from jvsc.solvers.acceleration import accelerate, frozen_where_done
from jvsc.solvers.duality import duality_gap, exact_gap, product, there
from jvsc.solvers.problem import (
    LARGEST_PENALTY,
    ORDINARY_EXPONENT,
    LassoSolution,
    as_real,
    check_mask,
    check_shapes,
    common_type,
    is_traced,
    limits,
    positive_penalty,
    start_of,
)
from jvsc.solvers.programs import compiled_by_shape
from jvsc.solvers.soft_threshold import soft_threshold

# Of codes to start from, in units of data and dictionary.
LARGEST_START = 2.0**40


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

    one = jnp.ones((), gram.dtype)
    start = (gram / jnp.maximum(norm, tiny), jnp.log(jnp.maximum(norm, tiny)), one)
    (_, log_bound, _), _ = jax.lax.scan(square, start, length=squarings)
    return jnp.where(norm > 0, jnp.exp(log_bound), 0.0)


def fista(
    data: Shaped[ArrayLike, "N D"],
    dictionary: Shaped[ArrayLike, "K D"],
    penalty: ArrayLike,
    *,
    positive: bool = False,
    tolerance: float = 1e-5,
    max_iterations: int = 5000,
    initial_codes: Shaped[ArrayLike, "N K"] | None = None,
    present: Bool[ArrayLike, "N D"] | None = None,
) -> LassoSolution:
    """Minimises 0.5 ||x - s A||^2 + sum_k penalty_k |s_k| for every row x of `data` (eq. 10).

    FISTA (Beck & Teboulle 2009). Each datum stops on its own, when its duality gap is at most
    `tolerance` times its objective, and is frozen from then on. The momentum restarts for a datum
    whenever it points uphill (O'Donoghue & Candes 2015). Jitted; one compilation for each shape.
    Data and dictionaries of any size are solved in units of theirs, powers of two, and the gap is
    that of the codes as they are returned. Numbers below the least normal one of their type
    (1.2e-38 in float32) count as zeros, as devices take them: where rows or atoms are of 1e-36 and
    less, codes and gap are of the problem without those.

    A datum with NaN or infinity in it, in its penalty or in its start takes no iteration, and its
    codes and gap are NaN: within a compiled function nothing can be raised, and the others' codes
    are as good without it.

    Args:
      data: one datum a row; of any real type. Solved in float64 where any array has it (and
        JAX_ENABLE_X64 is set), else in float32.
      dictionary: one atom a row, of any norm.
      penalty: lambda > 0: one number, one a datum ([N] or [N, 1]), one an atom ([1, K]) or one for
        each code ([N, K]). Infinity gives zeros: an atom that a datum may not use.
      positive: whether no code may be negative; the start's negative ones then count as zeros.
      tolerance: relative duality gap to reach. In float32 about 1e-6 is the least that is met,
        or 1e-7 ||x|| ||a|| / penalty where that is more, and no gap is known more closely.
      max_iterations: where to stop a datum that has not reached it.
      initial_codes: where to start; zeros by default.
      present: which entries of the data there are: the squared error is theirs alone, and `data`
        may hold anything elsewhere. An iteration then takes two products with the dictionary in
        place of one with its Gram matrix.

    Returns:
      Codes, duality gaps (in the objective's units), and iterations of each datum.

    Raises:
      UserError: if data and dictionary do not fit or are not real numbers, the dictionary holds NaN
        or infinity, numbers do not fit in float32 without double precision, a penalty is not
        positive or has another shape, or another argument does not serve. The values of traced
        arrays are not checked: a dictionary that is not finite gives NaN.
    """
    x, a = as_real(data, "data"), as_real(dictionary, "dictionary")
    check_shapes(x.shape, a.shape)
    penalties = positive_penalty(penalty, x.shape[0], a.shape[0])
    start = start_of(initial_codes, (x.shape[0], a.shape[0]))
    tolerance, max_iterations = limits(tolerance, max_iterations)
    if present is not None:
        check_mask(jnp.shape(present), x.shape)
        if isinstance(x, np.ndarray) and not is_traced(present):  # whose numbers are looked at
            x = np.where(present, x, x.dtype.type(0))
    dtype = jax.dtypes.canonicalize_dtype(common_type(x, a, start))
    # By NumPy: within a compiled function JAX would trace this of known numbers too.
    if not is_traced(a) and not np.isfinite(np.asarray(a)).all():
        raise UserError("dictionary holds NaN or infinity; leave such atoms out")
    return _solve(
        _converted(x, dtype, "data"),
        _converted(a, dtype, "dictionary"),
        _mantissa_and_exponent(penalties, dtype),
        _converted(start, dtype, "initial_codes"),
        tolerance,
        max_iterations,
        None if present is None else jnp.asarray(present),
        positive=bool(positive),
    )


def refine(
    data: Shaped[ArrayLike, "N D"],
    dictionary: Shaped[ArrayLike, "K D"],
    penalty: ArrayLike,
    codes: Shaped[ArrayLike, "N K"],
    steps: int,
) -> Float[Array, "N K"]:
    """Codes after so many steps of `fista` from given ones, whatever their duality gap."""
    return fista(
        data, dictionary, penalty, tolerance=0.0, max_iterations=steps, initial_codes=codes
    ).codes


def _converted(values: Any, dtype: Any, name: str) -> Array:
    """Values of the type that is computed in.

    Raises:
      UserError: if finite ones become infinite, or all of a row zero, for want of its range: of
        NumPy's arrays also where they have that type, for looking at JAX's would copy them.
    """
    wider = values.dtype.itemsize - dtype.itemsize
    if not is_traced(values) and (wider > 0 or (wider == 0 and isinstance(values, np.ndarray))):
        values = np.asarray(values)
        with np.errstate(over="ignore", under="ignore"):
            converted = values.astype(dtype)
        rows = values.reshape(len(values) if values.ndim else 1, math.prod(values.shape[1:]))
        sizes = np.abs(rows[np.isfinite(rows).all(axis=1)]).max(axis=1, initial=0)
        bounds = np.finfo(dtype)
        wrong = sizes[(sizes > bounds.max) | ((sizes > 0) & (sizes < bounds.tiny))]
        if len(wrong):
            remedy = ", or set JAX_ENABLE_X64=1" if wider > 0 else ""
            raise UserError(
                f"{name} has a row of size {wrong[0]:.2g}, which {dtype} cannot hold; scale it"
                + remedy
            )
        values = converted
    return jnp.asarray(values, dtype)


def _mantissa_and_exponent(penalty: Any, dtype: Any) -> tuple[Array, Array]:
    """Factors m and e of m 2^e, which hold a number that float32 cannot."""
    if is_traced(penalty):
        penalty = penalty.astype(dtype)
        return penalty, jnp.zeros(penalty.shape, jnp.int32)
    mantissa, exponent = np.frexp(penalty)
    return jnp.asarray(mantissa, dtype), jnp.asarray(exponent, jnp.int32)


def _exponents(values: Float[Array, "*B D"]) -> tuple[Int[Array, "*B"], Bool[Array, "*B"]]:
    """Exponent of the power of two to divide each row by, and whether its numbers can be used.

    Zero for rows of ordinary size. NaN and infinity cannot be used, nor a row that consists of
    zeros and numbers below the least normal one, which devices take for zeros. From the bits, whose
    order is that of the numbers.
    """
    layout = jnp.finfo(values.dtype)
    integer = jnp.dtype(f"int{layout.bits}")
    bits = jax.lax.bitcast_convert_type(jnp.abs(values), integer)
    largest = jnp.max(bits, axis=-1, initial=0)
    field = largest >> layout.nmant
    usable = (field <= layout.maxexp * 2 - 2) & ((field > 0) | (largest == 0))
    exponent = (field - (layout.maxexp - 1)).astype(jnp.int32)
    is_ordinary = (jnp.abs(exponent) <= ORDINARY_EXPONENT) | (largest == 0) | ~usable
    return jnp.where(is_ordinary, 0, exponent), usable


def _scaled(values: Float[Array, "*B"], exponent: Int[Array, "*#B"]) -> Float[Array, "*B"]:
    """Values times 2^exponent, exact where the type holds it; zero changes no bit."""
    layout = jnp.finfo(values.dtype)
    integer = jnp.dtype(f"int{layout.bits}")
    # In three steps of one direction, for the exponent may be that of a quotient or a square.
    for _ in range(3):
        step = jnp.clip(exponent, layout.minexp, layout.maxexp - 1)
        bits = (step + (layout.maxexp - 1)).astype(integer) << layout.nmant
        values = values * jax.lax.bitcast_convert_type(bits, values.dtype)
        exponent = exponent - step
    return values


@compiled_by_shape("positive")
def _solve(
    data, dictionary, penalty, initial_codes, tolerance, max_iterations, present, positive
) -> LassoSolution:
    """Solves each problem in units of its own, and gives codes and gaps in the caller's."""
    data = there(data, present)
    rows, usable_rows = _exponents(data)
    atoms, usable_atoms = _exponents(dictionary.reshape(-1))
    initial_codes = jnp.broadcast_to(initial_codes, (data.shape[0], dictionary.shape[0]))
    shape = data.shape[0], penalty[0].shape[1]
    mantissa, exponent = (jnp.broadcast_to(part, shape) for part in penalty)
    finite = jnp.where(mantissa > LARGEST_PENALTY, LARGEST_PENALTY, mantissa)
    _, usable_penalty = _exponents(finite[..., None])
    usable_penalty = jnp.all(usable_penalty & (mantissa >= 0), axis=-1)
    _, usable_start = _exponents(initial_codes)
    usable = usable_rows & usable_atoms & usable_penalty & usable_start
    units = (rows - atoms)[:, None]
    penalty = _scaled(mantissa, exponent - (rows + atoms)[:, None])
    penalty = jnp.minimum(penalty, LARGEST_PENALTY)
    start = _scaled(initial_codes, -units)
    if positive:
        start = jnp.maximum(start, 0.0)
    # No start is better than one whose square overflows, or where the penalty lets no code be.
    begins = usable & jnp.all(jnp.abs(start) < LARGEST_START, axis=-1)
    start = jnp.where(begins[:, None] & (penalty < LARGEST_PENALTY), start, 0.0)
    data = jnp.where(usable[:, None], _scaled(data, -rows[:, None]), 0.0)
    dictionary = _scaled(dictionary, -atoms)
    codes, iterations = _minimise(
        data, dictionary, penalty, start, tolerance, max_iterations, positive, present
    )
    codes = _scaled(codes, units)
    gap = exact_gap(_scaled(codes, -units), data, dictionary, penalty, positive, present)
    tiny = jnp.finfo(gap.dtype).tiny
    gap = jnp.where(gap > 0, jnp.maximum(_scaled(gap, 2 * rows), tiny), gap)
    return LassoSolution(
        jnp.where(usable[:, None], codes, jnp.nan), jnp.where(usable, gap, jnp.nan), iterations
    )


def _minimise(
    data: Float[Array, "N D"],
    dictionary: Float[Array, "K D"],
    penalty: Float[Array, "N #K"],
    initial_codes: Float[Array, "N K"],
    tolerance: Any,
    max_iterations: Any,
    positive: bool,
    present: Bool[Array, "N D"] | None,
) -> tuple[Float[Array, "N K"], Int[Array, " N"]]:
    """Codes and iterations of problems of ordinary size."""
    # Of all entries: no larger of some.
    gram = product(dictionary, dictionary.T)
    correlation = product(data, dictionary.T)
    energy = jnp.sum(data**2, axis=-1)
    step = 1.0 / jnp.maximum(spectral_norm_bound(gram), jnp.finfo(data.dtype).tiny)

    def image_of(codes):
        if present is None:
            return product(codes, gram)
        return product(there(product(codes, dictionary), present), dictionary.T)

    def converged(codes, codes_image):
        """By the Gram matrix alone: no product of its own, but differences of large numbers."""
        residual_correlation = correlation - codes_image
        residual_data = energy - jnp.sum(correlation * codes, axis=-1)
        residual_energy = residual_data - jnp.sum(residual_correlation * codes, axis=-1)
        primal, gap = duality_gap(
            residual_data,
            jnp.maximum(residual_energy, 0.0),
            residual_correlation,
            codes,
            penalty,
            positive,
        )
        # NaN too is done: no iteration would mend it.
        return ~(gap > tolerance * primal)

    def unfinished(state: _Iterate):
        return (state.iteration < max_iterations) & ~jnp.all(state.done)

    def iterate(state: _Iterate) -> _Iterate:
        descent = state.point + step * (correlation - state.point_image)
        codes = soft_threshold(descent, step * penalty)
        if positive:
            codes = jnp.maximum(codes, 0.0)
        codes_image = image_of(codes)
        uphill = jnp.sum((state.point - codes) * (codes - state.codes), axis=-1) > 0
        momentum, weight = accelerate(jnp.where(uphill, 1.0, state.momentum))
        weight = weight[:, None]
        # By linearity the extrapolated point needs no product of its own.
        following = _Iterate(
            iteration=state.iteration + 1,
            codes=codes,
            codes_image=codes_image,
            point=codes + weight * (codes - state.codes),
            point_image=codes_image + weight * (codes_image - state.codes_image),
            momentum=momentum,
            done=converged(codes, codes_image),
            iterations=state.iterations + 1,
        )
        return frozen_where_done(state, following)

    image = image_of(initial_codes)
    start = _Iterate(
        iteration=jnp.int32(0),
        codes=initial_codes,
        codes_image=image,
        point=initial_codes,
        point_image=image,
        momentum=jnp.ones_like(energy),
        done=converged(initial_codes, image),
        iterations=jnp.zeros(energy.shape, jnp.int32),
    )
    final = jax.lax.while_loop(unfinished, iterate, start)
    return final.codes, final.iterations
