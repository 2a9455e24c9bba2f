"""The lasso of all data on a CPU: working sets, and splitting for data of many non-zeros.

A step takes the correlations of many data's residuals with all atoms, one product of matrices; each
datum's working set takes in the atoms that correlate most, and is solved. Correlations with the
residual itself also prove how good the codes are.
"""

import numpy as np
from numba import prange

from jvsc.kernels.compiled import BLOCK, compiled, compiled_in_parallel, compiled_inline
from jvsc.kernels.lasso.splitting import solve_by_splitting
from jvsc.kernels.lasso.working_set import magnitude, minimise

# Atoms enter whose correlation is at least this share of the largest one, and above the penalty.
ENTERING_SHARE = 0.6
# Newton steps begin once no correlation is more than so many penalties: before, signs still change.
EXACT_FROM = 1.3
# They begin after so many steps at the latest: where atoms are nearly dependent sweeps alone crawl.
SETTLED = 6
# The least pivot of a set's Gram matrix, and its ridge, are the largest atom's energy times this
# power of rounding: a hundred times rounding, as in float32, would be too little in float64.
PIVOT_POWER = 2 / 3
# A working set is small if it has at most the data's features divided by this.
FEW = 4
# Atoms for which a thread has room from the start.
FIRST_SIDE = 64
# What a visit leaves a datum in: within its tolerance, to be visited again, with too many atoms.
SOLVED, UNSOLVED, LATE = 0, 1, 2
# Data whose correlations one product of matrices gives, and rows that fill them up to a multiple.
TOGETHER = 240
ROWS = 12


@compiled_inline
def _certificate(data, residual, correlation, l1, penalty, inverse_weights, signed):
    """Objective and duality gap of one datum, and the largest correlation in units of its weight.

    `l1` is the sum of the codes' weighted sizes. Sums are in float64: the gap is a difference of
    large ones.
    """
    largest, energy, dot = 0 * penalty, 0.0, 0.0
    for k in range(correlation.size):
        largest = max(largest, magnitude(correlation[k], signed) * inverse_weights[k])
    for d in range(data.size):
        energy += np.float64(residual[d]) * residual[d]
        dot += np.float64(residual[d]) * data[d]
    primal = energy / 2 + penalty * np.float64(l1)
    scale = 1.0 if largest <= penalty else penalty / np.float64(largest)
    return primal, max(primal - scale * dot + scale * scale * energy / 2, 0.0), largest


@compiled_inline
def _weights_of(inverse_weights, i):
    """A datum's own row of them, or the one of all data."""
    return inverse_weights[i if len(inverse_weights) > 1 else 0]


@compiled
def _in_use(codes, members):
    """Lists the codes that are not zero; how many."""
    count = 0
    for k in range(codes.size):
        if codes[k] != 0:
            members[count] = k
            count += 1
    return count


@compiled_inline
def _product(residual, atom):
    """A correlation by a sum of its own: a product of matrices rounds each row by its place."""
    total = 0 * residual[0]
    for d in range(residual.size):
        total += residual[d] * atom[d]
    return total


@compiled_inline
def _set_residual(data, codes, atoms, inverse_weights, members, count, residual):
    """Writes x - s A, s having no other non-zeros than the members; the weighted sum of sizes."""
    residual[:] = data
    l1 = 0 * codes[0]
    for a in range(count):
        value, atom = codes[members[a]], atoms[members[a]]
        if value != 0:
            l1 += abs(value) / inverse_weights[members[a]]
            for d in range(residual.size):
                residual[d] -= value * atom[d]
    return l1


@compiled_inline
def _enter(correlation, codes, level, inverse_weights, signed, members):
    """Lists the atoms of the working set: those in use, and those above the level; how many."""
    count = 0
    for start in range(0, codes.size, BLOCK):
        stop = min(start + BLOCK, codes.size)
        some = False
        for k in range(start, stop):
            size = magnitude(correlation[k], signed) * inverse_weights[k]
            some |= (size > level) | (codes[k] != 0)
        if some:
            for k in range(start, stop):
                above = magnitude(correlation[k], signed) * inverse_weights[k] > level
                if above or codes[k] != 0:
                    members[count] = k
                    count += 1
    return count


@compiled
def _room(num_atoms, side, dtype):
    """Working memory of one thread, for working sets of at most `side` atoms."""
    return (
        np.empty(num_atoms, np.int64),
        np.empty(side, np.int64),
        np.empty((4, side + BLOCK), dtype),
        np.empty((side, side), dtype),
        np.empty((side + BLOCK, side + BLOCK), dtype),
    )


@compiled_inline
def _gram_of(members, count, atoms, gram, small):
    """The members' Gram matrix: entries of the dictionary's where there is one, else products."""
    if gram.size:
        for a in range(count):
            row = gram[members[a]]
            for b in range(count):
                small[a, b] = row[members[b]]
        return small
    own = np.empty((count, atoms.shape[1]), atoms.dtype)
    for a in range(count):
        own[a] = atoms[members[a]]
    return np.dot(own, own.T)


@compiled_inline
def _follows(gram, count, residual):
    """Whether so many codes' changes are less work in correlations than a product of matrices."""
    return gram.size > 0 and FEW * count <= residual.size


@compiled_inline
def _improve(problem, i, residual, correlation, energy, count, exactly, smallest, room):
    """Solves one datum's problem on its working set; sums of codes, of their changes, weighted."""
    data, codes, atoms, _, gram, penalty, inverse_weights, signed, _ = problem
    members, places, vectors, small, upper = room
    weights = _weights_of(inverse_weights, i)
    gradient, values, penalties = vectors[0], vectors[1], vectors[2]
    for a in range(count):
        k = members[a]
        entered = codes[i, k] == 0
        gradient[a] = _product(residual, atoms[k]) if entered else correlation[k]
        values[a], penalties[a] = codes[i, k], penalty[i] / weights[k]
    minimise(
        count,
        energy,
        _gram_of(members, count, atoms, gram, small),
        gradient,
        values,
        penalties,
        signed,
        exactly,
        smallest,
        (places, vectors[3], upper),
    )
    size, change = 0 * energy, 0 * energy
    for a in range(count):
        k = members[a]
        step = values[a] - codes[i, k]
        size += abs(values[a])
        change += abs(step)
        codes[i, k] = values[a]
        if _follows(gram, count, residual) and step != 0:
            row = gram[k]
            for j in range(row.size):
                correlation[j] -= step * row[j]
    l1 = _set_residual(data[i], codes[i], atoms, weights, members, count, residual)
    return size, change, l1


@compiled
def _take_in(problem, i, members, residual):
    """Writes a datum's residual; its codes' weighted sum of sizes."""
    data, codes, atoms, _, _, _, inverse_weights, _, _ = problem
    weights = _weights_of(inverse_weights, i)
    size = _in_use(codes[i], members)
    return _set_residual(data[i], codes[i], atoms, weights, members, size, residual)


@compiled_inline
def _work_on(
    problem, i, residual, correlation, l1, limit, max_iterations, smallest, gaps, iterations, room
):
    """Improves one datum's codes as long as its correlations are known; its state, l1 and the room.

    Small working sets' correlations follow the codes by the Gram matrix. A start that is worse than
    no codes is left.
    """
    data, codes, atoms, _, gram, penalty, inverse_weights, signed, tolerance = problem
    weights = _weights_of(inverse_weights, i)
    kind, energy = codes.dtype.type, 0 * penalty[i]
    for d in range(residual.size):
        energy += data[i, d] * data[i, d]
    while True:
        for a in range(_in_use(codes[i], room[0])):
            correlation[room[0][a]] = _product(residual, atoms[room[0][a]])
        primal, gaps[i], largest = _certificate(
            data[i], residual, correlation, l1, penalty[i], weights, signed
        )
        if gaps[i] <= tolerance[i] * primal or iterations[i] == max_iterations:
            return SOLVED, l1, room
        if not primal <= energy:
            codes[i] = 0
            residual[:] = data[i]
            iterations[i] += 1
            return UNSOLVED, 0 * penalty[i], room
        level = max(penalty[i], largest * kind(ENTERING_SHARE))
        size = _enter(correlation, codes[i], level, weights, signed, room[0])
        if size > limit:
            return LATE, l1, room
        if size > room[3].shape[0]:
            room = _room(len(atoms), 2 * size, codes.dtype)
            _enter(correlation, codes[i], level, weights, signed, room[0])
        exactly = largest <= penalty[i] * kind(EXACT_FROM) or iterations[i] >= SETTLED
        total, change, l1 = _improve(
            problem, i, residual, correlation, energy, size, exactly, smallest, room
        )
        iterations[i] += 1
        if exactly and change <= 4 * np.finfo(codes.dtype).eps * total:  # rounding allows no better
            return SOLVED, l1, room
        if not _follows(gram, size, residual):
            return UNSOLVED, l1, room


@compiled
def _solve_on_sets(problem, left, limit, max_iterations, smallest, gaps, iterations, room):
    """Solves the listed data; of how many more than `limit` atoms would enter, and the room used.

    Those come first in `left`, with codes that are better than none. Some data at a time are
    solved together; who is ready makes room for the next.
    """
    data, atoms, transposed = problem[0], problem[2], problem[3]
    rows = (min(len(left), TOGETHER) + ROWS - 1) // ROWS * ROWS
    residual = np.zeros((rows, data.shape[1]), data.dtype)
    correlation = np.empty((rows, len(atoms)), data.dtype)
    waiting, l1 = np.empty(rows, np.int64), np.empty(rows, data.dtype)
    count, taken, num_late = 0, 0, 0
    while True:
        while count < rows and taken < len(left):
            i = left[taken]
            iterations[i] = 0
            waiting[count], l1[count] = i, _take_in(problem, i, room[0], residual[count])
            count += 1
            taken += 1
        if count == 0:
            break
        used = (count + ROWS - 1) // ROWS * ROWS
        np.dot(residual[:used], transposed, correlation[:used])
        kept = 0
        for n in range(count):
            i = waiting[n]
            state, l1[n], room = _work_on(
                problem, i, residual[n], correlation[n], l1[n], limit, max_iterations, smallest,
                gaps, iterations, room,
            )  # fmt: skip
            if state == LATE:
                left[num_late] = i  # whose place is free
                num_late += 1
            elif state == UNSOLVED:
                waiting[kept], l1[kept] = i, l1[n]
                residual[kept] = residual[n]
                kept += 1
        count = kept
    return num_late, room


@compiled
def _least_pivot(atoms):
    """Pivot and ridge of linear systems."""
    largest = 0 * atoms[0, 0]
    for k in range(len(atoms)):
        energy = 0 * largest
        for d in range(atoms.shape[1]):
            energy += atoms[k, d] * atoms[k, d]
        largest = max(largest, energy)
    return largest * atoms.dtype.type(np.finfo(atoms.dtype).eps ** PIVOT_POWER)


@compiled_in_parallel
def solve_on_sets(problem, listed, limit, max_iterations, chunk, gaps, iterations):
    """Solves the listed data's problems in place.

    Args:
      problem: data [N, D], codes to start from [N, K], atoms [K, D], the same transposed [D, K],
        Gram matrix (empty where it would be large), penalties [N], inverse weights of each atom in
        them, [1, K] or [N, K], 1 for signed codes or 0 for codes that are not negative, and
        relative tolerances [N]; all of one floating type.
      listed: places of data.
      limit: atoms of a working set at most.
      max_iterations: steps of a datum.
      chunk: data that one thread solves.
      gaps: gets each datum's duality gap, [N].
      iterations: gets each datum's steps, [N].

    Returns:
      Of each that is listed whether it needs more than `limit` atoms, and is not solved.
    """
    codes, atoms = problem[1], problem[2]
    late = np.zeros(len(listed), np.bool_)
    smallest = _least_pivot(atoms)
    for part in prange((len(listed) + chunk - 1) // chunk):
        places = np.arange(part * chunk, min((part + 1) * chunk, len(listed)))
        room = _room(len(atoms), FIRST_SIDE, codes.dtype)
        left = listed[places]
        num_late, room = _solve_on_sets(
            problem, left, limit, max_iterations, smallest, gaps, iterations, room
        )
        late[part * chunk : part * chunk + num_late] = True
        listed[part * chunk : part * chunk + num_late] = left[:num_late]
    return late


@compiled_in_parallel
def split_all(problem, splitting, listed, chunk):
    """Solves the listed data's problems by splitting; what it does not solve has no codes."""
    smallest = _least_pivot(problem[2])
    for part in prange((len(listed) + chunk - 1) // chunk):
        solve_by_splitting(problem, splitting, smallest, listed[part * chunk : (part + 1) * chunk])
