"""The device's own convolutions; of images of few channels in a form that libraries run fast."""

import jax
import jax.numpy as jnp

from jvsc.kernels.convolutions.bilinear import Features, Images, Kernel, Maps, adjoint_of
from jvsc.kernels.convolutions.blocks import (
    Size,
    block_kernel,
    depth_to_space,
    turned,
    window_blocks,
)

# Convolutions of images of fewer channels leave most of a GPU's matrix units idle.
FEW_CHANNELS = 8


def _forward(images: Images, kernel: Kernel, stride: int, padding: int) -> Features:
    """The device's convolution; of few channels that of blocks, which have more."""
    if kernel.shape[2] >= FEW_CHANNELS:
        return _device_convolution(images, kernel, stride, ((padding, padding), (padding, padding)))
    weights = block_kernel(kernel, stride)
    blocks = window_blocks(images, kernel, stride, padding)
    filled = -blocks.shape[-1] % FEW_CHANNELS
    blocks = jnp.pad(blocks, ((0, 0), (0, 0), (0, 0), (0, filled)))
    weights = jnp.pad(weights, ((0, 0), (0, 0), (0, filled), (0, 0)))
    return _device_convolution(blocks, weights, 1, ((0, 0), (0, 0)))


def _adjoint(features: Features, kernel: Kernel, stride: int, padding: int, size: Size) -> Images:
    """The adjoint of `_forward`; to few channels as a convolution from features to blocks."""
    if kernel.shape[2] >= FEW_CHANNELS:
        forward = lambda images: _forward(images, kernel, stride, padding)  # noqa: E731
        return adjoint_of(forward, features, (features.shape[0], *size, kernel.shape[2]))
    weights = turned(block_kernel(kernel, stride))
    high, wide = weights.shape[:2]
    filled = -weights.shape[-1] % FEW_CHANNELS
    weights = jnp.pad(weights, ((0, 0), (0, 0), (0, 0), (0, filled)))
    around = ((high - 1, high - 1), (wide - 1, wide - 1))
    blocks = _device_convolution(features, weights, 1, around)[..., : weights.shape[-1] - filled]
    images = depth_to_space(blocks, stride)
    # Pixels beyond the last window are zero.
    missing = [(0, max(0, padding + n - m)) for n, m in zip(size, images.shape[1:3], strict=True)]
    images = jnp.pad(images, ((0, 0), *missing, (0, 0)))
    return images[:, padding : padding + size[0], padding : padding + size[1]]


def _of_kernel(
    images: Images, kernel: Kernel, features: Features, stride: int, padding: int
) -> Kernel:
    """The device's gradient by the kernel.

    What JAX derives for the kernel of `_adjoint` is a convolution whose window is as large as the
    images, which libraries run on a few of a GPU's processors.
    """
    around = ((padding, padding), (padding, padding))
    forward = lambda kernel: _device_convolution(images, kernel, stride, around)  # noqa: E731
    return jax.linear_transpose(forward, kernel)(features)[0]


def _device_convolution(
    images: Images, kernel: Kernel, stride: int, padding: tuple[tuple[int, int], tuple[int, int]]
) -> Features:
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


MAPS = Maps(_forward, _adjoint, _of_kernel)
