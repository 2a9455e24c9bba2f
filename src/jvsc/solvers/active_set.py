"""The lasso on a CPU, one datum at a time: coordinate descent, and Newton steps on the non-zeros.

A processor's core is fastest where it need not do what a batch does: a datum changes few
coordinates, and stops when it is done. The kernels are compiled by Numba (the extra `numba`).
"""

from typing import Any

import numpy as np
from numba import njit, prange

OPTIONS: Any = {"cache": True, "error_model": "numpy", "fastmath": True}
compiled: Any = njit(**OPTIONS)
# A call would cost more than what these do.
compiled_inline: Any = njit(inline="always", **OPTIONS)
compiled_in_parallel: Any = njit(parallel=True, **OPTIONS)
# The penalty falls to its value by this factor, so that few coordinates enter that must leave.
PENALTY_DECAY = 0.3
SWEEPS = 3
# Until then an iteration leaves the Newton step out while coordinates come and go.
SETTLING_ITERATIONS = 5
# The least pivot of a support's Gram matrix, as a share of the largest atom's energy.
SMALLEST_PIVOT = 1e-6
BLOCK = 4
# Data that one thread solves in the same working memory.
CHUNK = 64


@compiled_inline
def _move(k, step, codes, gradient, gram):
    """Adds `step` to one code; `gradient` is A (x - s A) and follows."""
    codes[k] += step
    row = gram[k]
    for j in range(row.size):
        gradient[j] -= step * row[j]


@compiled_inline
def _descend(k, penalty, codes, gradient, gram):
    """Minimises over one coordinate; whether it became zero, or left zero, or changed sign."""
    curvature = gram[k, k]
    old = codes[k]
    centre = gradient[k] + curvature * old
    if centre > penalty:
        new = (centre - penalty) / curvature
    elif centre < -penalty:
        new = (centre + penalty) / curvature
    else:
        new = 0 * centre
    if new != old:
        _move(k, new - old, codes, gradient, gram)
        codes[k] = new
    return new * old <= 0 and new != old


@compiled
def _renew(codes, gradient, correlation, gram):
    """The gradient from the codes alone, free of what rounding has added up."""
    gradient[:] = correlation
    for k in range(codes.size):
        value = codes[k]
        if value != 0:
            row = gram[k]
            for j in range(row.size):
                gradient[j] -= value * row[j]


@compiled
def _factor(upper, size, smallest):
    """Cholesky's upper factor in place, four rows at a time, no pivot less than `smallest`.

    Of the matrix upper[:size, :size] only the upper triangle is read; `size` is a multiple of four.
    Where pivots are raised the step still descends, and in a direction that the matrix does not
    see it goes as far as the first zero.
    """
    for start in range(0, size, BLOCK):
        for row in range(start, start + BLOCK):
            for above in range(start, row):
                factor = upper[above, row]
                for j in range(row, size):
                    upper[row, j] -= factor * upper[above, j]
            upper[row, row] = max(upper[row, row], smallest)
            scale = 1 / np.sqrt(upper[row, row])
            for j in range(row, size):
                upper[row, j] *= scale
        first, second = upper[start], upper[start + 1]
        third, fourth = upper[start + 2], upper[start + 3]
        for row in range(start + BLOCK, size):
            a, b, c, d = first[row], second[row], third[row], fourth[row]
            changed = upper[row]
            for j in range(row, size):
                changed[j] -= a * first[j] + b * second[j] + c * third[j] + d * fourth[j]


@compiled
def _solve(upper, size, vector):
    """Solves U^T U y = vector in place."""
    for row in range(size):
        value = vector[row] / upper[row, row]
        vector[row] = value
        for j in range(row + 1, size):
            vector[j] -= value * upper[row, j]
    for row in range(size - 1, -1, -1):
        value = vector[row]
        for j in range(row + 1, size):
            value -= upper[row, j] * vector[j]
        vector[row] = value / upper[row, row]


@compiled
def _newton(support, count, penalty, codes, gradient, gram, upper, direction, smallest):
    """Moves to the minimum under the codes' present signs, or to the first zero on the way."""
    size = (count + BLOCK - 1) // BLOCK * BLOCK
    for a in range(count):
        k = support[a]
        row = gram[k]
        for b in range(a, count):
            upper[a, b] = row[support[b]]
        direction[a] = gradient[k] - (penalty if codes[k] > 0 else -penalty)
    for b in range(count, size):  # what fills the last block up is the identity
        upper[: b + 1, b] = 0
        upper[b, b] = 1
        direction[b] = 0
    _factor(upper, size, smallest)
    _solve(upper, size, direction)
    length, stopped = direction[0] * 0 + 1, -1
    for a in range(count):
        value = codes[support[a]]
        if direction[a] * value < 0 and abs(value) < length * abs(direction[a]):
            length, stopped = -value / direction[a], a
    for a in range(count):
        codes[support[a]] += length * direction[a]
    if stopped >= 0:
        codes[support[stopped]] = 0


@compiled
def _sweep(support, count, penalty, codes, gradient, gram):
    """Descends over the support; how many of it are left, and whether it or a sign changed."""
    left, changed = 0, False
    for a in range(count):
        k = support[a]
        changed |= _descend(k, penalty, codes, gradient, gram)
        if codes[k] != 0:
            support[left] = k
            left += 1
    return left, changed


@compiled
def _is_solved(codes, gradient, correlation, energy, penalty, tolerance):
    """Whether the duality gap is at most `tolerance` times the objective (see `duality_gap`)."""
    largest, l1, dot, error = 0 * energy, 0 * energy, 0 * energy, 0 * energy
    for k in range(codes.size):
        largest = max(largest, abs(gradient[k]))
        l1 += abs(codes[k])
        dot += correlation[k] * codes[k]
        error += gradient[k] * codes[k]
    residual_data = energy - dot
    residual_energy = max(residual_data - error, 0 * energy)
    scale = 1 + 0 * energy if largest <= penalty else penalty / largest
    primal = residual_energy / 2 + penalty * l1
    gap = primal - scale * residual_data + scale * scale * residual_energy / 2
    return gap <= tolerance * primal


@compiled
def _largest(vector):
    """The largest absolute value."""
    largest = 0 * vector[0]
    for value in vector:
        largest = max(largest, abs(value))
    return largest


@compiled
def _solve_one(
    codes, correlation, energy, gram, penalty, tolerance, max_iterations, smallest, room
):
    """Solves one datum's problem in `codes`; how many iterations it took, and the room it used."""
    gradient, support, direction, upper = room
    _renew(codes, gradient, correlation, gram)
    lowered = _largest(gradient)
    for iteration in range(max_iterations):
        lowered = max(penalty, lowered * codes.dtype.type(PENALTY_DECAY))
        count = 0
        for k in range(codes.size):
            if codes[k] != 0 or abs(gradient[k]) > lowered:
                _descend(k, lowered, codes, gradient, gram)
            if codes[k] != 0:
                support[count] = k
                count += 1
        if lowered == penalty and _is_solved(
            codes, gradient, correlation, energy, penalty, tolerance
        ):
            return iteration + 1, room
        changed = True
        for _ in range(SWEEPS):
            count, changed = _sweep(support, count, lowered, codes, gradient, gram)
            if not changed:
                break
        if count > 0 and not (changed and iteration < SETTLING_ITERATIONS):
            if upper.shape[0] < count + BLOCK:
                upper = np.empty((2 * count + BLOCK, 2 * count + BLOCK), codes.dtype)
                room = (gradient, support, direction, upper)
            _newton(support, count, lowered, codes, gradient, gram, upper, direction, smallest)
        _renew(codes, gradient, correlation, gram)
    return max_iterations, room


@compiled_in_parallel
def solve_all(codes, correlation, energy, gram, penalty, tolerance, max_iterations, iterations):
    """Solves every datum's problem in place; all arrays of one floating type but `iterations`."""
    num_data, num_atoms = codes.shape
    smallest = SMALLEST_PIVOT * _largest(np.diag(gram))
    for chunk in prange((num_data + CHUNK - 1) // CHUNK):
        room = (
            np.empty(num_atoms, codes.dtype),
            np.empty(num_atoms, np.int64),
            np.empty(num_atoms + BLOCK, codes.dtype),
            np.empty((CHUNK, CHUNK), codes.dtype),
        )
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, num_data)):
            iterations[i], room = _solve_one(
                codes[i],
                correlation[i],
                energy[i],
                gram,
                penalty,
                tolerance,
                max_iterations,
                smallest,
                room,
            )
