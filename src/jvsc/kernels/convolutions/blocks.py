"""Images as blocks of pixels that are channels, by which a strided convolution moves by one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Rows and columns.
Size = tuple[int, ...]


def features_size(size: Size, kernel: Float[Array, "h w C F"], stride: int, padding: int) -> Size:
    """Rows and columns of what a convolution of images of a size (H, W) gives."""
    return tuple(
        (length + 2 * padding - extent) // stride + 1
        for length, extent in zip(size, kernel.shape[:2], strict=True)
    )


def images_size(size: Size, kernel: Float[Array, "h w C F"], stride: int, padding: int) -> Size:
    """Height and width of what a transposed convolution of features of a size (Y, X) gives."""
    return tuple(
        (length - 1) * stride + extent - 2 * padding
        for length, extent in zip(size, kernel.shape[:2], strict=True)
    )


def block_kernel(kernel: Float[Array, "h w C F"], side: int) -> Float[Array, "high wide N F"]:
    """The kernel, filled up with zeros, that `space_to_depth`'s blocks are convolved with.

    N = side * side * C; high and wide count the blocks that it spans.
    """
    high, wide = (-(-extent // side) for extent in kernel.shape[:2])
    missing = (high * side - kernel.shape[0], wide * side - kernel.shape[1])
    kernel = jnp.pad(kernel, ((0, missing[0]), (0, missing[1]), (0, 0), (0, 0)))
    channels, filters = kernel.shape[2:]
    weights = kernel.reshape(high, side, wide, side, channels, filters)
    return weights.transpose(0, 2, 1, 3, 4, 5).reshape(high, wide, -1, filters)


def space_to_depth(
    images: Float[Array, "B H W C"], side: int, before: Size, places: Size
) -> Float[Array, "B rows columns N"]:
    """Blocks of `side` by `side` pixels, N = side * side * C, of images with zeros around them.

    Args:
      images: one [H, W, C] image a datum.
      side: of a block.
      before: rows and columns of zeros before each image; where negative, so many are cut off.
      places: rows and columns of blocks.
    """
    num_data, *lengths, channels = images.shape
    (top, bottom), (left, right) = (
        (first, count * side - length - first)
        for first, count, length in zip(before, places, lengths, strict=True)
    )
    # Whole rows, for loops over one channel at a time are slow on the CPU.
    padded = jax.lax.pad(
        images.reshape(num_data, lengths[0], -1),
        jnp.zeros((), images.dtype),
        ((0, 0, 0), (top, bottom, 0), (left * channels, right * channels, 0)),
    )
    split = padded.reshape(num_data, places[0], side, places[1], side, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(num_data, *places, -1)


def window_blocks(
    images: Float[Array, "B H W C"], kernel: Float[Array, "h w C F"], stride: int, padding: int
) -> Float[Array, "B rows columns N"]:
    """All blocks of one stride's side that a convolution's windows see, N = stride * stride * C.

    Over them windows of `block_kernel(kernel, stride)` move by one.
    """
    spanned = (-(-extent // stride) for extent in kernel.shape[:2])
    features = features_size(images.shape[1:3], kernel, stride, padding)
    places = tuple(count + each - 1 for count, each in zip(features, spanned, strict=True))
    return space_to_depth(images, stride, (padding, padding), places)


def turned(kernel: Float[Array, "h w C F"]) -> Float[Array, "h w F C"]:
    """The kernel whose correlation with features is the adjoint of one that moves by one."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def depth_to_space(blocks: Float[Array, "B rows columns N"], side: int) -> Float[Array, "B H W C"]:
    """Blocks as images, H = rows side and W = columns side."""
    num_data, rows, columns, _ = blocks.shape
    split = blocks.reshape(num_data, rows, columns, side, side, -1)
    whole = split.transpose(0, 1, 3, 2, 4, 5)
    return whole.reshape(num_data, rows * side, columns * side, split.shape[-1])
