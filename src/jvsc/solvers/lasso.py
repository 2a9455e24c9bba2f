"""The lasso for many data that share a dictionary, by whatever is fastest where they are."""

import threading
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Shaped

from jvsc.errors import UserError
from jvsc.solvers.problem import (
    LARGEST_PENALTY,
    ORDINARY_EXPONENT,
    LassoSolution,
    as_real,
    check_lasso,
    common_type,
    positive_penalty,
)

# The splitting's weight as a share of the atoms' mean energy: less for few non-zeros is slower, as
# is more for many.
WEIGHT = 0.4
# With more atoms a step of the splitting takes longer than what it spares.
MOST_ATOMS_TO_SPLIT = 512
LARGEST_CHUNK, SMALLEST_CHUNK, CHUNKS_A_THREAD = 256, 16, 4

_one_at_a_time = threading.Lock()


def lasso(
    data: Shaped[ArrayLike, "N D"],
    dictionary: Shaped[ArrayLike, "K D"],
    penalty: ArrayLike,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    initial_codes: Shaped[ArrayLike, "..."] | None = None,
) -> LassoSolution:
    """Minimises 0.5 ||x - s A||^2 + penalty ||s||_1 for every row x of `data` (eq. 10), on the CPU.

    A few steps of ADMM (Boyd et al. 2011) for many data at once find nearly all signs of the
    codes, which corrected (the primal and dual active set, Hintermueller et al. 2002) give the
    codes. Where they do not, and where data are few or atoms many, coordinate descent (Friedman et
    al. 2010) with Newton steps on the non-zeros (Lee et al. 2006). Needs the extra `numba`; `fista`
    solves the same problem on any device and within a compiled function. While it runs the
    process's BLAS has one thread; calls of several Python threads take turns. The first call on a
    machine compiles for about twenty seconds, once for each of float32 and float64; that is kept.

    Args:
      data: one datum a row, of any real type and size. Solved in float64 where any array has it,
        else in float32, in units of data and dictionary as in `fista`.
      dictionary: one atom a row, of any norm.
      penalty: lambda > 0, one number or one a datum ([N] or [N, 1]); infinity gives zeros.
      tolerance: relative duality gap to reach. In float32 1e-7 ||x|| ||a|| / penalty is reached
        where that is more, for no gap is known more closely.
      max_iterations: where coordinate descent stops a datum that has not reached it, as its gap
        tells. The first few are of larger penalties.
      initial_codes: where to start; zeros by default.

    Returns:
      As `fista`, in NumPy arrays: codes with exact zeros, the duality gap of each datum, and its
      iterations of coordinate descent, none where the signs gave the codes.

    Raises:
      UserError: if data and dictionary do not fit, are not real numbers or hold NaN or infinity
        (unlike `fista`, which may be within a compiled function and marks such data), a penalty is
        not positive or has another shape, or Numba is not installed.
      ValueError: if `initial_codes` do not broadcast to [N, K].
    """
    x, a = as_real(data, "data"), as_real(dictionary, "dictionary")
    check_lasso(x.shape, a.shape, penalty)
    dtype = common_type(x, a)
    x, a = np.asarray(x, dtype), np.asarray(a, dtype)
    if not (np.isfinite(x).all() and np.isfinite(a).all()):
        raise UserError("data or dictionary hold NaN or infinity; leave such rows out")
    codes = np.zeros((len(x), len(a)), dtype)
    if initial_codes is not None:
        codes[...] = as_real(initial_codes, "initial_codes")
        if not np.isfinite(codes).all():
            raise UserError("initial_codes hold NaN or infinity; leave them out")
    rows, atoms = _exponents(x), _exponents(a.reshape(-1))
    units = (rows - atoms)[:, None]
    x, a, codes = _scaled(x, -rows[:, None]), _scaled(a, -atoms), _scaled(codes, -units)
    penalties = np.broadcast_to(positive_penalty(penalty, len(x))[:, 0], len(x))
    penalties = np.minimum(_scaled(penalties, -rows - atoms), LARGEST_PENALTY)
    codes[penalties == LARGEST_PENALTY] = 0  # no correlation reaches it
    iterations = _solve(codes, x, a, penalties, tolerance, max_iterations)
    codes = _scaled(codes, units)
    gap = _exact_gap(_scaled(codes, -units), x, a, penalties.astype(dtype))
    scaled_gap = np.maximum(_scaled(gap, 2 * rows), np.finfo(dtype).tiny)
    return LassoSolution(codes, np.where(gap > 0, scaled_gap, gap), iterations)


def _solve(
    codes: Float[np.ndarray, "N K"],
    data: Float[np.ndarray, "N D"],
    dictionary: Float[np.ndarray, "K D"],
    penalties: Float[np.ndarray, " N"],
    tolerance: float,
    max_iterations: int,
) -> Int[np.ndarray, " N"]:
    """Solves problems of ordinary size in place; the iterations of each."""
    try:
        import scipy.linalg.cython_blas  # noqa: F401  (Numba's products; limited below)
        from numba import get_num_threads
        from threadpoolctl import threadpool_limits

        from jvsc.kernels.active_set import RELAXATION, solve_all
    except ImportError as error:
        raise UserError("lasso needs Numba: pip install 'jvsc[numba]', or use fista") from error
    iterations = np.zeros(len(data), np.int32)
    if not codes.size:
        return iterations
    dtype, limits = codes.dtype.type, np.finfo(codes.dtype)
    penalties = np.maximum(penalties, float(limits.tiny))
    energy = np.einsum("nd,nd->n", data, data)
    gram = dictionary @ dictionary.T
    # No gap is known more closely than its correlations are.
    known = limits.eps * np.sqrt(energy) * np.sqrt(gram.diagonal().max()) / penalties
    tolerances = np.minimum(np.maximum(tolerance, known), limits.max)
    problem = (
        codes,
        data @ dictionary.T,
        energy,
        gram,
        penalties.astype(dtype),
        tolerances.astype(dtype),
    )
    weight = WEIGHT * float(gram.diagonal().mean())
    inverse = np.empty((0, 0), dtype)
    if len(dictionary) <= min(MOST_ATOMS_TO_SPLIT, len(data)) and weight > 0:
        shifted = gram.astype(np.float64) + weight * np.eye(len(gram))
        inverse = (RELAXATION * np.linalg.inv(shifted)).astype(dtype)
    chunk = len(data) // (CHUNKS_A_THREAD * get_num_threads())
    chunk = min(max(chunk, SMALLEST_CHUNK), LARGEST_CHUNK)
    # Each of Numba's threads takes products of its own. The limit is the process's: a caller in
    # another thread waits, lest the one that ends last leaves it as it found it, limited.
    with _one_at_a_time, threadpool_limits(1, user_api="blas"):
        solve_all(problem, inverse, dtype(weight), max_iterations, chunk, iterations)
    return iterations


def _exponents(values: Float[np.ndarray, "*B D"]) -> Any:
    """Exponent of the power of two to divide each row by; zero for rows of ordinary size."""
    _, exponent = np.frexp(np.abs(values).max(axis=-1, initial=0))
    return np.where(np.abs(exponent) <= ORDINARY_EXPONENT, 0, exponent)


def _scaled(values: Float[np.ndarray, "*B"], exponent: Any) -> Float[np.ndarray, "*B"]:
    """Values times 2^exponent; infinity or zero where the type ends."""
    if not np.any(exponent):
        return values
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values, exponent)


def _exact_gap(
    codes: Float[np.ndarray, "N K"],
    data: Float[np.ndarray, "N D"],
    dictionary: Float[np.ndarray, "K D"],
    penalties: Float[np.ndarray, " N"],
) -> Float[np.ndarray, " N"]:
    """Duality gap of each problem from its residual itself, as `jvsc.solvers.fista.exact_gap`."""
    with np.errstate(over="ignore", invalid="ignore"):  # codes that the type could not hold
        residual = data - codes @ dictionary
        largest = np.abs(residual @ dictionary.T).max(axis=1, initial=0)
        energy = np.einsum("nd,nd->n", residual, residual)
        scale = np.minimum(1, penalties / np.maximum(largest, np.finfo(codes.dtype).tiny))
        primal = 0.5 * energy + penalties * np.abs(codes).sum(axis=1)
        dual = scale * np.einsum("nd,nd->n", residual, data) - 0.5 * scale**2 * energy
        return np.maximum(primal - dual, 0)
