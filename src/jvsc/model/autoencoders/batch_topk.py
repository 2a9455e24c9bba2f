"""The BatchTopK autoencoder (Bussmann et al. 2024)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.model.autoencoders.base import (
    Autoencoder,
    check_active,
    decode,
    initial_parameters,
    pre_activations,
    sum_of_squares,
)
from jvsc.model.autoencoders.topk import auxiliary_loss, silence
from jvsc.model.parameters import Parameters, Statistics

# Share of the newest batch in the moving average of the threshold.
THRESHOLD_RATE = 0.01

# (data [B, D], codes [B, K], generator) -> error of each datum
CodingError = Callable[
    [Float[Array, "B D"], Float[Array, "B K"], Any],
    Float[Array, " B"],
]


def coding_error(
    data: Float[Array, "B D"], codes: Float[Array, "B K"], generator: Any
) -> Float[Array, " B"]:
    """||x - x_hat||^2."""
    return sum_of_squares(data - decode(generator, codes))


def largest_of_batch(
    values: Float[Array, "B K"], count: int, axis_name: str | None = None
) -> Float[Array, "B K"]:
    """The `count` largest of a whole batch where they are positive, zero elsewhere.

    Ties with the smallest of them are kept too. The smallest is found by bisection of its bits,
    which are ordered as positive numbers are: devices exchange counts only, and all find the same.

    Args:
      values: of a batch, or a device's share of it.
      count: of all devices together.
      axis_name: mesh axis over which the batch is spread.
    """
    values = jax.nn.relu(values)
    integer = jnp.dtype(f"int{jnp.finfo(values.dtype).bits}")
    bits = jax.lax.bitcast_convert_type(values, integer)

    def halve(_, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low + 1) // 2
        reached = jnp.sum(bits >= middle, dtype=jnp.int32)
        if axis_name is not None:
            reached = jax.lax.psum(reached, axis_name)
        enough = reached >= count
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    # From one, the bits of the least positive number: zeros are no codes.
    bounds = jnp.ones((), integer), jnp.array(jnp.iinfo(integer).max, integer)
    smallest, _ = jax.lax.fori_loop(0, jnp.iinfo(integer).bits, halve, bounds)
    return jnp.where(bits >= smallest, values, 0.0)


def batch_topk(
    num_features: int,
    num_latents: int,
    active: int,
    auxiliary_active: int = 512,
    auxiliary_weight: float = 1 / 32,
    dead_after: int = 10_000,
    axis_name: str | None = None,
    error: CodingError = coding_error,
) -> Autoencoder:
    """Codes of a batch's B k largest pre-activations, loss ||x - x_hat||^2 + AuxK.

    Bussmann, Leask & Nanda (2024). So a datum has as many non-zeros as it needs, k on average. A
    code that does not depend on a batch is that of a threshold: its pre-activations above the mean
    over training batches of their smallest positive code, which is kept as a moving average.

    Args:
      num_features: D.
      num_latents: K.
      active: k.
      auxiliary_active: how many dead latents model the error.
      auxiliary_weight: of their loss.
      dead_after: steps after which a latent that has not been active is dead.
      axis_name: mesh axis over which a batch is spread in training.
      error: replaces ||x - x_hat||^2 in the loss.

    Raises:
      UserError: if k is more than there are latents.
    """
    check_active(active, num_latents)
    auxiliary_active = min(auxiliary_active, num_latents)

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        start = {
            "silent_steps": jnp.zeros(num_latents, jnp.int32),
            "threshold": jnp.zeros((), jnp.float32),
        }
        return initial_parameters(key, num_features, num_latents), Statistics(start, {})

    def infer(
        parameters: Parameters, statistics: Statistics, data: Float[Array, "B D"]
    ) -> Float[Array, "B K"]:
        pre = pre_activations(parameters, data)
        return jnp.where(pre > statistics.encoder["threshold"], pre, 0.0)

    def loss(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> tuple[Float[Array, " B"], Float[Array, "B K"], Statistics]:
        del penalty
        pre = pre_activations(parameters, data)
        shares = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        codes = largest_of_batch(pre, active * data.shape[0] * shares, axis_name)
        residual = data - decode(parameters.generator, codes)
        before = statistics.encoder
        dead = before["silent_steps"] >= dead_after
        dictionary = parameters.generator["dictionary"]
        left = auxiliary_loss(residual, pre, dead, dictionary, auxiliary_active)
        after = {
            "silent_steps": silence(before["silent_steps"], codes, axis_name),
            "threshold": _averaged(before["threshold"], codes, axis_name),
        }
        losses = error(data, codes, parameters.generator) + auxiliary_weight * left
        return losses, codes, Statistics(after, {})

    return Autoencoder(init, infer, loss)


def _averaged(
    threshold: Float[Array, ""], codes: Float[Array, "B K"], axis_name: str | None
) -> Float[Array, ""]:
    """The moving average after a batch; the first batch gives its initial value."""
    smallest = jnp.min(jnp.where(codes > 0, jax.lax.stop_gradient(codes), jnp.inf))
    if axis_name is not None:
        smallest = jax.lax.pmin(smallest, axis_name)
    rate = jnp.where(threshold > 0, THRESHOLD_RATE, 1.0)
    average = threshold + rate * (smallest - threshold)
    return jnp.where(jnp.isfinite(smallest), average, threshold).astype(threshold.dtype)
