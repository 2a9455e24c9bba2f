"""How kernels are compiled by Numba (the extra `numba`), and the linear algebra they share.

Numba's cache of a kernel does not see changes in other files: after a change here delete the
`.nbi` files in `__pycache__`.
"""

from typing import Any

import numpy as np
from numba import njit

# Sums in any order, but NaN and infinity as they are: what is singular in float32 is found by them.
FREEDOM = {"reassoc", "contract", "arcp", "nsz"}
OPTIONS: Any = {"error_model": "numpy", "fastmath": FREEDOM}


def _kept(**options: Any) -> Any:
    """Numba's decorator; what it compiles is kept on disk where there is a place for it."""

    def decorate(function: Any) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # neither the installation nor the user's cache can be written
            return njit(**options)(function)

    return decorate


compiled: Any = _kept(**OPTIONS)
# A call would cost more than what these do.
compiled_inline: Any = _kept(inline="always", **OPTIONS)
compiled_in_parallel: Any = _kept(parallel=True, **OPTIONS)
BLOCK = 4


@compiled
def _factor(upper, size, smallest):
    """Cholesky's upper factor in place, four rows at a time, no pivot less than `smallest`.

    Of the matrix upper[:size, :size] only the upper triangle is read; `size` is a multiple of four.
    """
    for start in range(0, size, BLOCK):
        for row in range(start, start + BLOCK):
            own = upper[row, row:size]
            for above in range(start, row):
                factor = upper[above, row]
                pivots = upper[above, row:size]
                for j in range(own.size):
                    own[j] -= factor * pivots[j]
            own[0] = max(own[0], smallest)
            scale = own.dtype.type(1) / np.sqrt(own[0])
            for j in range(own.size):
                own[j] *= scale
        for row in range(start + BLOCK, size):
            a, b = upper[start, row], upper[start + 1, row]
            c, d = upper[start + 2, row], upper[start + 3, row]
            first, second = upper[start, row:size], upper[start + 1, row:size]
            third, fourth = upper[start + 2, row:size], upper[start + 3, row:size]
            changed = upper[row, row:size]
            for j in range(changed.size):
                changed[j] -= a * first[j] + b * second[j] + c * third[j] + d * fourth[j]


@compiled
def _solve(upper, size, vector):
    """Solves U^T U y = vector in place."""
    for row in range(size):
        value = vector[row] / upper[row, row]
        vector[row] = value
        factors, rest = upper[row, row + 1 : size], vector[row + 1 : size]
        for j in range(rest.size):
            rest[j] -= value * factors[j]
    for row in range(size - 1, -1, -1):
        value = vector[row]
        factors, rest = upper[row, row + 1 : size], vector[row + 1 : size]
        for j in range(rest.size):
            value -= factors[j] * rest[j]
        vector[row] = value / upper[row, row]


@compiled
def solve_on_support(support, count, gram, upper, vector, ridge, smallest):
    """Solves (G + ridge I) y = vector in place, G being the Gram matrix of the support's atoms."""
    size = (count + BLOCK - 1) // BLOCK * BLOCK
    for a in range(count):
        row = gram[support[a]]
        for b in range(a, count):
            upper[a, b] = row[support[b]]
        upper[a, a] += ridge
    for b in range(count, size):  # what fills the last block up is the identity
        upper[: b + 1, b] = 0
        upper[b, b] = 1
        vector[b] = 0
    _factor(upper, size, smallest)
    _solve(upper, size, vector)
