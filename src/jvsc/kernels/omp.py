"""Orthogonal matching pursuit on a CPU (Numba), of many data by one Gram matrix."""

import numpy as np
from numba import prange

from jvsc.kernels.compiled import compiled, compiled_in_parallel


@compiled
def _squared_norm(row):
    total = 0 * row[0]
    for d in range(row.size):
        total += row[d] * row[d]
    return total


@compiled
def _values_of(factor, sizes, count, values):
    """Values of the chosen atoms, from the sizes along those made orthogonal."""
    for a in range(count - 1, -1, -1):
        value = sizes[a]
        for b in range(a + 1, count):
            value -= factor[b, a] * values[b]
        values[a] = value / factor[a, a]


@compiled
def _energy_left(datum, atoms, chosen, values, count, residual):
    """Squared norm of what the chosen atoms leave of a datum."""
    residual[:] = datum
    for a in range(count):
        value, atom = values[a], atoms[chosen[a]]
        for d in range(datum.size):
            residual[d] -= value * atom[d]
    return _squared_norm(residual)


@compiled
def _pursue(
    datum, atoms, correlation, energy, gram, most, tolerance, dependent, least, room, codes
):
    """One datum's codes; `correlation` is changed.

    The chosen atoms are made orthogonal in the order of their choice, and of each only its
    correlations with all atoms are kept (Rubinstein et al. 2008, without a factor to renew). So the
    residual's energy is a difference, known to no more than a rounding of the datum's: where it may
    be that the datum is done it is computed again. Without a tolerance it is not asked for.
    """
    chosen, basis, factor, sizes, values, residual = room
    count = 0
    rounding = least * np.sqrt(energy)
    while count < most:
        if tolerance > 0 and energy <= tolerance + rounding:
            _values_of(factor, sizes, count, values)
            energy = _energy_left(datum, atoms, chosen, values, count, residual)
            if energy <= tolerance:
                break
        largest = 0 * energy
        for k in range(correlation.size):
            largest = max(largest, abs(correlation[k]))
        if not largest > least:
            break
        best = 0
        while abs(correlation[best]) != largest:
            best += 1
        own, rest = basis[count], gram[best, best]
        own[:] = gram[best]
        for a in range(count):
            share, row = basis[a, best], basis[a]
            factor[count, a] = share
            rest -= share * share
            for k in range(own.size):
                own[k] -= share * row[k]
        if rest <= dependent:
            break
        scale = 1 / np.sqrt(rest)
        factor[count, count] = rest * scale
        size = correlation[best] * scale
        for k in range(own.size):
            own[k] *= scale
            correlation[k] -= size * own[k]
        correlation[best] = 0
        chosen[count], sizes[count] = best, size
        energy -= size * size
        count += 1
    _values_of(factor, sizes, count, values)
    for a in range(count):
        codes[chosen[a]] = values[a]


@compiled_in_parallel
def pursue_all(data, atoms, gram, most, tolerance, dependent, least, chunk, codes):
    """Codes of all data on atoms of norm 1.

    Args:
      data: [N, D].
      atoms: of norm 1, [K, D].
      gram: their Gram matrix, [K, K].
      most: non-zeros of a datum.
      tolerance: squared norm of the residual at which a datum is done, [N].
      dependent: squared norm of an atom's part outside those chosen, below which a datum is done.
      least: share of a datum's norm; correlations below it are rounding.
      chunk: data that one thread codes together.
      codes: gets them, [N, K]; zeros to begin with.
    """
    num_atoms, kind = codes.shape[1], codes.dtype
    for part in prange((len(data) + chunk - 1) // chunk):
        first, last = part * chunk, min((part + 1) * chunk, len(data))
        correlation = np.dot(data[first:last], atoms.T)
        room = (
            np.empty(most, np.int64),
            np.empty((most, num_atoms), kind),
            np.empty((most, most), kind),
            np.empty(most, kind),
            np.empty(most, kind),
            np.empty(data.shape[1], kind),
        )
        for n in range(first, last):
            energy = _squared_norm(data[n])
            _pursue(
                data[n],
                atoms,
                correlation[n - first],
                energy,
                gram,
                most,
                tolerance[n],
                dependent,
                least * np.sqrt(energy),
                room,
                codes[n],
            )
