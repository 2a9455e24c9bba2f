"""Online dictionary learning: the lasso's codes of a batch, then every atom in closed form."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jvsc.errors import UserError, refuse_beyond_memory
from jvsc.solvers.lasso import fastest_lasso, is_available, single_blas_thread
from jvsc.solvers.problem import (
    ORDINARY_EXPONENT,
    as_real,
    check_shapes,
    norms_of,
    positive_penalty,
    present_entries,
    whole_number,
)

# Of the codes that a dictionary is learned by; those that users get are better.
TOLERANCE = 1e-2
# How fast batches are forgotten: batch i of t counts (i / t)^FORGETTING (Mairal et al. 2010).
FORGETTING = 10.0
# A step of the penalty's logarithm for each unit of log(share / wanted share).
PENALTY_STEP = 0.3
# Atoms whose codes' energy is less than this share of the mean one are begun again.
UNUSED = 1e-6


class DictionaryMoments(NamedTuple):
    """Sums over all batches so far, in which old batches have less weight.

    Attributes:
      codes: sum of s s^T, [K, K].
      cross: sum of s x^T, [K, D].
      num_batches: t.
    """

    codes: Float[Any, "K K"]
    cross: Float[Any, "K D"]
    num_batches: Any

    @classmethod
    def empty(cls, num_atoms: int, num_features: int) -> "DictionaryMoments":
        """Moments before the first batch."""
        kind = np.float32
        return cls(
            np.zeros((num_atoms, num_atoms), kind), np.zeros((num_atoms, num_features), kind), 0
        )


def online_step(
    dictionary: Float[np.ndarray, "K D"],
    moments: DictionaryMoments,
    data: Float[np.ndarray, "B D"],
    penalty: float,
    *,
    positive_codes: bool = False,
    positive_atoms: bool = False,
    bounded: bool = False,
    forgetting: float = FORGETTING,
    tolerance: float = TOLERANCE,
    max_iterations: int | None = None,
) -> tuple[Float[np.ndarray, "K D"], DictionaryMoments, Float[np.ndarray, "B K"]]:
    """One step of online dictionary learning (Mairal, Bach, Ponce & Sapiro 2010, algorithms 1, 2).

    The atoms minimise the mean of 0.5 ||x - s A||^2 over all batches so far, each with the codes
    that it had then, by one pass of block coordinate descent. An atom that no datum uses becomes
    the datum that the codes explain worst. Missing entries count as the codes reconstruct them,
    which bounds the error of the others from above, with equality at the dictionary before (Mairal
    2013).

    Args:
      dictionary: A, atoms of norm 1.
      moments: of the batches before.
      data: a batch; NaN is an entry that is not there.
      penalty: lambda of its codes.
      positive_codes: whether codes may not be negative.
      positive_atoms: whether atoms may not be.
      bounded: whether atoms may be shorter than 1.
      forgetting: batch i of t counts (i / t)^forgetting; at 0 all count alike.
      tolerance: relative duality gap of the codes.
      max_iterations: of the codes' solver; its own default unless given.

    Returns:
      The dictionary and the moments after the step, and the batch's codes by the one before.
    """
    # Brings in Numba.
    from jvsc.kernels.atoms import update_atoms

    present = present_entries(data)
    solution = fastest_lasso(
        data,
        dictionary,
        penalty,
        positive=positive_codes,
        tolerance=tolerance,
        max_iterations=max_iterations,
        present=present,
    )
    codes = np.asarray(solution.codes)
    if present is not None:
        data = np.where(present, data, codes @ dictionary)
    count = moments.num_batches + 1
    kept = np.float32((1 - 1 / count) ** forgetting)
    moments = DictionaryMoments(
        kept * moments.codes + codes.T @ codes, kept * moments.cross + codes.T @ data, count
    )
    energy = moments.codes.diagonal()
    smallest = np.float32(UNUSED * energy.mean())
    atoms = np.array(dictionary, np.float32)
    update_atoms(atoms, moments.codes, moments.cross, positive_atoms, bounded, smallest)
    unused = np.flatnonzero(energy <= smallest)[: len(data)]
    if len(unused):
        left = data - codes @ dictionary
        worst = np.argsort(-np.einsum("bd,bd->b", left, left), kind="stable")[: len(unused)]
        begun = np.maximum(data[worst], 0) if positive_atoms else data[worst]
        norms = np.linalg.norm(begun, axis=1, keepdims=True)
        atoms[unused] = np.where(norms > 0, begun / np.maximum(norms, 1e-30), atoms[unused])
    return atoms, moments, codes


def next_penalty(
    penalty: float, codes: Float[np.ndarray, "B K"], sparsity: float, lowest: float = 0.0
) -> float:
    """The penalty after a batch, moved towards one that gives the wanted share of non-zeros."""
    share = max(float(np.mean(codes != 0)), 0.01 * sparsity)
    return max(penalty * (share / sparsity) ** PENALTY_STEP, lowest)


def learn_dictionary(
    data: Any,
    n_components: int,
    penalty: float,
    *,
    num_passes: int = 1,
    batch_size: int = 1024,
    dict_init: Any = None,
    positive_codes: bool = False,
    positive_atoms: bool = False,
    bounded: bool = False,
    seed: int = 0,
) -> Float[np.ndarray, "K D"]:
    """Learns a dictionary by the lasso's codes, online (Mairal et al. 2010).

    Args:
      data: [N, D], one datum a row, of any size; solved in float32.
      n_components: K.
      penalty: lambda of the codes while it learns.
      num_passes: over the data, each in an order of its own.
      batch_size: data a step.
      dict_init: [K, D] to begin with; by default data chosen at random.
      positive_codes: whether codes may not be negative.
      positive_atoms: whether atoms may not be.
      bounded: whether an atom's norm may be less than 1; else it is 1.
      seed: of the start and the orders.

    Returns:
      The dictionary [K, D], float32, the same whatever the number of threads.

    Raises:
      UserError: if data and dictionary do not fit, or are not finite real numbers, or another
        argument does not serve.
    """
    x = np.asarray(as_real(data, "data"))
    if x.ndim != 2 or not x.size:
        raise UserError(f"data have the shape {x.shape}; give [N, D] with at least one of each")
    count = whole_number(n_components, "n_components", 1)
    num_passes = whole_number(num_passes, "num_passes")
    batch_size = whole_number(batch_size, "batch_size", 1)
    random = np.random.default_rng(whole_number(seed, "seed"))
    refuse_beyond_memory({"n_components": 4 * count * (2 * x.shape[1] + 2 * count)})
    x, penalty = _in_ordinary_units(x, float(positive_penalty(penalty, 1).item()))
    if dict_init is None:
        atoms = data_as_atoms(x, count, random)
    else:
        atoms = np.asarray(as_real(dict_init, "dict_init"), np.float32)
        check_shapes(x.shape, atoms.shape)
        if len(atoms) != count:
            raise UserError(f"dict_init has {len(atoms)} atoms, but n_components is {count}")
    if not np.isfinite(atoms).all():
        raise UserError("dict_init holds NaN or infinity; leave such atoms out")
    if positive_atoms:
        atoms = np.maximum(atoms, 0)
    atoms = unit_atoms(atoms, random)
    moments = DictionaryMoments.empty(*atoms.shape)
    options: Any = {
        "positive_codes": positive_codes, "positive_atoms": positive_atoms, "bounded": bounded
    }  # fmt: skip
    with single_threaded_products():
        for _ in range(num_passes):
            for batch in batches(random, len(x), batch_size):
                atoms, moments, _ = online_step(atoms, moments, x[batch], penalty, **options)
    return atoms


def _in_ordinary_units(
    data: Shaped[np.ndarray, "N D"], penalty: float
) -> tuple[Float[np.ndarray, "N D"], float]:
    """Data of any size in float32, and the penalty, in units in which squares do not overflow.

    The dictionary is that of the data as they are: the lasso's codes are in the data's units.

    Raises:
      UserError: if data are not finite.
    """
    if not np.isfinite(data).all():
        raise UserError("data hold NaN or infinity; leave such rows out")
    exponent = int(np.frexp(max(float(data.max()), -float(data.min())))[1])
    if abs(exponent) <= ORDINARY_EXPONENT:
        return np.asarray(data, np.float32), penalty
    double = np.ldexp(np.asarray(data, np.float64), -exponent)
    with np.errstate(over="ignore"):
        return double.astype(np.float32), float(np.ldexp(penalty, -exponent))


def unit_atoms(
    atoms: Float[np.ndarray, "K D"], random: np.random.Generator
) -> Float[np.ndarray, "K D"]:
    """The atoms with norm 1; those of zeros become random ones."""
    empty = ~atoms.any(axis=1)
    if empty.any():
        drawn = np.abs(random.standard_normal((int(empty.sum()), atoms.shape[1])))
        atoms = atoms.copy()
        atoms[empty] = drawn
    return atoms / norms_of(atoms)


def data_as_atoms(data: Any, num_atoms: int, random: np.random.Generator) -> Float[Any, "K D"]:
    """Rows of the data, [K, D], chosen at random; again from the first where they are too few."""
    return data[random.permutation(len(data))[np.arange(num_atoms) % len(data)]]


def batches(random: np.random.Generator, num_data: int, batch_size: int) -> Iterator[np.ndarray]:
    """A pass over the data in random order; a remainder of less than a batch waits its turn."""
    order = random.permutation(num_data)
    size = min(batch_size, num_data)
    for first in range(0, num_data - size + 1, size):
        yield order[first : first + size]


def single_threaded_products() -> AbstractContextManager[None]:
    """A context in which BLAS has one thread: its waiting threads would take the solver's cores."""
    return single_blas_thread() if is_available() else nullcontext()
