"""Orthogonal matching pursuit: choose the atom that correlates most, then least squares."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from jvsc.errors import UserError
from jvsc.solvers.lasso import is_available
from jvsc.solvers.problem import as_real, check_shapes, common_type, norms_of
from jvsc.solvers.programs import compiled_by_shape

CHUNK = 128
# With more atoms their Gram matrix would not fit, and JAX's way, which needs none, is taken.
MOST_ATOMS = 8192
# Of an atom's energy outside the chosen ones, and of a correlation in units of the datum.
DEPENDENT = {4: 1e-6, 8: 1e-12}
ROUNDING = {4: 1e-6, 8: 1e-13}


def omp(
    data: Shaped[ArrayLike, "N D"],
    dictionary: Shaped[ArrayLike, "K D"],
    n_nonzero: int | None = None,
    *,
    tolerance: ArrayLike | None = None,
) -> Float[np.ndarray, "N K"]:
    """Orthogonal matching pursuit of every row of `data` (Pati et al. 1993).

    The atom whose direction correlates most with the residual is chosen, the codes of all chosen
    ones are those of least squares, and so on until a datum has `n_nonzero` of them or its residual
    is small enough. It ends early where the residual is orthogonal to all atoms, or the next atom
    depends on those chosen. On a CPU with the extra `numba` by compiled code and one Gram matrix
    (Rubinstein et al. 2008); else by JAX.

    Args:
      data: one datum a row, of any real type. Coded in float64 where any array has it, else in
        float32; by JAX in float64 only with JAX_ENABLE_X64.
      dictionary: one atom a row, of any norm; an atom of zeros is never chosen.
      n_nonzero: codes of a datum at most; by default as many as the smaller of D and K.
      tolerance: squared norm of the residual, 0 or more, at which a datum is done; one number or
        one a datum [N]. At least one of both is given.

    Returns:
      Codes [N, K], exactly zero but for those chosen.

    Raises:
      UserError: if data and dictionary do not fit or are not finite real numbers, or neither a
        number of non-zeros nor a tolerance is given, one of them does not serve, or codes do not
        fit in their type.
    """
    x, a = as_real(data, "data"), as_real(dictionary, "dictionary")
    check_shapes(x.shape, a.shape)
    dtype = common_type(x, a)
    x, a = np.asarray(x, dtype, "C"), np.asarray(a, dtype, "C")
    if not (np.isfinite(x).all() and np.isfinite(a).all()):
        raise UserError("data or dictionary hold NaN or infinity; leave such rows out")
    most, tolerances = _limits(n_nonzero, tolerance, x.shape, len(a))
    if not (x.size and a.size):
        return np.zeros((len(x), len(a)), dtype)
    # Units in which no square overflows; those of a datum do not change its choice.
    sizes = np.abs(x).max(axis=1)
    units = np.ldexp(dtype.type(1), np.frexp(np.where(sizes > 0, sizes, 1))[1])
    norms = norms_of(a)
    atoms = np.where(norms > 0, a / np.where(norms > 0, norms, 1), 0)
    with np.errstate(over="ignore", under="ignore"):
        scaled = (tolerances / units / units).astype(dtype)
    if is_available() and len(a) <= MOST_ATOMS:
        codes = _compiled(x / units[:, None], atoms, most, scaled)
    else:
        codes = np.asarray(_by_jax(x / units[:, None], atoms, scaled, most=most), dtype)
    with np.errstate(over="ignore"):
        codes = codes * units[:, None] / np.where(norms > 0, norms, 1).T
    if not np.isfinite(codes).all():
        raise UserError(
            f"codes are too large for {dtype}; scale the data down or the dictionary up"
        )
    return codes


def _limits(
    n_nonzero: Any, tolerance: Any, shape: tuple[int, ...], num_atoms: int
) -> tuple[int, Float[np.ndarray, " N"]]:
    """Non-zeros of a datum at most, and the squared residual at which each is done."""
    if n_nonzero is None and tolerance is None:
        raise UserError("omp needs an end; give n_nonzero, tolerance or both")
    largest = min(shape[1], num_atoms)
    if n_nonzero is not None and not (
        isinstance(n_nonzero, int | np.integer)
        and not isinstance(n_nonzero, bool)
        and 1 <= n_nonzero <= max(largest, 1)
    ):
        raise UserError(
            f"n_nonzero is {n_nonzero!r}; give a whole number from 1 to {largest}, the smaller of "
            "the data's features and the atoms"
        )
    values = np.asarray(as_real(0.0 if tolerance is None else tolerance, "tolerance"), np.float64)
    if not (values >= 0).all():
        raise UserError("tolerance is negative or NaN; give 0 or more")
    if values.size != 1 and values.shape != (shape[0],):
        raise UserError(
            f"tolerance has the shape {values.shape}; give one number or [N] = [{shape[0]}]"
        )
    return int(n_nonzero or largest), np.broadcast_to(values.reshape(-1), (shape[0],))


def _compiled(
    data: Float[np.ndarray, "N D"],
    atoms: Float[np.ndarray, "K D"],
    most: int,
    tolerance: Float[np.ndarray, " N"],
) -> Float[np.ndarray, "N K"]:
    from jvsc.kernels.omp import pursue_all
    from jvsc.solvers.lasso import single_blas_thread

    codes, kind = np.zeros((len(data), len(atoms)), data.dtype), data.dtype.type
    dependent, least = (kind(table[data.itemsize]) for table in (DEPENDENT, ROUNDING))
    with single_blas_thread():
        gram = atoms @ atoms.T
        pursue_all(data, atoms, gram, most, tolerance, dependent, least, CHUNK, codes)
    return codes


@compiled_by_shape("most")
def _by_jax(
    data: Float[Array, "N D"],
    atoms: Float[Array, "K D"],
    tolerance: Float[Array, " N"],
    most: int,
) -> Float[Array, "N K"]:
    """The chosen atoms are made orthogonal, one a step, all data together."""
    num_data, num_features = data.shape
    itemsize = data.dtype.itemsize
    least = ROUNDING[itemsize] * jnp.linalg.norm(data, axis=1)

    def step(place: Array, carried: Any) -> Any:
        residual, basis, factor, sizes, chosen = carried
        correlation = jnp.matmul(residual, atoms.T, precision="highest")
        best = jnp.argmax(jnp.abs(correlation), axis=1)
        atom = atoms[best]
        shares = jnp.einsum("nsd,nd->ns", basis, atom, precision="highest")
        own = atom - jnp.einsum("ns,nsd->nd", shares, basis, precision="highest")
        rest = jnp.sum(own**2, axis=1)
        goes_on = (
            (jnp.sum(residual**2, axis=1) > tolerance)
            & (jnp.abs(jnp.take_along_axis(correlation, best[:, None], 1))[:, 0] > least)
            & (rest > DEPENDENT[itemsize])
        )
        own = jnp.where(goes_on[:, None], own / jnp.sqrt(jnp.maximum(rest, 1e-30))[:, None], 0)
        size = jnp.sum(residual * own, axis=1)
        # Who is done stays so: its next atom is none, and the system's diagonal is one there.
        diagonal = jnp.where(goes_on, jnp.sqrt(jnp.maximum(rest, 0)), 1)
        column = jnp.where(goes_on[:, None], shares, 0).at[:, place].set(diagonal)
        return (
            residual - size[:, None] * own,
            basis.at[:, place].set(own),
            factor.at[:, :, place].set(column),
            sizes.at[:, place].set(size),
            chosen.at[:, place].set(jnp.where(goes_on, best, len(atoms))),
        )

    start = (
        data,
        jnp.zeros((num_data, most, num_features), data.dtype),
        jnp.zeros((num_data, most, most), data.dtype),
        jnp.zeros((num_data, most), data.dtype),
        jnp.zeros((num_data, most), jnp.int32),
    )
    _, _, factor, sizes, chosen = jax.lax.fori_loop(0, most, step, start)
    values = jax.scipy.linalg.solve_triangular(factor, sizes[..., None])[..., 0]
    codes = jnp.zeros((num_data, len(atoms) + 1), data.dtype)
    return codes.at[jnp.arange(num_data)[:, None], chosen].add(values)[:, :-1]
