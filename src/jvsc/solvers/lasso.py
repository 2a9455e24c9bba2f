"""The lasso for many data that share a dictionary, by whatever is fastest where they are."""

import threading
from typing import SupportsFloat

import numpy as np
from jaxtyping import Array, Float

from jvsc.errors import UserError

# The splitting's weight as a share of the atoms' mean energy: less for few non-zeros is slower, as
# is more for many.
WEIGHT = 0.4
# With more atoms a step of the splitting takes longer than what it spares.
MOST_ATOMS_TO_SPLIT = 512
LARGEST_CHUNK, SMALLEST_CHUNK, CHUNKS_A_THREAD = 256, 16, 4

_one_at_a_time = threading.Lock()


def lasso(
    data: Float[Array | np.ndarray, "N D"],
    dictionary: Float[Array | np.ndarray, "K D"],
    penalty: SupportsFloat,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    initial_codes: Float[Array | np.ndarray, "N K"] | None = None,
) -> Float[np.ndarray, "N K"]:
    """Minimises 0.5 ||x - s A||^2 + penalty ||s||_1 for every row x of `data` (eq. 10), on the CPU.

    A few steps of ADMM (Boyd et al. 2011) for many data at once find nearly all signs of the
    codes, which corrected (the primal and dual active set, Hintermueller et al. 2002) give the
    codes. Where they do not, and where data are few or atoms many, coordinate descent (Friedman et
    al. 2010) with Newton steps on the non-zeros (Lee et al. 2006). Needs the extra `numba`; `fista`
    solves the same problem on any device and within a compiled function. While it runs the
    process's BLAS has one thread; calls of several Python threads take turns. The first call on a
    machine compiles for about twenty seconds, once for each of float32 and float64; that is kept.

    Args:
      data: one datum a row; float64 data are solved in float64, others in float32.
      dictionary: one atom a row, of any norm.
      penalty: lambda > 0.
      tolerance: relative duality gap to reach. In float32 1e-7 ||x|| ||a|| / penalty is reached
        where that is more, for no gap is known more closely.
      max_iterations: where coordinate descent stops a datum that has not reached it, of which
        nothing tells. The first few are of larger penalties.
      initial_codes: where to start; zeros by default.

    Returns:
      Codes, with exact zeros.

    Raises:
      UserError: if data and dictionary do not fit or hold NaN or infinity, `penalty` is a Python
        number that is not positive, or Numba is not installed.
      ValueError: if `initial_codes` do not broadcast to [N, K].
    """
    try:
        import scipy.linalg.cython_blas  # noqa: F401  (Numba's products; limited below)
        from numba import get_num_threads
        from threadpoolctl import threadpool_limits

        from jvsc.kernels.active_set import RELAXATION, solve_all
    except ImportError as error:
        raise UserError("lasso needs Numba: pip install 'jvsc[numba]', or use fista") from error
    data = np.asarray(data)
    dtype = np.float64 if data.dtype == np.float64 else np.float32
    data, dictionary = data.astype(dtype, copy=False), np.asarray(dictionary, dtype)
    penalty = float(penalty)
    check_lasso(data.shape, dictionary.shape, penalty)
    energy = np.einsum("nd,nd->n", data, data)
    gram = dictionary @ dictionary.T
    if not (np.isfinite(energy).all() and np.isfinite(gram).all()):
        raise UserError("data or dictionary hold NaN or infinity; leave such rows out")
    codes = np.zeros((len(data), len(dictionary)), dtype)
    if initial_codes is not None:
        codes[...] = initial_codes
        if not np.isfinite(codes).all():
            raise UserError("initial_codes hold NaN or infinity; leave them out")
    if not codes.size:
        return codes
    # No gap is known more closely than its correlations are.
    known = np.finfo(dtype).eps * np.sqrt(energy) * np.sqrt(gram.diagonal().max()) / penalty
    problem = (
        codes,
        data @ dictionary.T,
        energy,
        gram,
        dtype(penalty),
        np.maximum(tolerance, known).astype(dtype),
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
        solve_all(problem, inverse, dtype(weight), max_iterations, chunk)
    return codes


def check_lasso(data: tuple[int, ...], dictionary: tuple[int, ...], penalty: object) -> None:
    """Raises `UserError` unless the shapes are [N, D] and [K, D] and the penalty is positive."""
    if len(data) != 2 or len(dictionary) != 2 or data[1] != dictionary[1]:
        raise UserError(
            f"data {data} and dictionary {dictionary} do not fit; "
            "give data [N, D] and a dictionary [K, D], one atom a row"
        )
    if isinstance(penalty, (int, float)) and not penalty > 0:
        raise UserError(f"penalty is {penalty}; give a positive number")
