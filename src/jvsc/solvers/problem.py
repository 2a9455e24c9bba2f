"""Arguments of the lasso's solvers, checked and converted to one type, and their result."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Int

from jvsc.errors import UserError

# Sizes within 2^-20 and 2^20 are solved as they are, so that no bit of ordinary problems depends on
# their scaling; beyond, squares and cubes of them leave float32.
ORDINARY_EXPONENT = 20
# A penalty of a scaled problem that no correlation reaches; infinity times zero would be NaN.
LARGEST_PENALTY = 2.0**64


class LassoSolution(NamedTuple):
    """Codes and the proof of how good they are; JAX's arrays of `fista`, NumPy's of `lasso`.

    A datum missed the tolerance where its gap is more than that times its objective.

    Attributes:
      codes: [N, K].
      gap: duality gap of each datum, [N]: its objective is at most this far above the optimum.
        Infinity where the type cannot hold it, NaN for what could not be solved; a gap below the
        least normal number of the type is given as that number.
      iterations: how many iterations each datum took, [N].
    """

    codes: Float[Any, "N K"]
    gap: Float[Any, " N"]
    iterations: Int[Any, " N"]


def check_shapes(data: tuple[int, ...], dictionary: tuple[int, ...]) -> None:
    """Raises `UserError` unless the shapes are [N, D] and [K, D]."""
    if len(data) != 2 or len(dictionary) != 2 or data[1] != dictionary[1]:
        raise UserError(
            f"data {data} and dictionary {dictionary} do not fit; "
            "give data [N, D] and a dictionary [K, D], one atom a row"
        )


def is_traced(values: Any) -> bool:
    """Whether an array has no values yet: it is an argument of a function that is compiled."""
    return isinstance(values, Tracer)


def as_real(values: Any, name: str) -> Any:
    """Numbers as a JAX array or a NumPy array in the machine's byte order.

    Raises:
      UserError: if they are not real numbers, or some are masked.
    """
    if np.ma.is_masked(values):
        raise UserError(f"{name} has masked values; fill them in, or leave such rows out")
    if not isinstance(values, jax.Array):
        try:
            values = np.asarray(values)
        except ValueError as error:  # rows of several lengths
            raise UserError(f"{name}: {error}; give an array of real numbers") from None
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    # NumPy counts time spans among its integers.
    if values.dtype.kind == "m" or not any(
        jnp.issubdtype(values.dtype, kind) for kind in (np.floating, np.integer, np.bool_)
    ):
        raise UserError(f"{name} is of type {values.dtype}; give real numbers")
    return values


def common_type(*arrays: Any) -> Any:
    """The type a problem is solved in: float64 where any array has it, else float32."""
    double = any(jnp.issubdtype(x.dtype, np.floating) and x.dtype.itemsize > 4 for x in arrays)
    return np.dtype(np.float64 if double else np.float32)


def whole_number(value: Any, name: str, least: int = 0) -> int:
    """A number of things.

    Raises:
      UserError: if it is no whole number, or less than the least.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} is {value!r}; give a whole number of at least {least}")
    return int(value)


def positive_number(value: Any, name: str) -> Any:
    """One finite number above zero, unless it is traced.

    Raises:
      UserError: if it is none.
    """
    if not is_traced(value) and not (_is_number(value) and 0 < value < np.inf):
        raise UserError(f"{name} is {value!r}; give a positive number")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | np.floating | np.integer)


def limits(tolerance: Any, max_iterations: Any) -> tuple[Any, int]:
    """A solver's tolerance, unless it is traced, and its iterations, as many as int32 counts.

    Raises:
      UserError: if the tolerance is no number of at least 0, or iterations are no whole number.
    """
    if not is_traced(tolerance) and not (_is_number(tolerance) and tolerance >= 0):
        raise UserError(f"tolerance is {tolerance!r}; give a number of at least 0")
    return tolerance, min(whole_number(max_iterations, "max_iterations"), np.iinfo(np.int32).max)


def start_of(codes: Any, shape: tuple[int, int]) -> Any:
    """Codes to start from, which broadcast to a shape; zeros where there are none.

    Raises:
      UserError: if they do not.
    """
    if codes is None:
        return np.float32(0)
    values = as_real(codes, "initial_codes")
    try:
        if jnp.broadcast_shapes(values.shape, shape) == shape:
            return values
    except ValueError:
        pass
    raise UserError(f"initial_codes have the shape {values.shape}; give [N, K] = {list(shape)}")


def check_mask(mask: tuple[int, ...], data: tuple[int, ...]) -> None:
    """Raises `UserError` unless a mask of present entries has the data's shape."""
    if mask != data:
        raise UserError(f"present has the shape {mask}; give the data's, {data}")


def present_entries(data: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, "N D"] | None:
    """Which entries there are, NaN being none; None for all."""
    present = ~np.isnan(data)
    return None if present.all() else present


def norms_of(rows: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K 1"]:
    """Norms of rows whose squares may have no room in their type."""
    sizes = np.abs(rows).max(axis=1, initial=0, keepdims=True)
    return sizes * np.linalg.norm(rows / np.where(sizes > 0, sizes, 1), axis=1, keepdims=True)


def positive_penalty(penalty: Any, num_data: Any, num_atoms: int | None = None) -> Any:
    """The penalty as a matrix that broadcasts against codes; infinity is one.

    Its shape says whose it is: [1, 1] of all codes, [N, 1] of each datum, [1, K] of each atom,
    [N, K] of each code. A vector is [N], one a datum, also where there are as many atoms.

    Args:
      penalty: one number, [N], [N, 1], [1, K] or [N, K]. Its values are checked unless they are
        traced.
      num_data: N, a symbol in a function that is exported for any N.
      num_atoms: K; none where a datum's codes have one penalty.

    Raises:
      UserError: if it has another shape, or a number that is not positive.
    """
    values = as_real(penalty, "penalty")
    if not is_traced(values):
        values = np.asarray(values, np.float64)
        if not (values > 0).all():
            wrong, has = values[~(values > 0)][0], "holds" if values.ndim else "is"
            raise UserError(f"penalty {has} {wrong}; give a positive number")
    if values.size == 1:
        return values.reshape(1, 1)
    if values.shape in ((num_data,), (num_data, 1)):
        return values.reshape(-1, 1)
    if num_atoms is not None and values.shape in ((1, num_atoms), (num_data, num_atoms)):
        return values
    allowed = f"one number or [N] = [{num_data}], one a datum"
    if num_atoms is not None:
        allowed += f", [1, K] = [1, {num_atoms}], one an atom, or [N, K]"
    else:
        allowed += "; for an atom's own, divide that atom, and afterwards its codes, by it"
    raise UserError(f"penalty has the shape {values.shape}; give {allowed}")
