"""The TopK autoencoder with AuxK (Gao et al. 2024)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jvsc.model.autoencoders.base import (
    Autoencoder,
    check_active,
    decode,
    initial_parameters,
    pre_activations,
    sum_of_squares,
)
from jvsc.model.parameters import Parameters, Statistics


def keep_largest(values: Float[Array, "B K"], count: int) -> Float[Array, "B K"]:
    """The `count` largest of each row where they are positive, zero elsewhere."""
    largest, places = jax.lax.top_k(values, count)
    rows = jnp.arange(values.shape[0])[:, None]
    return jnp.zeros_like(values).at[rows, places].set(jax.nn.relu(largest))


def auxiliary_loss(
    error: Float[Array, "B D"],
    pre: Float[Array, "B K"],
    dead: Bool[Array, " K"],
    dictionary: Float[Array, "K D"],
    count: int,
) -> Float[Array, " B"]:
    """Squared error of the dead latents' reconstruction of the error: ||e - e_hat||^2 (AuxK).

    e_hat is made of the `count` largest dead latents (Gao et al. 2024, appendix A.2). The error e
    has no gradient here; the loss is zero where no latent is dead.

    Args:
      error: e = x - x_hat.
      pre: pre-activations.
      dead: whether each latent is dead.
      dictionary: A.
      count: number of dead latents that are used.
    """
    revived = keep_largest(jnp.where(dead, pre, -jnp.inf), count)
    left = sum_of_squares(jax.lax.stop_gradient(error) - revived @ dictionary)
    return jnp.where(jnp.any(dead), left, 0.0)


def topk(
    num_features: int,
    num_latents: int,
    active: int,
    auxiliary_active: int = 512,
    auxiliary_weight: float = 1 / 32,
    dead_after: int = 10_000,
    axis_name: str | None = None,
) -> Autoencoder:
    """Codes of the k largest pre-activations, loss ||x - x_hat||^2 + AuxK (Gao et al. 2024).

    Args:
      num_features: D.
      num_latents: K.
      active: k; negative ones among them become zero.
      auxiliary_active: how many dead latents model the error.
      auxiliary_weight: of their loss.
      dead_after: steps after which a latent that has not been active is dead.
      axis_name: mesh axis over which a batch is spread in training.

    Raises:
      UserError: if k is more than there are latents.
    """
    check_active(active, num_latents)
    auxiliary_active = min(auxiliary_active, num_latents)

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        silent = jnp.zeros(num_latents, jnp.int32)
        parameters = initial_parameters(key, num_features, num_latents)
        return parameters, Statistics({"silent_steps": silent}, {})

    def infer(
        parameters: Parameters, statistics: Statistics, data: Float[Array, "B D"]
    ) -> Float[Array, "B K"]:
        del statistics
        return keep_largest(pre_activations(parameters, data), active)

    def loss(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> tuple[Float[Array, " B"], Float[Array, "B K"], Statistics]:
        del penalty
        pre = pre_activations(parameters, data)
        codes = keep_largest(pre, active)
        error = data - decode(parameters.generator, codes)
        silent = statistics.encoder["silent_steps"]
        dictionary = parameters.generator["dictionary"]
        left = auxiliary_loss(error, pre, silent >= dead_after, dictionary, auxiliary_active)
        new_statistics = Statistics({"silent_steps": silence(silent, codes, axis_name)}, {})
        return sum_of_squares(error) + auxiliary_weight * left, codes, new_statistics

    return Autoencoder(init, infer, loss)


def silence(
    silent: Int[Array, " K"], codes: Float[Array, "B K"], axis_name: str | None
) -> Int[Array, " K"]:
    """Steps since each latent was last active, on any device.

    Args:
      silent: before a batch.
      codes: of the batch, or of a device's share of it.
      axis_name: mesh axis over which it is spread.
    """
    active = jnp.any(codes != 0, axis=0)
    if axis_name is not None:
        active = jax.lax.pmax(active.astype(jnp.int32), axis_name) > 0
    return jnp.where(active, 0, silent + 1)
