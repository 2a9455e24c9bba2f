"""Convolutions as products of matrices, for the CPU: of windows, or by minimal filtering."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jvsc.convolutions import minimal_filtering
from jvsc.convolutions.bilinear import Features, Images, Kernel, Maps
from jvsc.convolutions.blocks import (
    FEW_CHANNELS,
    Size,
    block_kernel,
    contract_places,
    features_size,
    space_to_depth,
)

# Where filtering leaves a larger share of the products, what it copies and adds takes as long as
# what it saves.
WORTHWHILE_SHARE = 0.8


def choose(size: Size, kernel: Kernel, stride: int, padding: int) -> Maps:
    """How images of a size (H, W) are convolved on a CPU."""
    if kernel.shape[2] < FEW_CHANNELS or kernel.dtype.itemsize < 4:
        # Sums of blocks would round what few bits there are.
        return WINDOWS
    height, width = kernel.shape[:2]
    if height != width or height % (2 * stride):
        return WINDOWS
    rows, columns = features_size(size, kernel, stride, padding)
    shifts = height // (2 * stride)
    products = 1
    for length in (rows, columns):
        products *= shifts * 3 * -(-length // (2 * shifts))
    return MINIMAL_FILTERING if products <= WORTHWHILE_SHARE * 4 * rows * columns else WINDOWS


def _windows(images: Images, kernel: Kernel, stride: int, padding: int) -> Float[Array, "B Y X N"]:
    """Pixels of one stride become channels, so that windows move by one."""
    rows, columns = features_size(images.shape[1:3], kernel, stride, padding)
    high, wide = (-(-extent // stride) for extent in kernel.shape[:2])
    blocks = space_to_depth(
        images, stride, (padding, padding), (rows + high - 1, columns + wide - 1)
    )
    return jnp.concatenate(
        [
            blocks[:, row : row + rows, column : column + columns]
            for row in range(high)
            for column in range(wide)
        ],
        axis=-1,
    )


def _window_kernel(kernel: Kernel, stride: int) -> Float[Array, "N F"]:
    return block_kernel(kernel, stride).reshape(-1, kernel.shape[-1])


def _forward_by_windows(images: Images, kernel: Kernel, stride: int, padding: int) -> Features:
    return _windows(images, kernel, stride, padding) @ _window_kernel(kernel, stride)


def _adjoint_by_windows(
    features: Features, kernel: Kernel, stride: int, padding: int, size: Size
) -> Images:
    images = jax.ShapeDtypeStruct((len(features), *size, kernel.shape[2]), features.dtype)
    forward = lambda images: _forward_by_windows(images, kernel, stride, padding)  # noqa: E731
    return jax.linear_transpose(forward, images)(features)[0]


def _of_kernel_by_windows(
    images: Images, kernel: Kernel, features: Features, stride: int, padding: int
) -> Kernel:
    weights = contract_places(_windows(images, kernel, stride, padding), features)
    return jax.linear_transpose(lambda kernel: _window_kernel(kernel, stride), kernel)(weights)[0]


WINDOWS = Maps(_forward_by_windows, _adjoint_by_windows, _of_kernel_by_windows)


def _forward_by_filtering(images: Images, kernel: Kernel, stride: int, padding: int) -> Features:
    side = len(kernel) // 2
    size = features_size(images.shape[1:3], kernel, stride, padding)
    blocks = _shifted_blocks(images, side, stride, padding, size)
    correlated = minimal_filtering.correlate(blocks, block_kernel(kernel, side))
    return _weave(correlated, side // stride, size)


def _adjoint_by_filtering(
    features: Features, kernel: Kernel, stride: int, padding: int, size: Size
) -> Images:
    side = len(kernel) // 2
    correlated = _unweave(features, side // stride)
    blocks = minimal_filtering.adjoint(correlated, block_kernel(kernel, side))
    images = jax.ShapeDtypeStruct((len(features), *size, kernel.shape[2]), features.dtype)

    def forward(images: Images) -> Array:
        return _shifted_blocks(images, side, stride, padding, features.shape[1:3])

    return jax.linear_transpose(forward, images)(blocks)[0]


def _of_kernel_by_filtering(
    images: Images, kernel: Kernel, features: Features, stride: int, padding: int
) -> Kernel:
    side = len(kernel) // 2
    blocks = _shifted_blocks(images, side, stride, padding, features.shape[1:3])
    weights = minimal_filtering.of_kernel(blocks, _unweave(features, side // stride))
    return jax.linear_transpose(lambda kernel: block_kernel(kernel, side), kernel)(weights)[0]


def _shifted_blocks(
    images: Images, side: int, stride: int, padding: int, size: Size
) -> Float[Array, "_ _ _ N"]:
    """Blocks of the images shifted by each multiple of the stride that is less than a block.

    A convolution of a smaller stride than blocks is one of blocks for each shift.
    """
    shifts = range(0, side, stride)
    rows, columns = (-(-length // len(shifts)) for length in size)
    return jnp.concatenate(
        [
            space_to_depth(images, side, (padding - down, padding - right), (rows + 1, columns + 1))
            for down in shifts
            for right in shifts
        ]
    )


def _weave(correlated: Float[Array, "_ rows columns F"], shifts: int, size: Size) -> Features:
    """The features of all shifts in their places."""
    rows, columns, filters = correlated.shape[1:]
    split = correlated.reshape(shifts, shifts, -1, rows, columns, filters)
    whole = split.transpose(2, 3, 0, 4, 1, 5)
    whole = whole.reshape(-1, rows * shifts, columns * shifts, filters)
    return whole[:, : size[0], : size[1]]


def _unweave(features: Features, shifts: int) -> Float[Array, "_ rows columns F"]:
    """The adjoint of `_weave`."""
    num_data, height, width, filters = features.shape
    rows, columns = -(-height // shifts), -(-width // shifts)
    missing = (rows * shifts - height, columns * shifts - width)
    whole = jnp.pad(features, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    split = whole.reshape(num_data, rows, shifts, columns, shifts, filters)
    return split.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, filters)


MINIMAL_FILTERING = Maps(_forward_by_filtering, _adjoint_by_filtering, _of_kernel_by_filtering)
