"""Convolutions as products of matrices, for the CPU: of windows, or by minimal filtering."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jvsc.kernels.convolutions import minimal_filtering
from jvsc.kernels.convolutions.bilinear import Features, Images, Kernel, Maps, adjoint_of
from jvsc.kernels.convolutions.blocks import (
    Size,
    block_kernel,
    depth_to_space,
    features_size,
    space_to_depth,
    window_blocks,
)

# With fewer channels the nine products are short, and adding them takes longer than they save: with
# four, 1.1 times as long as windows, with eight 0.85 times (14 by 14 places, 64 filters).
FEW_CHANNELS = 8
# The largest share of windows' products at which filtering pays: it did at 0.74, and adds its own
# sums.
WORTHWHILE_SHARE = 0.8
# Bytes of a number of which sums can be rounded: bfloat16 has too few bits for it.
ENOUGH_BYTES = 4


def choose(size: Size, kernel: Kernel, stride: int, padding: int) -> Maps:
    """How images are convolved on a CPU, and the gradients are computed.

    Args:
      size: the images' height and width.
      kernel: of which shape and type are read.
      stride: as in `jvsc.kernels.convolutions.convolve`.
      padding: likewise.

    Returns:
      Minimal filtering where it saves products, else windows.
    """
    height, width, channels, _ = kernel.shape
    if channels < FEW_CHANNELS or kernel.dtype.itemsize < ENOUGH_BYTES:
        return WINDOWS
    if height != width or height % (2 * stride):
        return WINDOWS
    rows, columns = features_size(size, kernel, stride, padding)
    shifts = height // (2 * stride)
    tiles = math.prod(-(-length // (2 * shifts)) for length in (rows, columns))
    # A tile takes nine products; a window is four blocks, and takes one for each.
    worthwhile = 9 * shifts**2 * tiles < WORTHWHILE_SHARE * 4 * rows * columns
    return MINIMAL_FILTERING if worthwhile else WINDOWS


def _windows(images: Images, kernel: Kernel, stride: int, padding: int) -> Float[Array, "B Y X N"]:
    """Pixels of one stride become channels, so that windows move by one."""
    rows, columns = features_size(images.shape[1:3], kernel, stride, padding)
    blocks = window_blocks(images, kernel, stride, padding)
    return jnp.concatenate(
        [
            blocks[:, row : row + rows, column : column + columns]
            for row in range(blocks.shape[1] - rows + 1)
            for column in range(blocks.shape[2] - columns + 1)
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
    forward = lambda images: _forward_by_windows(images, kernel, stride, padding)  # noqa: E731
    return adjoint_of(forward, features, (features.shape[0], *size, kernel.shape[2]))


def _of_kernel_by_windows(
    images: Images, kernel: Kernel, features: Features, stride: int, padding: int
) -> Kernel:
    weights = minimal_filtering.contract_places(_windows(images, kernel, stride, padding), features)
    return jax.linear_transpose(lambda kernel: _window_kernel(kernel, stride), kernel)(weights)[0]


WINDOWS = Maps(_forward_by_windows, _adjoint_by_windows, _of_kernel_by_windows)


def _forward_by_filtering(images: Images, kernel: Kernel, stride: int, padding: int) -> Features:
    side = len(kernel) // 2
    places = features_size(images.shape[1:3], kernel, stride, padding)
    blocks = _shifted_blocks(images, side, stride, padding, places)
    correlated = minimal_filtering.correlate(blocks, block_kernel(kernel, side))
    return _merge_shifts(correlated, side // stride, places)


def _adjoint_by_filtering(
    features: Features, kernel: Kernel, stride: int, padding: int, size: Size
) -> Images:
    side = len(kernel) // 2
    correlated = _split_shifts(features, side // stride)
    blocks = minimal_filtering.adjoint(correlated, block_kernel(kernel, side))

    def forward(images: Images) -> Array:
        return _shifted_blocks(images, side, stride, padding, features.shape[1:3])

    return adjoint_of(forward, blocks, (features.shape[0], *size, kernel.shape[2]))


def _of_kernel_by_filtering(
    images: Images, kernel: Kernel, features: Features, stride: int, padding: int
) -> Kernel:
    side = len(kernel) // 2
    blocks = _shifted_blocks(images, side, stride, padding, features.shape[1:3])
    weights = minimal_filtering.of_kernel(blocks, _split_shifts(features, side // stride))
    return jax.linear_transpose(lambda kernel: block_kernel(kernel, side), kernel)(weights)[0]


def _shifted_blocks(
    images: Images, side: int, stride: int, padding: int, places: Size
) -> Float[Array, "_ _ _ N"]:
    """Blocks of the images shifted by each multiple of the stride that is less than a block.

    With a stride less than a block's side, features whose windows start at the same place of a
    block form one correlation; there is one for each shift. `places` are the features' rows and
    columns.
    """
    shifts = range(0, side, stride)
    rows, columns = (-(-length // len(shifts)) for length in places)
    return jnp.concatenate(
        [
            space_to_depth(images, side, (padding - down, padding - right), (rows + 1, columns + 1))
            for down in shifts
            for right in shifts
        ]
    )


def _merge_shifts(
    correlated: Float[Array, "_ rows columns F"], shifts: int, places: Size
) -> Features:
    """The features of all shifts in their places."""
    rows, columns, filters = correlated.shape[1:]
    apart = correlated.reshape(shifts**2, -1, rows, columns, filters)
    blocks = jnp.moveaxis(apart, 0, 3).reshape(-1, rows, columns, shifts**2 * filters)
    return depth_to_space(blocks, shifts)[:, : places[0], : places[1]]


def _split_shifts(features: Features, shifts: int) -> Float[Array, "_ rows columns F"]:
    """The adjoint of `_merge_shifts`."""
    num_data, *lengths, filters = features.shape
    rows, columns = (-(-length // shifts) for length in lengths)
    blocks = space_to_depth(features, shifts, (0, 0), (rows, columns))
    apart = blocks.reshape(num_data, rows, columns, shifts**2, filters)
    return jnp.moveaxis(apart, 3, 0).reshape(-1, rows, columns, filters)


MINIMAL_FILTERING = Maps(_forward_by_filtering, _adjoint_by_filtering, _of_kernel_by_filtering)
