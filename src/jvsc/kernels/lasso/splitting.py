"""The lasso of many data on few atoms: splitting finds the codes' signs, which give the codes.

Splitting (ADMM, Boyd et al. 2011; here as Douglas and Rachford's iteration) takes one product of
matrices a step for many data, the fastest that a core can do. After few steps nearly all signs are
right, and correcting them (the primal and dual active set) solves a datum exactly.
"""

import numpy as np

from jvsc.kernels.compiled import BLOCK, compiled, compiled_inline, solve_on_support

# Steps of the splitting between attempts, and how many there are at most.
STEPS, MOST_STEPS = 6, 192
# Step length of the splitting; 1 is Douglas and Rachford's, from 2 on it would not converge.
RELAXATION = 1.9
# A datum's signs are tried when it has at most so many non-zeros for every step it was given: a
# factor of many atoms takes as long as several steps.
ATOMS_A_STEP = 6
# Gradients are the penalty on the support but for this share of it.
ACCURATE = 1e-2
# Signs are corrected at most so often.
SIGN_CORRECTIONS = 4


@compiled_inline
def _shrunk(value, threshold, signed):
    """The value nearer to zero by the threshold; zero for negative ones that may not be."""
    lowest = -threshold / signed  # minus infinity for those
    return value - min(max(value, lowest), threshold)


@compiled
def _set_gradient(codes, correlation, gram, gradient):
    """Writes A (x - s A)."""
    gradient[:] = correlation
    for k in range(codes.size):
        value = codes[k]
        if value != 0:
            row = gram[k]
            for j in range(row.size):
                gradient[j] -= value * row[j]


@compiled
def _solve_from_signs(
    data, codes, correlation, atoms, gram, penalty, weights, signed, weight, smallest, room
):
    """Solves one datum's problem from the signs of its codes; whether it did.

    Codes are what the signs make them, and signs those of codes + gradient / weight where that
    exceeds the threshold (the primal and dual active set, Hintermueller et al. 2002), as long as
    ever fewer of them change. Codes that did not lead there stay as they are.
    """
    trial, gradient, direction, support, upper = room
    trial[:] = codes
    gradient[:] = 0
    threshold, fewest = penalty - penalty, codes.size
    for step in range(SIGN_CORRECTIONS):
        count, changes, off = 0, 0, 0 * penalty
        for k in range(codes.size):
            value = _shrunk(trial[k] + gradient[k] / weight, threshold * weights[k], signed)
            changes += (value > 0) != (trial[k] > 0) or (value < 0) != (trial[k] < 0)
            if value != 0:
                own = penalty * weights[k]
                off = max(off, abs(gradient[k] - (own if value > 0 else -own)) / own)
                support[count] = k
                # By a sum of its own: a product of matrices rounds each row by its place.
                atom, total = atoms[k], 0 * penalty
                for d in range(data.size):
                    total += data[d] * atom[d]
                direction[count] = total - (own if value > 0 else -own)
                count += 1
        if step > 0:
            if changes == 0:
                # Where supports are singular rounding leaves another gradient than was solved for.
                if off < ACCURATE:
                    codes[:] = trial
                return off < ACCURATE
            if changes >= fewest:
                return False
            fewest = changes
        threshold = penalty / weight
        solve_on_support(support, count, gram, upper, direction, 0 * smallest, smallest)
        trial[:] = 0
        for a in range(count):
            trial[support[a]] = direction[a]
        _set_gradient(trial, correlation, gram, gradient)
    return False


@compiled
def _soft(point, threshold, weights, signed, codes):
    """Writes the soft-thresholded point to `codes`; how many of them are not zero."""
    nonzeros = 0
    for k in range(point.size):
        code = _shrunk(point[k], threshold * weights[k], signed)
        codes[k] = code
        nonzeros += code != 0
    return nonzeros


@compiled
def _split(points, correlation, inverse, thresholds, weights, signed, weight, target, product):
    """Steps of the splitting for several data, each one product with a matrix.

    A point tends to codes + gradient / weight. `inverse` is (G + weight I)^-1 times `RELAXATION`;
    `target` and `product` are working memory.
    """
    relaxation = points.dtype.type(RELAXATION)
    for _ in range(STEPS):
        for n in range(len(points)):
            point, fixed, goal, threshold = points[n], correlation[n], target[n], thresholds[n]
            for j in range(point.size):
                code = _shrunk(point[j], threshold * weights[j], signed)
                goal[j] = fixed[j] + weight * (code + code - point[j])
        np.dot(target, inverse, product)
        for n in range(len(points)):
            point, change, threshold = points[n], product[n], thresholds[n]
            for j in range(point.size):
                code = _shrunk(point[j], threshold * weights[j], signed)
                point[j] += change[j] - relaxation * code


@compiled
def solve_by_splitting(problem, splitting, smallest, listed):
    """Solves the listed data; what it does not solve has no codes then.

    Args:
      problem: as `solve_all`'s, with a Gram matrix and one row of inverse weights.
      splitting: (G + weight I)^-1 times `RELAXATION`, and the weight of the proximal term in the
        Gram matrix's units.
      smallest: pivot of linear systems.
      listed: places of data.
    """
    data, all_codes, atoms, transposed, gram, penalty, inverse_weights, signed, _ = problem
    inverse, weight = splitting
    weights = 1 / inverse_weights[0]
    kind, num_atoms = data.dtype, all_codes.shape[1]
    own = np.dot(data[listed], transposed)
    points, target, product = np.empty_like(own), np.empty_like(own), np.empty_like(own)
    room = (
        np.empty(num_atoms, kind),
        np.empty(num_atoms, kind),
        np.empty(num_atoms + BLOCK, kind),
        np.empty(num_atoms, np.int64),
        np.empty((num_atoms + BLOCK, num_atoms + BLOCK), kind),
    )
    left, thresholds, count = listed.copy(), penalty[listed] / weight, len(listed)
    for n in range(count):
        codes = all_codes[left[n]]
        _set_gradient(codes, own[n], gram, points[n])
        points[n] = codes + points[n] / weight
    for steps in range(STEPS, MOST_STEPS + 1, STEPS):
        _split(
            points[:count],
            own[:count],
            inverse,
            thresholds,
            weights,
            signed,
            weight,
            target[:count],
            product[:count],
        )
        kept = 0
        for n in range(count):
            i, codes = left[n], all_codes[left[n]]
            few = _soft(points[n], thresholds[n], weights, signed, codes) <= ATOMS_A_STEP * steps
            if not few or not _solve_from_signs(
                data[i],
                codes,
                own[n],
                atoms,
                gram,
                penalty[i],
                weights,
                signed,
                weight,
                smallest,
                room,
            ):
                left[kept], points[kept], own[kept] = i, points[n], own[n]
                thresholds[kept] = thresholds[n]
                kept += 1
        count = kept
        if count == 0:
            break
    for n in range(count):
        all_codes[left[n]] = 0
