"""Strided and transposed convolutions as matrix products, and as the device's own.

XLA's own convolutions are slow on the CPU where they are strided or transposed; as products of
patches they run at the speed of its matrix product (see benchmarks/). On a GPU or TPU the device's
own are the fast ones, but for images of few channels, and for a transposed one's gradient as JAX
derives it. Which is used follows from the platform the program is compiled for. Derivatives are
taken in reverse mode only.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "B H W C"]
# What is convolved, and the kernel.
Primals = tuple[Array, Array]

# Convolutions of images of fewer channels leave most of a GPU's matrix units idle.
FEW_CHANNELS = 8


def convolve(
    images: Images, kernel: Float[Array, "h w C F"], stride: int, padding: int
) -> Float[Array, "B Y X F"]:
    """Convolution as neural networks mean it: a correlation with `kernel`, no bias.

    Args:
      images: one [H, W, C] image a datum.
      kernel: F filters.
      stride: pixels between two places of the kernel.
      padding: zeros around each image.

    Returns:
      Feature maps, Y = (H + 2 padding - h) // stride + 1 and likewise X.
    """
    return jax.lax.platform_dependent(
        images,
        kernel,
        cpu=lambda images, kernel: _convolve_by_products(images, kernel, stride, padding),
        default=lambda images, kernel: _convolve_by_device(images, kernel, stride, padding),
    )


def transposed_convolve(
    features: Float[Array, "B Y X F"], kernel: Float[Array, "h w C F"], stride: int, padding: int
) -> Images:
    """The adjoint of `convolve` with the same kernel, stride and padding.

    Args:
      features: feature maps.
      kernel: as `convolve` takes it: it leads from F feature maps to C channels.
      stride: pixels of the result between two features.
      padding: pixels cut off around the result.

    Returns:
      Images, H = (Y - 1) stride + h - 2 padding and likewise W.
    """

    def by_products(features: Array, kernel: Array) -> Array:
        forward = lambda images: _convolve_by_products(images, kernel, stride, padding)  # noqa: E731
        size = _images_size(features, kernel, stride, padding)
        return _adjoint(forward, features, (*size, kernel.shape[2]))

    def by_device(features: Array, kernel: Array) -> Array:
        return _transposed_by_device(features, kernel, stride, padding)

    return jax.lax.platform_dependent(features, kernel, cpu=by_products, default=by_device)


def _images_size(features: Array, kernel: Array, stride: int, padding: int) -> tuple[int, int]:
    """Height and width of what a transposed convolution gives."""
    height, width = (
        (size - 1) * stride + extent - 2 * padding
        for size, extent in zip(features.shape[1:3], kernel.shape[:2], strict=True)
    )
    return height, width


def _adjoint(
    forward: Callable[[Images], Array], features: Array, shape: tuple[int, int, int]
) -> Images:
    """The adjoint of what leads from images of a shape (H, W, C) to features."""
    images = jax.ShapeDtypeStruct((len(features), *shape), features.dtype)
    return jax.linear_transpose(forward, images)(features)[0]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_by_device(images: Array, kernel: Array, stride: int, padding: int) -> Array:
    return _forward(images, kernel, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transposed_by_device(features: Array, kernel: Array, stride: int, padding: int) -> Array:
    return _transposed(
        features, kernel, stride, padding, _images_size(features, kernel, stride, padding)
    )


# Both are derivatives of <features, convolve(images, kernel)>, and their gradients the others. What
# JAX derives for the transposed one's kernel is a convolution whose window is as large as the
# images, which libraries run on a few of a GPU's processors.
def _keep(operand: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, Primals]:
    return _convolve_by_device(operand, kernel, stride, padding), (operand, kernel)


def _keep_transposed(
    operand: Array, kernel: Array, stride: int, padding: int
) -> tuple[Array, Primals]:
    return _transposed_by_device(operand, kernel, stride, padding), (operand, kernel)


def _pull_back(stride: int, padding: int, primals: Primals, cotangent: Array) -> Primals:
    images, kernel = primals
    height, width = images.shape[1:3]
    return (
        _transposed(cotangent, kernel, stride, padding, (height, width)),
        _of_kernel(images, kernel, cotangent, stride, padding),
    )


def _pull_back_transposed(stride: int, padding: int, primals: Primals, cotangent: Array) -> Primals:
    features, kernel = primals
    of_features = _forward(cotangent, kernel, stride, padding)
    return of_features, _of_kernel(cotangent, kernel, features, stride, padding)


_convolve_by_device.defvjp(_keep, _pull_back)
_transposed_by_device.defvjp(_keep_transposed, _pull_back_transposed)


def _forward(images: Array, kernel: Array, stride: int, padding: int) -> Array:
    """The device's convolution; of few channels that of blocks, which have more."""
    if kernel.shape[2] >= FEW_CHANNELS:
        return _library(images, kernel, stride, ((padding, padding), (padding, padding)))
    rows, columns = _features_size(images, kernel, stride, padding)
    weights, (high, wide) = _block_kernel(kernel, stride)
    blocks = _space_to_depth(images, stride, padding, rows + high - 1, columns + wide - 1)
    filled = -blocks.shape[-1] % FEW_CHANNELS
    blocks = jnp.pad(blocks, ((0, 0), (0, 0), (0, 0), (0, filled)))
    weights = jnp.pad(weights, ((0, 0), (0, 0), (0, filled), (0, 0)))
    return _library(blocks, weights, 1, ((0, 0), (0, 0)))


def _transposed(
    features: Array, kernel: Array, stride: int, padding: int, size: tuple[int, int]
) -> Array:
    """The adjoint of `_forward`; to few channels as a convolution from features to blocks."""
    if kernel.shape[2] >= FEW_CHANNELS:
        forward = lambda images: _forward(images, kernel, stride, padding)  # noqa: E731
        return _adjoint(forward, features, (*size, kernel.shape[2]))
    weights, (high, wide) = _block_kernel(kernel, stride)
    weights = weights[::-1, ::-1].swapaxes(2, 3)
    filled = -weights.shape[-1] % FEW_CHANNELS
    weights = jnp.pad(weights, ((0, 0), (0, 0), (0, 0), (0, filled)))
    around = ((high - 1, high - 1), (wide - 1, wide - 1))
    blocks = _library(features, weights, 1, around)[..., : weights.shape[-1] - filled]
    images = _depth_to_space(blocks, stride)
    # Pixels beyond the last window are zero.
    missing = [(0, max(0, padding + n - m)) for n, m in zip(size, images.shape[1:3], strict=True)]
    images = jnp.pad(images, ((0, 0), *missing, (0, 0)))
    return images[:, padding : padding + size[0], padding : padding + size[1]]


def _of_kernel(images: Array, kernel: Array, features: Array, stride: int, padding: int) -> Array:
    """Gradient of <features, convolve(images, kernel)> by the kernel."""
    around = ((padding, padding), (padding, padding))
    forward = lambda kernel: _library(images, kernel, stride, around)  # noqa: E731
    return jax.linear_transpose(forward, kernel)(features)[0]


def _library(
    images: Array, kernel: Array, stride: int, padding: tuple[tuple[int, int], tuple[int, int]]
) -> Array:
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _features_size(images: Array, kernel: Array, stride: int, padding: int) -> tuple[int, ...]:
    """Rows and columns of what a convolution gives."""
    return tuple(
        (size + 2 * padding - extent) // stride + 1
        for size, extent in zip(images.shape[1:3], kernel.shape[:2], strict=True)
    )


def _block_kernel(kernel: Array, stride: int) -> tuple[Array, tuple[int, int]]:
    """The kernel that `_space_to_depth`'s blocks are convolved with, and how many it spans.

    Returns:
      [high, wide, stride * stride * C, F], and (high, wide).
    """
    high, wide = (-(-extent // stride) for extent in kernel.shape[:2])
    missing = (high * stride - kernel.shape[0], wide * stride - kernel.shape[1])
    kernel = jnp.pad(kernel, ((0, missing[0]), (0, missing[1]), (0, 0), (0, 0)))
    channels, filters = kernel.shape[2:]
    weights = kernel.reshape(high, stride, wide, stride, channels, filters)
    weights = weights.transpose(0, 2, 1, 3, 4, 5).reshape(high, wide, -1, filters)
    return weights, (high, wide)


def _convolve_by_products(images: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Pixels of one stride become channels, so that windows move by one; then one product."""
    rows, columns = _features_size(images, kernel, stride, padding)
    weights, (high, wide) = _block_kernel(kernel, stride)
    blocks = _space_to_depth(images, stride, padding, rows + high - 1, columns + wide - 1)
    windows = jnp.concatenate(
        [
            blocks[:, row : row + rows, column : column + columns]
            for row in range(high)
            for column in range(wide)
        ],
        axis=-1,
    )
    return windows @ weights.reshape(-1, weights.shape[-1])


def _space_to_depth(
    images: Array, stride: int, padding: int, num_rows: int, num_columns: int
) -> Array:
    """Zero-padded images, [B, H, W, C], as blocks [B, rows, columns, stride * stride * C]."""
    num_data, height, width, channels = images.shape
    after = (num_rows * stride - height - padding, num_columns * stride - width - padding)
    padded = jax.lax.pad(
        images,
        jnp.zeros((), images.dtype),
        ((0, 0, 0), (padding, after[0], 0), (padding, after[1], 0), (0, 0, 0)),
    )
    split = padded.reshape(num_data, num_rows, stride, num_columns, stride, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(num_data, num_rows, num_columns, -1)


def _depth_to_space(blocks: Array, stride: int) -> Images:
    """Blocks [B, rows, columns, stride * stride * C] as images, the adjoint of uncut blocks."""
    num_data, rows, columns, _ = blocks.shape
    split = blocks.reshape(num_data, rows, columns, stride, stride, -1)
    whole = split.transpose(0, 1, 3, 2, 4, 5)
    return whole.reshape(num_data, rows * stride, columns * stride, split.shape[-1])
