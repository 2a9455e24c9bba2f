"""The ReLU autoencoder with an L1 penalty (Bricken et al. 2023; Cunningham et al. 2023)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.model.autoencoders.base import (
    NO_STATISTICS,
    Autoencoder,
    decode,
    initial_parameters,
    pre_activations,
    sum_of_squares,
)
from jvsc.model.parameters import Parameters, Statistics


def relu_l1(num_features: int, num_latents: int) -> Autoencoder:
    """Codes ReLU(z), loss ||x - x_hat||^2 + lambda ||s||_1.

    Bricken et al. 2023, whose resampling of neurons is left out; Cunningham et al. 2023.

    Args:
      num_features: D.
      num_latents: K.
    """

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        return initial_parameters(key, num_features, num_latents), NO_STATISTICS

    def infer(
        parameters: Parameters, statistics: Statistics, data: Float[Array, "B D"]
    ) -> Float[Array, "B K"]:
        del statistics
        return jax.nn.relu(pre_activations(parameters, data))

    def loss(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> tuple[Float[Array, " B"], Float[Array, "B K"], Statistics]:
        codes = infer(parameters, statistics, data)
        error = data - decode(parameters.generator, codes)
        return sum_of_squares(error) + penalty * jnp.sum(codes, axis=-1), codes, statistics

    return Autoencoder(init, infer, loss)
