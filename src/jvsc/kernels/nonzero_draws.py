"""Compiled kernels of `jvsc.evaluation.nonzero_draws` (Numba): drawing non-zeros, and scoring them.

A latent is non-zero with probability 1 - exp(-h), h being its hazard. So events that fall uniformly
on the sum of all hazards, a Poisson number of them, hit exactly the non-zeros of a draw, some of
them more than once.
"""

import math

import numpy as np
from numba import prange

from jvsc.kernels.compiled import compiled, compiled_in_parallel, compiled_inline

# Features of a block, so that all atoms' part of it stays in a core's cache (1 MB of 4096 atoms).
FEATURES = 64
# Non-zeros of some data that are held at once, and at most so many data.
MOST_NONZEROS, MOST_DATA = 1 << 21, 128
# Poisson's distribution is cut off beyond so many deviations, at 1e-15 and less.
DEVIATIONS = 9
UNIT_32, UNIT_53 = 2.0**-32, 2.0**-53


@compiled_inline
def _random(state):
    """SplitMix64 (Steele et al. 2014): the next state and 64 bits."""
    state += np.uint64(0x9E3779B97F4A7C15)
    bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, bits ^ (bits >> np.uint64(31))


@compiled_inline
def _fewest_and_most(total):
    """Numbers between which a Poisson number of mean `total` lies."""
    spread = DEVIATIONS * math.sqrt(total) + DEVIATIONS
    return max(0, int(total - spread)), int(total + spread)


@compiled
def _poisson_distribution(total, fewest, most):
    """P(N <= n) for n from `fewest` to `most`."""
    chances = np.empty(most - fewest + 1)
    logarithm = fewest * math.log(total) - total - math.lgamma(fewest + 1.0)
    chance, below = math.exp(logarithm), 0.0
    for place in range(chances.size):
        below += chance
        chances[place] = below
        chance *= total / (fewest + place + 1)
    return chances


@compiled
def _sum_up(hazard):
    """Sums of the hazards up to each latent, and the first latent in each of 2 K equal parts."""
    num_parts = 2 * hazard.size
    up_to = np.empty(hazard.size)
    total = 0.0
    for latent in range(hazard.size):
        total += hazard[latent]
        up_to[latent] = total
    guide = np.empty(num_parts, np.int32)
    latent = 0
    for part in range(num_parts):
        while latent < hazard.size - 1 and up_to[latent] <= part * (total / num_parts):
            latent += 1
        guide[part] = latent
    return up_to, guide


@compiled
def _add_noise(loc, scale, threshold, largest, places, values):
    """Makes codes of non-zeros' random bits: 23 are the size beyond the threshold, one the sign."""
    for place in range(places.size):
        latent, bits = places[place], int(values[place])
        size = -np.log(np.float32(((bits >> 1) + 0.5) * 2.0**-23)) * scale[latent]
        size = min(size, largest * scale[latent] - threshold)
        values[place] = loc[latent] + (size if bits & 1 else -size)


@compiled
def draw_nonzeros(loc, scale, hazard, threshold, largest, seed, starts, places, values):
    """Draws of one datum's code: their non-zeros, one draw after another, latents in no order.

    Args:
      loc: [K].
      scale: [K].
      hazard: [K].
      threshold: of the noise.
      largest: size of the noise at most, in scales.
      seed: 64 bits.
      starts: [J + 1], where each draw's non-zeros start and the last one's end.
      places: their latents.
      values: values of the non-zeros.
    """
    starts[:] = 0
    up_to, guide = _sum_up(hazard)
    total = up_to[-1]
    if total == 0:
        return
    part = total / guide.size
    fewest, most = _fewest_and_most(total)
    chances = _poisson_distribution(total, fewest, most)
    seen = np.full(hazard.size, -1, np.int32)
    state, count = seed, 0
    for draw in range(starts.size - 1):
        state, bits = _random(state)
        chance = (bits >> np.uint64(11)) * UNIT_53
        num_events = fewest + min(np.searchsorted(chances, chance, side="right"), most - fewest)
        for _ in range(num_events):
            state, bits = _random(state)
            event = (bits >> np.uint64(32)) * UNIT_32 * total
            latent = guide[min(int(event / part), guide.size - 1)]
            while up_to[latent] <= event:
                latent += 1
            if seen[latent] != draw:
                seen[latent] = draw
                places[count] = latent
                # The bits that did not choose the latent.
                values[count] = (bits & np.uint64(0xFFFFFFFF)) >> np.uint64(8)
                count += 1
        starts[draw + 1] = count
    _add_noise(loc, scale, threshold, largest, places[:count], values[:count])


@compiled
def _score(data, atoms, starts, places, values, errors, rest):
    """Adds a block of features to each draw's squared error ||x - s A||^2."""
    for draw in range(errors.size):
        place, end = starts[draw], starts[draw + 1]
        for feature in range(FEATURES):
            rest[feature] = data[feature]
        while place + 4 <= end:
            a, b = values[place], values[place + 1]
            c, d = values[place + 2], values[place + 3]
            first, second = atoms[places[place]], atoms[places[place + 1]]
            third, fourth = atoms[places[place + 2]], atoms[places[place + 3]]
            for f in range(FEATURES):
                rest[f] -= a * first[f] + b * second[f] + c * third[f] + d * fourth[f]
            place += 4
        while place < end:
            value, atom = values[place], atoms[places[place]]
            for feature in range(FEATURES):
                rest[feature] -= value * atom[feature]
            place += 1
        error = np.float32(0)
        for feature in range(FEATURES):
            error += rest[feature] * rest[feature]
        errors[draw] += error


@compiled_in_parallel
def draw_and_choose(
    data, atoms, loc, scale, hazard, totals, threshold, largest, seeds, num_samples, codes
):
    """Writes each datum's draw of the least squared error to `codes`, which are zeros.

    Args:
      data: [N, blocks, FEATURES].
      atoms: [blocks, K, FEATURES].
      loc: [N, K].
      scale: [N, K].
      hazard: [N, K], finite.
      totals: [N], sums of the hazards.
      threshold: of the noise.
      largest: size of the noise at most, in scales.
      seeds: [N], 64 bits each.
      num_samples: J.
      codes: [N, K].
    """
    num_data, num_latents = loc.shape
    # A draw has no more non-zeros than latents, nor than events.
    room = num_samples * min(num_latents, _fewest_and_most(totals.max())[1] + 1)
    size = max(1, min(MOST_DATA, MOST_NONZEROS // room))
    num_groups = (num_data + size - 1) // size
    for group in prange(num_groups):
        start = group * size
        count = min(size, num_data - start)
        starts = np.empty((count, num_samples + 1), np.int64)
        places = np.empty((count, room), np.uint32)
        values = np.empty((count, room), np.float32)
        errors = np.zeros((count, num_samples), np.float32)
        rest = np.empty(FEATURES, np.float32)
        for n in range(count):
            datum = start + n
            draw_nonzeros(
                loc[datum], scale[datum], hazard[datum], threshold, largest, seeds[datum],
                starts[n], places[n], values[n],
            )  # fmt: skip
        for block in range(len(atoms)):
            for n in range(count):
                _score(
                    data[start + n, block], atoms[block],
                    starts[n], places[n], values[n], errors[n], rest,
                )  # fmt: skip
        for n in range(count):
            best = np.argmin(errors[n])
            for place in range(starts[n, best], starts[n, best + 1]):
                codes[start + n, places[n, place]] = values[n, place]
