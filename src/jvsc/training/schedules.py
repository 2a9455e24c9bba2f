"""Schedules: functions from the step to a number."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def one_cycle(peak: float, num_steps: int) -> optax.Schedule:
    """Learning rate of one cycle: a short linear rise, then a long cosine (Smith & Topin 2019).

    Args:
      peak: the largest learning rate.
      num_steps: steps of the whole training.

    Returns:
      A schedule that rises from `peak / 25` to `peak` over the first 5% of the steps and falls
      on a cosine to `peak / 25e4` at the end.
    """
    rise = max(1, round(0.05 * num_steps))
    return optax.join_schedules(
        [
            optax.linear_schedule(peak / 25, peak, rise),
            optax.cosine_decay_schedule(peak, max(1, num_steps - rise), alpha=1 / 25e4),
        ],
        [rise],
    )


def exponential_decay(initial: float, decay: float, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate `initial * decay^epoch`, constant within an epoch (appendix D)."""
    return optax.exponential_decay(initial, steps_per_epoch, decay, staircase=True)


def warmup(step: ArrayLike, start: float, begin: int, increment: float) -> Float[Array, ""]:
    """A factor that stays at `start` until step `begin`, then grows linearly up to 1 (appendix B).

    Args:
      step: the number of steps done, a scalar.
      start: first value, in [0, 1].
      begin: the step from which the factor grows.
      increment: growth a step.

    Returns:
      A float32 scalar in [`start`, 1].
    """
    growth = increment * jnp.maximum(jnp.asarray(step, jnp.float32) - begin, 0.0)
    return jnp.minimum(start + growth, 1.0)


def temperature(step: ArrayLike, decay: float, minimum: float) -> Float[Array, ""]:
    """Temperature `max(decay^step, minimum)` of the relaxed Bernoulli variable (appendix D)."""
    return jnp.maximum(jnp.power(decay, jnp.asarray(step, jnp.float32)), minimum)
