"""Strided and transposed convolutions, computed by what is fast on their platform.

XLA's own convolutions are slow on the CPU where they are strided or transposed; as products of
matrices they run at the speed of its matrix product (`products`, `minimal_filtering`; see
benchmarks/). On a GPU or TPU the device's own are the fast ones, but for images of few channels
(`library`). Which is used follows from the platform the program is compiled for. Derivatives are
taken in reverse mode only.
"""

from functools import partial

import jax
from jaxtyping import Array, Float

from jvsc.kernels.convolutions import library, products
from jvsc.kernels.convolutions.bilinear import Images, convolve_by, transposed_convolve_by
from jvsc.kernels.convolutions.blocks import images_size


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
    by_products = products.choose(images.shape[1:3], kernel, stride, padding)
    return jax.lax.platform_dependent(
        images,
        kernel,
        cpu=partial(convolve_by, stride=stride, padding=padding, maps=by_products),
        default=partial(convolve_by, stride=stride, padding=padding, maps=library.MAPS),
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
    size = images_size(features.shape[1:3], kernel, stride, padding)
    by_products = products.choose(size, kernel, stride, padding)
    return jax.lax.platform_dependent(
        features,
        kernel,
        cpu=partial(transposed_convolve_by, stride=stride, padding=padding, maps=by_products),
        default=partial(transposed_convolve_by, stride=stride, padding=padding, maps=library.MAPS),
    )
