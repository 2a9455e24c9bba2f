"""The patches' networks: dense layers for the encoder, a dictionary for the generator."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jvsc.model.networks.base import (
    DenseLayer,
    Encoder,
    Generator,
    Linear,
    LinearGenerativeModel,
    NetworkParameters,
    NetworkStatistics,
    at_least_float32,
)
from jvsc.model.thresholding import Heads


class MLP(nn.Module):
    """Dense layers, ReLU after each (table 3), then one linear head a posterior parameter."""

    features: tuple[int, ...]
    heads: tuple[str, ...]
    num_latents: int
    dtype: Any = None
    offsets: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> Heads:
        for index, features in enumerate(self.features):
            x = nn.relu(Linear(features, self.dtype, name=f"hidden_{index}")(x))
        x = at_least_float32(x)
        heads = {name: Linear(self.num_latents, name=name)(x) for name in self.heads}
        for name, offset in zip(self.heads, self.offsets, strict=False):
            heads[name] += offset
        return heads


def mlp_encoder(
    num_features: int,
    num_latents: int,
    heads: tuple[str, ...],
    hidden: tuple[int, ...] = (512, 1024, 512, 256),
    dtype: Any = None,
    offsets: tuple[float, ...] = (),
) -> Encoder:
    """The patches' encoder of table 3: D -> 512 -> 1024 -> 512 -> 256 -> one head of K each.

    Args:
      num_features: D.
      num_latents: K.
      heads: names of the posterior's parameters.
      hidden: width of each hidden layer.
      dtype: what the hidden layers compute in; that of the data by default.
      offsets: added to each head, such as the prior's values, near which a training then begins;
        nothing by default.
    """
    network = MLP(hidden, heads, num_latents, dtype, offsets)

    # As one program: operation by operation the forward pass would be computed too, for nothing.
    @jax.jit
    def init(key: Key[Array, ""]) -> tuple[NetworkParameters, NetworkStatistics]:
        return network.init(key, jnp.zeros((1, num_features)))["params"], {}

    def apply(
        parameters: NetworkParameters,
        statistics: NetworkStatistics,
        data: Float[Array, "B D"],
        training: bool,
        generative: LinearGenerativeModel | None = None,
    ) -> tuple[Heads, NetworkStatistics]:
        del training, generative
        heads: Any = network.apply({"params": parameters}, data)
        return heads, statistics

    return Encoder(init, apply, None if dtype == jnp.bfloat16 else dense_layers)


def dense_layers(parameters: NetworkParameters, data: Float[Array, "B D"]) -> dict[str, DenseLayer]:
    """Layers of `mlp_encoder` by their names in its parameters, in their order; heads come last.

    Args:
      parameters: the encoder's.
      data: x.
    """
    x, layers = data, {}
    for name in sorted((name for name in parameters if name.startswith("hidden_")), key=_place):
        weights = parameters[name]["Dense_0"]
        layers[name] = DenseLayer(x, weights["kernel"])
        x = nn.relu(x @ weights["kernel"] + weights["bias"])
    heads = {
        name: DenseLayer(x, parameters[name]["Dense_0"]["kernel"])
        for name in parameters
        if name not in layers
    }
    return layers | heads


def _place(name: str) -> int:
    return int(name.removeprefix("hidden_"))


def dictionary_generator(
    num_features: int, num_latents: int, initial_norm: float = 1.0
) -> Generator:
    """The linear generator `codes @ dictionary` (section 4.1), its parameter a matrix [K, D].

    Atoms start as random directions of one norm. Its loss 0.5 ||x - s A||^2 is D / 2 times the
    mean squared error.

    Args:
      num_features: D.
      num_latents: K.
      initial_norm: of each atom.
    """

    def init(key: Key[Array, ""]) -> tuple[Float[Array, "K D"], NetworkStatistics]:
        atoms = jax.random.normal(key, (num_latents, num_features), jnp.float32)
        return initial_norm * atoms / jnp.linalg.norm(atoms, axis=1, keepdims=True), {}

    def apply(
        dictionary: NetworkParameters,
        statistics: NetworkStatistics,
        codes: Float[Array, "*B K"],
        training: bool,
    ) -> tuple[Float[Array, "*B D"], NetworkStatistics]:
        del training
        return codes @ dictionary, statistics

    return Generator(init, apply, loss_scale=num_features / 2, is_dictionary=True)
