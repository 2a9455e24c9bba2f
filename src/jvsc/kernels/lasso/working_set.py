"""The lasso of one datum on few atoms: coordinate descent finds the signs, Newton steps the codes.

Atoms enter a datum's working set by their correlation with its residual, the largest first; the
problem on that set is small, and solving it costs nothing that grows with the dictionary.
"""

from jvsc.kernels.compiled import compiled, compiled_inline, solve_on_support

# Sweeps of coordinate descent until Newton's step is tried, however the signs still change. Of many
# atoms a sweep takes far less than the factor of a step.
SWEEPS = 16
# Sweeps and a Newton step take turns at most so often; each pair leaves a better code.
TURNS = 40


@compiled_inline
def magnitude(correlation, signed):
    """What the penalty is compared with: its size, or for codes that are not negative itself."""
    return max(correlation, -correlation * signed)


@compiled
def _sweep(count, gram, gradient, codes, penalties, signed):
    """Minimises over one code after another; whether one became zero, left it or changed sign."""
    changed = False
    for a in range(count):
        penalty, curvature, old = penalties[a], gram[a, a], codes[a]
        centre = gradient[a] + curvature * old
        new = 0 * old
        if magnitude(centre, signed) > penalty:
            new = (centre - (penalty if centre > 0 else -penalty)) / curvature
        if new != old:
            step, row = new - old, gram[a, :count]
            codes[a] = new
            for b in range(count):
                gradient[b] -= step * row[b]
            changed |= new * old <= 0
    return changed


@compiled
def _newton(count, energy, gram, gradient, codes, penalties, smallest, room):
    """Moves to the minimum under the codes' present signs, or to the first zero on the way.

    In a direction that the Gram matrix does not see, which the ridge alone
    bounds, it goes to a zero. Where rounding lets there be none, the codes stay as they are.
    """
    places, direction, upper = room
    nonzeros = 0
    for a in range(count):
        if codes[a] != 0:
            places[nonzeros] = a
            direction[nonzeros] = gradient[a] - (penalties[a] if codes[a] > 0 else -penalties[a])
            nonzeros += 1
    if nonzeros == 0:
        return
    solve_on_support(places, nonzeros, gram, upper, direction, smallest, smallest)
    length, first = codes.dtype.type(1), -1
    for p in range(nonzeros):
        value = codes[places[p]]
        if direction[p] * value < 0 and abs(value) < length * abs(direction[p]):
            length, first = -value / direction[p], p
    before, after = 0 * energy, 0 * energy
    for p in range(nonzeros):
        a = places[p]
        before += penalties[a] * abs(codes[a])
        after += penalties[a] * abs(codes[a] + length * direction[p])
    # What has more is worse than no codes; NaN is not less either.
    if not after <= max(before, energy / 2):
        return
    for p in range(nonzeros):
        a = places[p]
        step = -codes[a] if p == first else length * direction[p]
        codes[a] += step
        row = gram[a, :count]
        for b in range(count):
            gradient[b] -= step * row[b]


@compiled
def minimise(count, energy, gram, gradient, codes, penalties, signed, exactly, smallest, room):
    """Minimises 0.5 ||x - s A||^2 + sum_k penalty_k |s_k| over a working set, in place.

    Args:
      count: atoms of the set; of all arrays only so many entries count.
      energy: ||x||^2.
      gram: the atoms' Gram matrix.
      gradient: A (x - s A), which follows the codes.
      codes: s, where to start.
      penalties: of each atom.
      signed: 1, or 0 where codes may not be negative.
      exactly: whether Newton's steps follow the sweeps.
      smallest: pivot and ridge of their linear systems.
      room: working memory: places, direction, and a matrix with four more rows than the set has.
    """
    for turn in range(TURNS):
        for sweep in range(SWEEPS):
            if not _sweep(count, gram, gradient, codes, penalties, signed):
                if turn > 0 and sweep == 0:
                    return
                break
        if not exactly:
            return
        _newton(count, energy, gram, gradient, codes, penalties, smallest, room)
