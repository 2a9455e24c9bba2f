"""Strided and transposed convolutions as matrix products, and as the device's own.

XLA's own convolutions are slow on the CPU where they are strided or transposed; as products of
patches they run at the speed of its matrix product (see benchmarks/). On a GPU or TPU the device's
own are the fast ones. Which is used follows from the platform the program is compiled for.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "B H W C"]


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
    num_data, rows, columns, _ = features.shape
    height = (rows - 1) * stride + kernel.shape[0] - 2 * padding
    width = (columns - 1) * stride + kernel.shape[1] - 2 * padding
    shape = jax.ShapeDtypeStruct((num_data, height, width, kernel.shape[2]), features.dtype)

    def by_products(features: Array, kernel: Array) -> Array:
        forward = lambda images: _convolve_by_products(images, kernel, stride, padding)  # noqa: E731
        return jax.linear_transpose(forward, shape)(features)[0]

    def by_device(features: Array, kernel: Array) -> Array:
        forward = lambda images: _convolve_by_device(images, kernel, stride, padding)  # noqa: E731
        return jax.linear_transpose(forward, shape)(features)[0]

    return jax.lax.platform_dependent(features, kernel, cpu=by_products, default=by_device)


def _convolve_by_device(images: Array, kernel: Array, stride: int, padding: int) -> Array:
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        [(padding, padding), (padding, padding)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _convolve_by_products(images: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Pixels of one stride become channels, so that windows move by one; then one product."""
    rows, columns = (
        (size + 2 * padding - extent) // stride + 1
        for size, extent in zip(images.shape[1:3], kernel.shape[:2], strict=True)
    )
    high, wide = (-(-extent // stride) for extent in kernel.shape[:2])
    blocks = _space_to_depth(images, stride, padding, rows + high - 1, columns + wide - 1)
    windows = jnp.concatenate(
        [
            blocks[:, row : row + rows, column : column + columns]
            for row in range(high)
            for column in range(wide)
        ],
        axis=-1,
    )
    whole = (high * stride - kernel.shape[0], wide * stride - kernel.shape[1])
    kernel = jnp.pad(kernel, ((0, whole[0]), (0, whole[1]), (0, 0), (0, 0)))
    channels, filters = kernel.shape[2:]
    weights = kernel.reshape(high, stride, wide, stride, channels, filters)
    weights = weights.transpose(0, 2, 1, 3, 4, 5).reshape(-1, filters)
    return windows @ weights


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
