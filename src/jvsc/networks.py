"""Encoders and generators: the only room that knows Flax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.thresholds import Heads

Parameters = Any


class Encoder(NamedTuple):
    """A network from data to posterior parameters.

    Attributes:
      init: `key -> parameters`.
      apply: `(parameters, data [B, D]) -> {head: [B, K]}`.
    """

    init: Callable[[Key[Array, ""]], Parameters]
    apply: Callable[[Parameters, Float[Array, "B D"]], Heads]


class Generator(NamedTuple):
    """A network from codes to data.

    Attributes:
      init: `key -> parameters`.
      apply: `(parameters, codes [..., K]) -> data [..., D]`.
    """

    init: Callable[[Key[Array, ""]], Parameters]
    apply: Callable[[Parameters, Float[Array, "*B K"]], Float[Array, "*B D"]]


def uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default initialisation, uniform(-1/sqrt(fan_in), 1/sqrt(fan_in)) (SPEC 5)."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nn.Module):
    """A dense layer with PyTorch's default initialisation of weights and biases."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B K"]:
        init = uniform_fan_in(x.shape[-1])
        return nn.Dense(self.features, kernel_init=init, bias_init=init)(x)


class MLP(nn.Module):
    """Dense layers, ReLU after each (table 3), then one linear head a posterior parameter."""

    features: tuple[int, ...]
    heads: tuple[str, ...]
    num_latents: int

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> Heads:
        for index, features in enumerate(self.features):
            x = nn.relu(Linear(features, name=f"hidden_{index}")(x))
        return {name: Linear(self.num_latents, name=name)(x) for name in self.heads}


def mlp_encoder(
    num_features: int,
    num_latents: int,
    heads: tuple[str, ...],
    hidden: tuple[int, ...] = (512, 1024, 512, 256),
) -> Encoder:
    """The patches' encoder of table 3: D -> 512 -> 1024 -> 512 -> 256 -> one head of K each.

    Args:
      num_features: D.
      num_latents: K.
      heads: names of the posterior's parameters.
      hidden: width of each hidden layer.
    """
    network = MLP(hidden, heads, num_latents)
    return Encoder(
        init=lambda key: network.init(key, jnp.zeros((1, num_features)))["params"],
        apply=lambda parameters, x: network.apply({"params": parameters}, x),  # type: ignore
    )


def dictionary_generator(num_features: int, num_latents: int) -> Generator:
    """The linear generator `codes @ dictionary` (section 4.1), its parameter a matrix [K, D].

    Atoms start as random directions of unit norm.

    Args:
      num_features: D.
      num_latents: K.
    """

    def init(key: Key[Array, ""]) -> Float[Array, "K D"]:
        atoms = jax.random.normal(key, (num_latents, num_features))
        return atoms / jnp.linalg.norm(atoms, axis=1, keepdims=True)

    return Generator(init, lambda dictionary, codes: codes @ dictionary)
