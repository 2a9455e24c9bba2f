"""The atoms of a dictionary by block coordinate descent, compiled by Numba where there is one."""

from typing import Any

import numpy as np

# Atoms whose correlations one product of matrices gives.
TOGETHER = 16


def _update_atoms(dictionary, codes_moment, cross_moment, positive, bounded, smallest):
    """Minimises tr(A^T S A) / 2 - tr(A^T B) over one atom after another, in place.

    Args:
      dictionary: A, [K, D].
      codes_moment: S, a sum of s s^T, [K, K].
      cross_moment: B, a sum of s x^T, [K, D].
      positive: whether atoms may not be negative.
      bounded: whether an atom's norm may be less than 1; else it is 1.
      smallest: atoms whose codes have no more energy are left.
    """
    num_atoms = len(dictionary)
    for first in range(0, num_atoms, TOGETHER):
        last = min(first + TOGETHER, num_atoms)
        left = cross_moment[first:last] - np.dot(codes_moment[first:last], dictionary)
        for k in range(first, last):
            energy = codes_moment[k, k]
            if energy <= smallest:
                continue
            atom = dictionary[k] + left[k - first] / energy
            if positive:
                atom = np.maximum(atom, energy - energy)
            norm = np.sqrt(np.sum(atom * atom))
            if norm == 0:
                continue
            if norm > 1 or not bounded:
                atom = atom / norm
            change = atom - dictionary[k]
            dictionary[k] = atom
            for j in range(k + 1, last):
                left[j - first] -= codes_moment[j, k] * change


update_atoms: Any = _update_atoms
try:
    from jvsc.kernels.compiled import compiled

    update_atoms = compiled(_update_atoms)
except ImportError:
    pass
