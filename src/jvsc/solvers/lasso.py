"""The lasso for many data that share a dictionary, on a CPU (Numba)."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Shaped

from jvsc.errors import UserError
from jvsc.solvers.fista import fista
from jvsc.solvers.problem import (
    LARGEST_PENALTY,
    ORDINARY_EXPONENT,
    LassoSolution,
    as_real,
    check_shapes,
    common_type,
    limits,
    positive_penalty,
    start_of,
)

# The splitting's weight as a share of the atoms' mean energy: less for few non-zeros is slower, as
# is more for many.
WEIGHT = 0.4
# With more atoms a step of the splitting takes longer than what it spares.
MOST_ATOMS_TO_SPLIT = 1024
# Data are solved by splitting whose working set is more than this share of the atoms.
LIMIT_SHARE = 0.2
# They must be this share of the atoms in number, for the splitting's matrix costs an inversion.
SPLITTING_PAYS = 4
# The Gram matrix of more atoms than this times the data takes longer than the parts that are needed
# of it, and of more than so many too much memory.
ATOMS_A_DATUM_WITH_GRAM, MOST_ATOMS_WITH_GRAM = 8, 8192
# Data are solved in float64 whose gap float32 does not know to this share of their objective.
LEAST_KNOWN = 0.1
# Tasks among which threads divide the data, and data of a task; fewer where they are split.
TASKS, SMALLEST_CHUNK, LARGEST_CHUNK, LARGEST_SPLIT = 32, 16, 2048, 256

_one_at_a_time = threading.RLock()


def lasso(
    data: Shaped[ArrayLike, "N D"],
    dictionary: Shaped[ArrayLike, "K D"],
    penalty: ArrayLike,
    *,
    positive: bool = False,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    initial_codes: Shaped[ArrayLike, "..."] | None = None,
) -> LassoSolution:
    """Minimises 0.5 ||x - s A||^2 + sum_k penalty_k |s_k| for every row x of `data` (eq. 10).

    On a CPU. The atoms that correlate most with a datum's residual enter its working set, on which
    coordinate descent (Friedman et al. 2010) and Newton steps on the non-zeros (Lee et al. 2006)
    solve a small problem. Where a working set takes in many of a dictionary's few atoms, a few
    steps of ADMM for many data at once (Boyd et al. 2011) find the codes' signs, which corrected
    (the primal and dual active set, Hintermueller et al. 2002) give the codes. Needs the extra
    `numba`; `fista` solves the same problem on any device and within a compiled function. While it
    runs the process's BLAS has one thread; calls of several Python threads take turns. The first
    call on a machine compiles for about half a minute, once for each of float32 and float64; that
    is kept. A datum's codes do not depend on the number of threads, nor, to the tolerance, on the
    other data.

    Args:
      data: one datum a row, of any real type and size. Solved in float64 where any array has it,
        else in float32, in units of data and dictionary as in `fista`; also data in float64 beside
        which the penalty is lost in float32's rounding.
      dictionary: one atom a row, of any norm.
      penalty: lambda > 0: one number, one a datum ([N] or [N, 1]), one an atom ([1, K]) or one for
        each code ([N, K]). Infinity gives zeros: an atom that a datum may not use.
      positive: whether no code may be negative; the start's negative ones then count as zeros.
      tolerance: relative duality gap to reach. In float32 1e-7 ||x|| ||a|| / penalty is reached
        where that is more, for no gap is known more closely.
      max_iterations: steps after which a datum that has not reached it is left, as its gap tells.
      initial_codes: where to start; zeros by default.

    Returns:
      As `fista`, in NumPy arrays: codes with exact zeros, the duality gap of each datum, and its
      steps, each of which solves the problem on a working set; none where the signs gave the codes.

    Raises:
      UserError: if data and dictionary do not fit, are not real numbers or hold NaN or infinity
        (unlike `fista`, which may be within a compiled function and marks such data), a penalty is
        not positive, has another shape or is lost in float64's rounding, codes do not fit in their
        type, another argument does not serve, or Numba is not installed.
    """
    x, a = as_real(data, "data"), as_real(dictionary, "dictionary")
    check_shapes(x.shape, a.shape)
    tolerance, max_iterations = limits(tolerance, max_iterations)
    dtype = common_type(x, a)
    # Numba would compile for half a minute again for arrays in another order or only to be read.
    x, a = (np.require(array, dtype, ["C", "W"]) for array in (x, a))
    if not (np.isfinite(x).all() and np.isfinite(a).all()):
        raise UserError("data or dictionary hold NaN or infinity; leave such rows out")
    codes = np.zeros((len(x), len(a)), dtype)
    if initial_codes is not None:
        codes[...] = start_of(initial_codes, codes.shape)
        if not np.isfinite(codes).all():
            raise UserError("initial_codes hold NaN or infinity; leave them out")
    rows, atoms = _exponents(x), _exponents(a.reshape(-1))
    units = (rows - atoms)[:, None]
    x, a, codes = _scaled(x, -rows[:, None]), _scaled(a, -atoms), _scaled(codes, -units)
    penalties = positive_penalty(penalty, len(x), len(a))
    penalties = _scaled(
        np.broadcast_to(penalties, (len(x), penalties.shape[1])), -units - 2 * atoms
    )
    penalties = np.minimum(penalties, LARGEST_PENALTY)
    unreached = penalties == LARGEST_PENALTY  # no correlation is so large
    if unreached.any():
        codes[np.broadcast_to(unreached, codes.shape)] = 0
    if positive:
        np.maximum(codes, 0, out=codes)
    gaps, iterations = _solve(codes, x, a, penalties, positive, tolerance, max_iterations)
    codes = _scaled(codes, units)
    if not np.isfinite(codes).all():
        raise UserError(
            f"codes are too large for {dtype}; scale the data down or the dictionary up"
        )
    scaled_gaps = np.maximum(_scaled(gaps, 2 * rows), np.finfo(dtype).tiny)
    return LassoSolution(codes, np.where(gaps > 0, scaled_gaps, gaps), iterations)


def _solve(
    codes: Float[np.ndarray, "N K"],
    data: Float[np.ndarray, "N D"],
    dictionary: Float[np.ndarray, "K D"],
    penalties: Float[np.ndarray, "N #K"],
    positive: bool,
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Solves problems of ordinary size in place; the gap and the steps of each."""
    kernels = _kernels()
    dtype, numbers = codes.dtype.type, np.finfo(codes.dtype)
    gaps, iterations = np.zeros(len(data), dtype), np.zeros(len(data), np.int32)
    if not codes.size:
        return gaps, iterations
    penalties = np.maximum(penalties, float(numbers.tiny))
    least = penalties.min(axis=1)
    inverse_weights = np.ones((1, len(dictionary)))
    if penalties.shape[1] > 1:
        inverse_weights = least[:, None] / penalties
        if (inverse_weights == inverse_weights[:1]).all():
            inverse_weights = inverse_weights[:1]
    norms = np.einsum("kd,kd->k", dictionary, dictionary)
    energies = np.einsum("nd,nd->n", data, data)
    # No gap is known more closely than its correlations are.
    known = numbers.eps * np.sqrt(energies) * np.sqrt(norms.max()) / least
    lost = known > LEAST_KNOWN
    if lost.any():
        codes[lost], gaps[lost], iterations[lost] = _solved_in_double(
            codes[lost],
            data[lost],
            dictionary,
            penalties[lost],
            positive,
            tolerance,
            max_iterations,
        )
    tolerances = np.minimum(np.maximum(tolerance, known), numbers.max)
    with single_blas_thread():
        most = min(ATOMS_A_DATUM_WITH_GRAM * len(data), MOST_ATOMS_WITH_GRAM)
        gram = np.empty((0, 0), dtype)
        if len(dictionary) <= most:
            gram = dictionary @ dictionary.T
        problem = (
            np.ascontiguousarray(data),
            codes,
            np.ascontiguousarray(dictionary),
            np.ascontiguousarray(dictionary.T),
            gram,
            least.astype(dtype),
            inverse_weights.astype(dtype),
            dtype(not positive),
            tolerances.astype(dtype),
        )
        listed = np.flatnonzero(~lost)
        work = partial(kernels.solve_on_sets, problem)
        weight = WEIGHT * float(norms.mean())
        splits = gram.size > 0 and len(dictionary) <= MOST_ATOMS_TO_SPLIT
        if splits and len(inverse_weights) == 1 and weight > 0:
            limit = int(LIMIT_SHARE * len(dictionary))
            late = work(
                listed, limit, max_iterations, _chunk(len(listed), LARGEST_CHUNK), gaps, iterations
            )
            listed = listed[late]
            if SPLITTING_PAYS * len(listed) >= len(dictionary):
                shifted = gram.astype(np.float64) + weight * np.eye(len(gram))
                inverse = (kernels.relaxation * np.linalg.inv(shifted)).astype(dtype)
                chunk = _chunk(len(listed), LARGEST_SPLIT)
                kernels.split_all(problem, (inverse, dtype(weight)), listed, chunk)
        work(
            listed,
            len(dictionary),
            max_iterations,
            _chunk(len(listed), LARGEST_CHUNK),
            gaps,
            iterations,
        )
    return gaps, iterations


def _solved_in_double(
    codes: Float[np.ndarray, "N K"],
    data: Float[np.ndarray, "N D"],
    dictionary: Float[np.ndarray, "K D"],
    penalties: Float[np.ndarray, "N #K"],
    positive: bool,
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[np.ndarray, "N K"], Float[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Codes in their own type, the gap that they have in it, and the steps of each."""
    if codes.itemsize == 8:
        raise UserError(
            "penalty is lost in float64's rounding beside data so large; give a larger one, or "
            "leave such data out"
        )
    solved, x, a = (part.astype(np.float64) for part in (codes, data, dictionary))
    _, iterations = _solve(solved, x, a, penalties, positive, tolerance, max_iterations)
    rounded = solved.astype(codes.dtype)
    gaps, _ = _solve(rounded.astype(np.float64), x, a, penalties, positive, tolerance, 0)
    return rounded, gaps, iterations


def fastest_lasso(
    data: Shaped[ArrayLike, "N D"],
    dictionary: Shaped[ArrayLike, "K D"],
    penalty: ArrayLike,
    *,
    positive: bool = False,
    tolerance: float = 1e-4,
    max_iterations: int | None = None,
    present: Bool[ArrayLike, "N D"] | None = None,
) -> LassoSolution:
    """The lasso by the fastest solver at hand: `lasso`, or `fista` where it cannot be.

    That is on an accelerator, where Numba is not installed, and of data of which only some entries
    are `present`. Arguments are as for `fista`; `max_iterations` is the solver's own default unless
    given.
    """
    solve = lasso if is_available() else fista
    if present is not None:
        solve = partial(fista, present=present)
    limits: Any = {} if max_iterations is None else {"max_iterations": max_iterations}
    return solve(data, dictionary, penalty, positive=positive, tolerance=tolerance, **limits)


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """A context in which BLAS has one thread, since each of Numba's threads calls it.

    The limit is the whole process's, so a caller in another thread waits until it is lifted.
    """
    with _one_at_a_time, _kernels().pools.limit(limits=1, user_api="blas"):
        yield


def is_available() -> bool:
    """Whether JAX computes on a CPU and Numba is installed, so that `lasso` is the fastest."""
    return jax.default_backend() == "cpu" and all(
        find_spec(name) is not None for name in ("numba", "threadpoolctl")
    )


class _Kernels(NamedTuple):
    """The compiled functions, and the control of BLAS's threads."""

    solve_on_sets: Callable
    split_all: Callable
    relaxation: float
    pools: Any


@lru_cache(maxsize=1)
def _kernels() -> _Kernels:
    try:
        import scipy.linalg.cython_blas  # noqa: F401  (Numba's products)
        from threadpoolctl import ThreadpoolController

        from jvsc.kernels.lasso.all_data import solve_on_sets, split_all
        from jvsc.kernels.lasso.splitting import RELAXATION
    except ImportError as error:
        raise UserError("lasso needs Numba: pip install 'jvsc[numba]', or use fista") from error
    pools = ThreadpoolController()
    return _Kernels(solve_on_sets, split_all, RELAXATION, pools)


def _chunk(num_data: int, largest: int) -> int:
    """Data of one task: the same for any number of threads, for products depend on them."""
    return min(max(num_data // TASKS, SMALLEST_CHUNK), largest)


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
