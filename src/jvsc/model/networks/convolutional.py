"""The conv encoders and generators of tables 4 and 5, for 28x28 and 64x64 images."""

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.kernels.convolutions import convolve, transposed_convolve
from jvsc.model.networks.base import (
    Encoder,
    Generator,
    Linear,
    LinearGenerativeModel,
    NetworkParameters,
    NetworkStatistics,
    at_least_float32,
    split_variables,
    uniform_fan_in,
)
from jvsc.model.thresholding import Heads

KERNEL = 4
# Where the slope of a gate's log-odds over its deviation from the mean begins.
GATE_SLOPE = 2.0


class Layer(NamedTuple):
    """A 4x4 convolution: its number of feature maps, stride and padding."""

    features: int
    stride: int
    padding: int


class Architecture(NamedTuple):
    """Layers of an encoder and of the generator that mirrors it.

    Attributes:
      shape: an image's (H, W, C).
      encoder: convolutions, down to one pixel.
      start: shape (H, W, features) of the maps that the generator starts from.
      generator: transposed convolutions, up to an image.
    """

    shape: tuple[int, int, int]
    encoder: tuple[Layer, ...]
    start: tuple[int, int, int]
    generator: tuple[Layer, ...]


ARCHITECTURES = {
    "fashion_mnist": Architecture(
        (28, 28, 1),
        (Layer(64, 2, 1), Layer(64, 2, 1), Layer(128, 1, 0), Layer(128, 2, 0)),
        (1, 1, 128),
        (Layer(128, 2, 0), Layer(64, 1, 0), Layer(64, 2, 1), Layer(1, 2, 1)),
    ),
    "celeba": Architecture(
        (64, 64, 3),
        (Layer(64, 2, 1), Layer(64, 2, 1), Layer(128, 2, 1), Layer(256, 2, 1), Layer(256, 2, 0)),
        (2, 2, 256),
        (Layer(128, 2, 1), Layer(128, 2, 1), Layer(64, 2, 1), Layer(64, 2, 1), Layer(3, 2, 1)),
    ),
}
# A folder of images, in colour too.
ARCHITECTURES["images"] = ARCHITECTURES["celeba"]


class Convolution(nn.Module):
    """A convolution, or its adjoint, with PyTorch's default initialisation."""

    layer: Layer
    transposed: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B Y X F"]:
        channels = (x.shape[-1], self.layer.features)
        shape = (KERNEL, KERNEL, *(reversed(channels) if self.transposed else channels))
        # PyTorch counts a transposed kernel's outputs as its fan-in.
        init = uniform_fan_in(KERNEL * KERNEL * shape[2])
        kernel = self.param("kernel", init, shape).astype(self.dtype)
        bias = self.param("bias", init, (self.layer.features,)).astype(self.dtype)
        apply = transposed_convolve if self.transposed else convolve
        return apply(x.astype(self.dtype), kernel, self.layer.stride, self.layer.padding) + bias


class BatchNormalisation(nn.Module):
    """BatchNorm with PyTorch's constants, its statistics in float32 and over all devices.

    Gates are only centred and scaled.
    """

    axis_name: str | None
    dtype: Any
    of_gates: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*B F"], training: bool) -> Float[Array, "*B F"]:
        return nn.BatchNorm(
            use_running_average=not training,
            momentum=0.9,
            epsilon=1e-5,
            use_bias=not self.of_gates,
            use_scale=not self.of_gates,
            # Of a mean far from zero the fast variance has no digits left.
            use_fast_variance=not self.of_gates,
            axis_name=None if self.is_initializing() else self.axis_name,
            dtype=self.dtype,
        )(x)


class LifetimeSparseGate(nn.Module):
    """Log-odds that a latent is in use, normalised over the data for each latent alike.

    Lifetime sparsity (Makhzani & Frey 2015), here by batch normalisation: a normal variable exceeds
    the offset for the wanted share of the data, less than 1/2. Whatever its distribution, no latent
    is in use for more than 1 / (1 + offset^2) of a training batch (Cantelli); one may still be
    never in use, as is one whose gate hardly varies. How sure gates are is learned.
    """

    sparsity: float
    axis_name: str | None

    @nn.compact
    def __call__(self, gate: Float[Array, "B K"], training: bool) -> Float[Array, "B K"]:
        normalise = BatchNormalisation(
            self.axis_name, gate.dtype, of_gates=True, name="normalisation"
        )
        start = nn.initializers.constant(math.log(GATE_SLOPE), jnp.float32)
        slope = jnp.exp(self.param("log_slope", start, gate.shape[-1:]))
        offset = NormalDist().inv_cdf(1 - self.sparsity)
        return slope * (normalise(gate, training) - offset)


class ConvEncoder(nn.Module):
    """Convolutions, each with BatchNorm and ReLU, then one linear head a posterior parameter."""

    architecture: Architecture
    heads: tuple[str, ...]
    num_latents: int
    lifetime_sparsity: float | None
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, data: Float[Array, "B D"], training: bool) -> Heads:
        x = data.reshape(-1, *self.architecture.shape)
        for index, layer in enumerate(self.architecture.encoder):
            x = Convolution(layer, False, self.dtype, name=f"convolution_{index}")(x)
            x = BatchNormalisation(self.axis_name, self.dtype, name=f"normalisation_{index}")(
                x, training
            )
            x = nn.relu(x)
        x = at_least_float32(x.reshape(x.shape[0], -1))
        heads = {name: Linear(self.num_latents, name=name)(x) for name in self.heads}
        if self.lifetime_sparsity is not None:
            even = LifetimeSparseGate(self.lifetime_sparsity, self.axis_name, name="lifetime")
            heads["gate"] = even(heads["gate"], training)
        return heads


class ConvGenerator(nn.Module):
    """A dense layer with ReLU, transposed convolutions with BatchNorm and ReLU, a sigmoid."""

    architecture: Architecture
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, codes: Float[Array, "B K"], training: bool) -> Float[Array, "B D"]:
        height, width, features = self.architecture.start
        x = nn.relu(Linear(height * width * features, self.dtype, name="start")(codes))
        x = x.reshape(-1, height, width, features)
        *hidden, last = self.architecture.generator
        for index, layer in enumerate(hidden):
            x = Convolution(layer, True, self.dtype, name=f"convolution_{index}")(x)
            x = BatchNormalisation(self.axis_name, self.dtype, name=f"normalisation_{index}")(
                x, training
            )
            x = nn.relu(x)
        x = Convolution(last, True, self.dtype, name=f"convolution_{len(hidden)}")(x)
        return nn.sigmoid(at_least_float32(x)).reshape(codes.shape[0], -1)


def conv_encoder(
    architecture: Architecture,
    num_latents: int,
    heads: tuple[str, ...],
    *,
    lifetime_sparsity: float | None = None,
    axis_name: str | None = None,
    dtype: Any = jnp.float32,
) -> Encoder:
    """The conv encoder of tables 4 and 5, with the published code's widths where they differ.

    Args:
      architecture: of `ARCHITECTURES`.
      num_latents: K.
      heads: names of the posterior's parameters.
      lifetime_sparsity: share of the data for which each latent is to be in use, where the heads
        have a gate (`LifetimeSparseGate`).
      axis_name: mesh axis over whose devices the batch is spread, if it is.
      dtype: what convolutions compute in; parameters, statistics and heads are float32.

    Raises:
      UserError: if `lifetime_sparsity` is given and there is no gate, or outside (0, 1/2).
    """
    if lifetime_sparsity is not None:
        if "gate" not in heads:
            raise UserError("lifetime_sparsity needs a posterior with a gate; leave it out")
        if not 0 < lifetime_sparsity < 0.5:
            raise UserError(f"lifetime_sparsity is {lifetime_sparsity}; give a share below 1/2")
    network = ConvEncoder(architecture, heads, num_latents, lifetime_sparsity, axis_name, dtype)

    # As one program: operation by operation the forward pass would be computed too, for nothing.
    @jax.jit
    def init(key: Key[Array, ""]) -> tuple[NetworkParameters, NetworkStatistics]:
        num_pixels = math.prod(architecture.shape)
        return split_variables(network.init(key, jnp.zeros((1, num_pixels)), training=False))

    def apply(
        parameters: NetworkParameters,
        statistics: NetworkStatistics,
        data: Float[Array, "B D"],
        training: bool,
        generative: LinearGenerativeModel | None = None,
    ) -> tuple[Heads, NetworkStatistics]:
        del generative
        return _apply(network, parameters, statistics, data, training)

    return Encoder(init, apply)


def conv_generator(
    architecture: Architecture,
    num_latents: int,
    *,
    axis_name: str | None = None,
    dtype: Any = jnp.float32,
) -> Generator:
    """The conv generator of tables 4 and 5, with the published code's widths; images in [0, 1].

    Args:
      architecture: of `ARCHITECTURES`.
      num_latents: K.
      axis_name: mesh axis over whose devices the batch is spread, if it is.
      dtype: what convolutions compute in; parameters, statistics and the sigmoid are float32.
    """
    network = ConvGenerator(architecture, axis_name, dtype)

    # As one program: operation by operation the forward pass would be computed too, for nothing.
    @jax.jit
    def init(key: Key[Array, ""]) -> tuple[NetworkParameters, NetworkStatistics]:
        return split_variables(network.init(key, jnp.zeros((1, num_latents)), training=False))

    def apply(
        parameters: NetworkParameters,
        statistics: NetworkStatistics,
        codes: Float[Array, "*B K"],
        training: bool,
    ) -> tuple[Float[Array, "*B D"], NetworkStatistics]:
        flat = codes.reshape(-1, codes.shape[-1])
        data, statistics = _apply(network, parameters, statistics, flat, training)
        return data.reshape(*codes.shape[:-1], data.shape[-1]), statistics

    return Generator(init, apply)


def _apply(
    network: nn.Module,
    parameters: NetworkParameters,
    statistics: NetworkStatistics,
    x: Array,
    training: bool,
) -> tuple[Any, NetworkStatistics]:
    variables = {"params": parameters, "batch_stats": statistics}
    if not training:
        return network.apply(variables, x, training=False), statistics
    result, variables_after = network.apply(variables, x, training=True, mutable=["batch_stats"])
    return result, variables_after["batch_stats"]
