"""Improving given codes: least squares on their support, and steps that change the support."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Every so many moves the values on the support take a gradient step; the last ones, so many
# conjugate-gradient steps.
MOVES_A_STEP, LAST_STEPS = 2, 2


def least_squares_on_support(
    data: Float[Array, "B D"],
    dictionary: Float[Array, "K D"],
    codes: Float[Array, "B K"],
    num_steps: int,
    present: Bool[Array, "B D"] | None = None,
) -> Float[Array, "B K"]:
    """Conjugate-gradient steps of 0.5 ||x - s A||^2 over the non-zeros of each code alone.

    Hestenes & Stiefel (1952), on the normal equations. As many steps as a code has non-zeros would
    end at its least squares; from codes near it two or three suffice. Zeros stay zero.

    Args:
      data: x.
      dictionary: A.
      codes: s, where to start.
      num_steps: as many.
      present: which entries the error is taken of; by default all.
    """
    there = 1.0 if present is None else present.astype(data.dtype)
    support = codes != 0
    residual = there * (data - codes @ dictionary)
    slope = jnp.where(support, residual @ dictionary.T, 0.0)
    direction, square = slope, jnp.sum(slope**2, axis=1, keepdims=True)
    tiny = jnp.finfo(codes.dtype).tiny
    for _ in range(num_steps):
        image = there * (direction @ dictionary)
        length = square / jnp.maximum(jnp.sum(image**2, axis=1, keepdims=True), tiny)
        codes, residual = codes + length * direction, residual - length * image
        slope = jnp.where(support, residual @ dictionary.T, 0.0)
        following = jnp.sum(slope**2, axis=1, keepdims=True)
        direction = slope + following / jnp.maximum(square, tiny) * direction
        square = following
    return codes


class _Moving(NamedTuple):
    """Codes, and the correlation of their residual with each atom."""

    codes: Float[Array, "B K"]
    correlation: Float[Array, "B K"]


def refine_support(
    data: Float[Array, "B D"],
    dictionary: Float[Array, "K D"],
    codes: Float[Array, "B K"],
    penalty: float | Float[Array, ""],
    num_steps: int | Int[Array, ""],
) -> Float[Array, "B K"]:
    """Steps that lower 0.5 ||x - s A||^2 + penalty ||s||_0 of each datum, from given codes.

    A step changes the one latent of a datum whose best value, or zero, lowers the objective most:
    matching pursuit (Mallat & Zhang 1993) that may also leave an atom. Every second one is followed
    by a gradient step on the support, with the best length; the last by two of conjugate gradients.
    None raises the objective. A step is O(K) a datum, by the Gram matrix.

    Args:
      data: x.
      dictionary: A, of any norms but zero.
      codes: s, where to start.
      penalty: of each non-zero.
      num_steps: as many moves.
    """
    gram = dictionary @ dictionary.T
    energy = jnp.maximum(jnp.diag(gram), jnp.finfo(codes.dtype).tiny)
    rows = jnp.arange(data.shape[0])

    def move(number: Int[Array, ""], state: _Moving) -> _Moving:
        codes, correlation = state
        best = codes + correlation / energy
        kept = 0.5 * energy * best**2 > penalty
        best = jnp.where(kept, best, 0.0)
        change = best - codes
        gain = change * (correlation - 0.5 * energy * change)
        gain += penalty * ((codes != 0) * 1.0 - kept)
        chosen = jnp.argmax(gain, axis=1)
        change = jnp.where(gain[rows, chosen] > 0, change[rows, chosen], 0.0)
        codes = codes.at[rows, chosen].add(change)
        state = _Moving(codes, correlation - change[:, None] * gram[chosen])
        slide = (number + 1) % MOVES_A_STEP == 0
        return jax.lax.cond(slide, lambda state: _slide(state, gram), lambda state: state, state)

    start = _Moving(codes, (data - codes @ dictionary) @ dictionary.T)
    codes = jax.lax.fori_loop(0, num_steps, move, start).codes
    return least_squares_on_support(data, dictionary, codes, LAST_STEPS)


def _slide(state: _Moving, gram: Float[Array, "K K"]) -> _Moving:
    """A gradient step on the support, of the length that lowers the squared error most."""
    slope = jnp.where(state.codes != 0, state.correlation, 0.0)
    image = slope @ gram
    tiny = jnp.finfo(slope.dtype).tiny
    curvature = jnp.maximum(jnp.sum(slope * image, axis=1, keepdims=True), tiny)
    length = jnp.sum(slope**2, axis=1, keepdims=True) / curvature
    return _Moving(state.codes + length * slope, state.correlation - length * image)
