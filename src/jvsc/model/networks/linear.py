"""The smallest encoder: one linear layer, as sparse autoencoders have."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.model.networks.base import (
    Encoder,
    LinearGenerativeModel,
    NetworkParameters,
    NetworkStatistics,
    check_prior,
)
from jvsc.model.thresholding import Heads

# Heads that say how large a latent's noise is; of a posterior with a gate they need no data.
NOISE_HEADS = ("log_scale", "log_variance")


def linear_encoder(num_features: int, num_latents: int, prior: dict[str, float]) -> Encoder:
    """Locations x W + c; what decides whether a latent is in use x V + d + g |loc|.

    The latter is the `gate`, or without one every other head; with a gate the noise's size is a
    number for each latent. V, c and g start at zero, d at the prior's heads, W at random columns
    of mean squared norm 1.

    Args:
      num_features: D.
      num_latents: K.
      prior: the posterior's heads, with the values at which they are the prior.

    Raises:
      UserError: if the values are not given.
    """
    check_prior(prior)
    constant = tuple(name for name in prior if name in NOISE_HEADS and "gate" in prior)
    following = tuple(name for name in prior if name != "loc" and name not in constant)

    def init(key: Key[Array, ""]) -> tuple[NetworkParameters, NetworkStatistics]:
        kernel = jax.random.normal(key, (num_features, num_latents), jnp.float32)
        kernel /= num_features**0.5
        parameters: NetworkParameters = {
            "loc_kernel": kernel,
            "loc_offset": jnp.zeros(num_latents, jnp.float32),
        }
        for name in (*constant, *following):
            parameters[f"{name}_offset"] = jnp.full(num_latents, prior[name], jnp.float32)
        for name in following:
            parameters[f"{name}_kernel"] = jnp.zeros_like(kernel)
            parameters[f"{name}_size_slope"] = jnp.zeros(num_latents, jnp.float32)
        return parameters, {}

    def apply(
        parameters: NetworkParameters,
        statistics: NetworkStatistics,
        data: Float[Array, "B D"],
        training: bool,
        generative: LinearGenerativeModel | None = None,
    ) -> tuple[Heads, NetworkStatistics]:
        del training, generative
        loc = data @ parameters["loc_kernel"] + parameters["loc_offset"]
        heads = {"loc": loc}
        for name in constant:
            heads[name] = jnp.broadcast_to(parameters[f"{name}_offset"], loc.shape)
        for name in following:
            projected = data @ parameters[f"{name}_kernel"] + parameters[f"{name}_offset"]
            heads[name] = projected + parameters[f"{name}_size_slope"] * jnp.abs(loc)
        return {name: heads[name] for name in prior}, statistics

    return Encoder(init, apply)
