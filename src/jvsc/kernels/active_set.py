"""The lasso on a CPU: splitting finds the codes' signs, which give the codes; else descent.

Splitting (ADMM, Boyd et al. 2011; here as Douglas and Rachford's iteration) takes one product of
matrices a step for a chunk of data, the fastest that a core can do. After few steps nearly all
signs are right, and correcting them (the primal and dual active set) solves a datum exactly. What
is left is solved one datum at a time by coordinate descent and Newton steps on the non-zeros.
"""

import numpy as np
from numba import prange

from jvsc.kernels.compiled import (
    BLOCK,
    compiled,
    compiled_in_parallel,
    compiled_inline,
    solve_on_support,
)

# The penalty falls to its value by this factor, so that few coordinates enter that must leave.
PENALTY_DECAY = 0.3
SWEEPS = 3
# Until then an iteration leaves the Newton step out while coordinates come and go.
SETTLING_ITERATIONS = 5
# From then on Newton steps go on until one meets no zero: slower, but none undoes what entered.
PATIENCE = 10
# The least pivot of a support's Gram matrix, and its ridge, are the largest atom's energy times
# this power of rounding: a hundred times rounding, as in float32, would be too little in float64.
PIVOT_POWER = 2 / 3
# Atoms, for whose factor there is room from the start.
FIRST_SIDE = 64
# Steps of the splitting between attempts, and how many there are at most.
SPLITTING_STEPS, MOST_SPLITTING_STEPS = 6, 48
# Step length of the splitting; 1 is Douglas and Rachford's, from 2 on it would not converge.
RELAXATION = 1.9
# A datum's signs are tried when it has at most so many non-zeros for every step it was given: a
# factor of many atoms takes as long as several steps.
ATOMS_A_STEP = 4
# Signs are corrected at most so often.
SIGN_CORRECTIONS = 4


@compiled_inline
def _move(k, step, codes, gradient, gram):
    """Adds `step` to one code; `gradient` is A (x - s A) and follows."""
    codes[k] += step
    row = gram[k]
    for j in range(row.size):
        gradient[j] -= step * row[j]


@compiled_inline
def _shrunk(value, threshold):
    """The value nearer to zero by the threshold."""
    return value - min(max(value, -threshold), threshold)


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
        new = gram.dtype.type(0)
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
def _newton(support, count, energy, penalty, codes, gradient, gram, upper, direction, smallest):
    """Moves to the minimum under the codes' present signs, or to the first zero on the way.

    Returns how many of the support are left. In a direction that the Gram matrix does not see,
    which the ridge alone bounds, it goes to a zero. Where rounding lets there be none, the codes
    stay as they are.
    """
    for a in range(count):
        k = support[a]
        direction[a] = gradient[k] - (penalty if codes[k] > 0 else -penalty)
    solve_on_support(support, count, gram, upper, direction, smallest, smallest)
    length, stopped = codes.dtype.type(1), -1
    for a in range(count):
        value = codes[support[a]]
        if direction[a] * value < 0 and abs(value) < length * abs(direction[a]):
            length, stopped = -value / direction[a], a
    before, after = 0 * energy, 0 * energy
    for a in range(count):
        value = codes[support[a]]
        before += abs(value)
        after += abs(value + length * direction[a])
    # What has more is worse than no codes; NaN is not less either.
    if not after <= max(before, energy / (2 * penalty)):
        return count
    for a in range(count):
        codes[support[a]] += length * direction[a]
    if stopped < 0:
        return count
    codes[support[stopped]] = 0
    for a in range(stopped, count - 1):
        support[a] = support[a + 1]
    return count - 1


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
    # In double precision, as Numba multiplies whole numbers: the gap is a difference of large ones.
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
    # Infinity is not more than itself, but more than what no codes have.
    return gap <= tolerance * primal and primal <= energy


@compiled
def _largest(vector):
    """The largest absolute value."""
    largest = abs(vector[0])
    for value in vector:
        largest = max(largest, abs(value))
    return largest


@compiled
def _datum(problem, i):
    """One datum's part of what `solve_all` is given."""
    codes, correlation, energy, gram, penalty, tolerance = problem
    return codes[i], correlation[i], energy[i], gram, penalty[i], tolerance[i]


@compiled
def _solve_one(problem, i, max_iterations, smallest, room):
    """Solves one datum's problem in `codes`; iterations until it was solved, and the room used."""
    codes, correlation, energy, gram, penalty, tolerance = _datum(problem, i)
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
            return iteration, room
        changed = True
        for _ in range(SWEEPS):
            count, changed = _sweep(support, count, lowered, codes, gradient, gram)
            if not changed:
                break
        if count > 0 and not (changed and iteration < SETTLING_ITERATIONS):
            room = _with_room(room, count)
            upper = room[3]
            for _ in range(1 if iteration < PATIENCE else count):
                left = _newton(
                    support,
                    count,
                    energy,
                    lowered,
                    codes,
                    gradient,
                    gram,
                    upper,
                    direction,
                    smallest,
                )
                _renew(codes, gradient, correlation, gram)
                if left == count:
                    break
                count = left
        else:
            _renew(codes, gradient, correlation, gram)
    return max_iterations, room


@compiled
def _solve_from_signs(problem, i, weight, smallest, room, trial):
    """Solves one datum's problem from the signs of its codes; whether it did, and the room it used.

    Codes are what the signs make them, and signs those of codes + gradient / weight where that
    exceeds penalty / weight (the primal and dual active set, Hintermueller et al. 2002), as long as
    ever fewer of them change. Codes that did not lead there stay as they are.
    """
    codes, correlation, energy, gram, penalty, tolerance = _datum(problem, i)
    gradient, support, direction, upper = room
    trial[:] = codes
    gradient[:] = 0
    threshold, fewest = penalty - penalty, codes.size
    for step in range(SIGN_CORRECTIONS):
        count, changes = 0, 0
        for k in range(codes.size):
            value = trial[k] + gradient[k] / weight
            if abs(value) > threshold:
                changes += value * trial[k] <= 0
                support[count] = k
                direction[count] = correlation[k] - (penalty if value > 0 else -penalty)
                count += 1
            else:
                changes += trial[k] != 0
        if step > 0:
            if changes == 0 or changes >= fewest:
                return False, room
            fewest = changes
        threshold = penalty / weight
        room = _with_room(room, count)
        upper = room[3]
        solve_on_support(support, count, gram, upper, direction, 0 * smallest, smallest)
        trial[:] = 0
        for a in range(count):
            trial[support[a]] = direction[a]
        _renew(trial, gradient, correlation, gram)
        if _is_solved(trial, gradient, correlation, energy, penalty, tolerance):
            codes[:] = trial
            return True, room
    return False, room


@compiled
def _room(codes):
    """Working memory of one thread."""
    num_atoms = codes.shape[1]
    return (
        np.empty(num_atoms, codes.dtype),
        np.empty(num_atoms, np.int64),
        np.empty(num_atoms + BLOCK, codes.dtype),
        np.empty((FIRST_SIDE, FIRST_SIDE), codes.dtype),
    )


@compiled
def _with_room(room, count):
    """The working memory, with enough of it for the factor of so many atoms."""
    gradient, support, direction, upper = room
    if upper.shape[0] < count + BLOCK:
        side = 2 * count + BLOCK
        upper = np.empty((side, side), upper.dtype)
    return gradient, support, direction, upper


@compiled
def _soft(point, threshold, codes):
    """Writes the soft-thresholded point to `codes`; how many of them are not zero."""
    nonzeros = 0
    for k in range(point.size):
        code = _shrunk(point[k], threshold)
        codes[k] = code
        nonzeros += code != 0
    return nonzeros


@compiled
def _split(points, correlation, inverse, thresholds, weight, target, found):
    """Steps of the splitting for several data, each one product with a matrix.

    A point tends to codes + gradient / weight. `inverse` is (G + weight I)^-1 times `RELAXATION`;
    `target` and `found` are working memory.
    """
    relaxation = points.dtype.type(RELAXATION)
    for _ in range(SPLITTING_STEPS):
        for n in range(len(points)):
            point, fixed, goal, threshold = points[n], correlation[n], target[n], thresholds[n]
            for j in range(point.size):
                code = _shrunk(point[j], threshold)
                goal[j] = fixed[j] + weight * (code + code - point[j])
        np.dot(target, inverse, found)
        for n in range(len(points)):
            point, product, threshold = points[n], found[n], thresholds[n]
            for j in range(point.size):
                code = _shrunk(point[j], threshold)
                point[j] += product[j] - relaxation * code


@compiled
def _begin(problem, weight, first, last, left, points, own, thresholds):
    """Which data have codes that are not zero, their points, correlations and thresholds; how many.

    The others' codes are set.
    """
    codes, correlation, _, gram, penalty, _ = problem
    count = 0
    for i in range(first, last):
        if _largest(correlation[i]) <= penalty[i]:
            codes[i] = 0
            continue
        left[count], thresholds[count] = i, penalty[i] / weight
        own[count] = correlation[i]
        if _largest(codes[i]) > 0:
            _renew(codes[i], points[count], correlation[i], gram)
            points[count] = codes[i] + points[count] / weight
        else:
            points[count] = 0
        count += 1
    return count


@compiled
def _solve_by_splitting(problem, inverse, weight, smallest, first, last, left, room):
    """Solves data of which the splitting finds the signs; how many are left, and the room used.

    Those come first in `left`, and their codes are near the solution.
    """
    codes = problem[0]
    shape = last - first, codes.shape[1]
    points, own = np.empty(shape, codes.dtype), np.empty(shape, codes.dtype)
    target, found = np.empty(shape, codes.dtype), np.empty(shape, codes.dtype)
    trial = np.empty(codes.shape[1], codes.dtype)
    thresholds = np.empty(last - first, codes.dtype)
    count = _begin(problem, weight, first, last, left, points, own, thresholds)
    for steps in range(SPLITTING_STEPS, MOST_SPLITTING_STEPS + 1, SPLITTING_STEPS):
        _split(
            points[:count],
            own[:count],
            inverse,
            thresholds,
            weight,
            target[:count],
            found[:count],
        )
        kept = 0
        for n in range(count):
            i = left[n]
            solved = False
            if _soft(points[n], thresholds[n], codes[i]) <= ATOMS_A_STEP * steps:
                solved, room = _solve_from_signs(problem, i, weight, smallest, room, trial)
            if not solved:
                left[kept], points[kept], own[kept] = i, points[n], own[n]
                thresholds[kept] = thresholds[n]
                kept += 1
        count = kept
        if count == 0:
            break
    return count, room


@compiled_in_parallel
def solve_all(problem, inverse, weight, max_iterations, chunk, iterations):
    """Solves every datum's problem in place.

    Args:
      problem: codes to start from [N, K], correlations with the atoms [N, K], energies [N], Gram
        matrix, penalties [N] and relative tolerances [N]; all of one floating type.
      inverse: (G + weight I)^-1 times `RELAXATION`; empty to go without the splitting.
      weight: of the splitting's proximal term, in the Gram matrix's units.
      max_iterations: of coordinate descent.
      chunk: data that one thread solves in the same working memory.
      iterations: gets each datum's iterations of coordinate descent, [N]; zeros to begin with.
    """
    codes, gram = problem[0], problem[3]
    rounding = gram.dtype.type(np.finfo(gram.dtype).eps ** PIVOT_POWER)
    smallest = rounding * _largest(np.diag(gram))
    for part in prange((len(codes) + chunk - 1) // chunk):
        first, last = part * chunk, min((part + 1) * chunk, len(codes))
        left, room = np.arange(first, last), _room(codes)
        count = last - first
        if inverse.size:
            count, room = _solve_by_splitting(
                problem, inverse, weight, smallest, first, last, left, room
            )
        for n in range(count):
            iterations[left[n]], room = _solve_one(problem, left[n], max_iterations, smallest, room)
