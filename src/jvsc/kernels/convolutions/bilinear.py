"""A convolution and its adjoint as each other's gradients, however they are computed.

Both are derivatives of <features, convolve(images, kernel)>, which is linear in each of the three.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import jax
from jaxtyping import Array, Float

from jvsc.kernels.convolutions.blocks import Size, images_size

Images = Float[Array, "B H W C"]
Features = Float[Array, "B Y X F"]
Kernel = Float[Array, "h w C F"]


class Forward(Protocol):
    """The features that a kernel makes of images."""

    def __call__(self, images: Images, kernel: Kernel, stride: int, padding: int) -> Features: ...


class Adjoint(Protocol):
    """The images' gradient of <features, convolve(images, kernel)>; they have a given size."""

    def __call__(
        self, features: Features, kernel: Kernel, stride: int, padding: int, size: Size
    ) -> Images: ...


class OfKernel(Protocol):
    """The kernel's gradient of <features, convolve(images, kernel)>."""

    def __call__(
        self, images: Images, kernel: Kernel, features: Features, stride: int, padding: int
    ) -> Kernel: ...


class Maps(NamedTuple):
    """A way to compute the three derivatives of <features, convolve(images, kernel)>.

    Attributes:
      forward: by the features, the convolution.
      adjoint: by the images, the transposed convolution; `size` is the images' height and width.
      of_kernel: by the kernel, of which only the shape is read.
    """

    forward: Forward
    adjoint: Adjoint
    of_kernel: OfKernel


def adjoint_of(
    forward: Callable[[Images], Array], features: Array, shape: tuple[int, ...]
) -> Images:
    """The images, of a shape, to which the adjoint of a linear map of images leads features."""
    images = jax.ShapeDtypeStruct(shape, features.dtype)
    return jax.linear_transpose(forward, images)(features)[0]


def convolve_by(images: Images, kernel: Kernel, stride: int, padding: int, maps: Maps) -> Features:
    """`jvsc.kernels.convolutions.convolve`, it and its gradients computed by `maps`."""
    return _convolve(maps, images, kernel, stride, padding)


def transposed_convolve_by(
    features: Features, kernel: Kernel, stride: int, padding: int, maps: Maps
) -> Images:
    """`jvsc.kernels.convolutions.transposed_convolve`, it and its gradients computed by `maps`."""
    return _transposed_convolve(maps, features, kernel, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def _convolve(maps: Maps, images: Images, kernel: Kernel, stride: int, padding: int) -> Features:
    return maps.forward(images, kernel, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def _transposed_convolve(
    maps: Maps, features: Features, kernel: Kernel, stride: int, padding: int
) -> Images:
    size = images_size(features.shape[1:3], kernel, stride, padding)
    return maps.adjoint(features, kernel, stride, padding, size)


def _keep(
    maps: Maps, images: Images, kernel: Kernel, stride: int, padding: int
) -> tuple[Features, tuple[Images, Kernel]]:
    return _convolve(maps, images, kernel, stride, padding), (images, kernel)


def _pull_back(
    maps: Maps, stride: int, padding: int, primals: tuple[Images, Kernel], cotangent: Features
) -> tuple[Images, Kernel]:
    images, kernel = primals
    return (
        maps.adjoint(cotangent, kernel, stride, padding, images.shape[1:3]),
        maps.of_kernel(images, kernel, cotangent, stride, padding),
    )


def _keep_transposed(
    maps: Maps, features: Features, kernel: Kernel, stride: int, padding: int
) -> tuple[Images, tuple[Features, Kernel]]:
    return _transposed_convolve(maps, features, kernel, stride, padding), (features, kernel)


def _pull_back_transposed(
    maps: Maps, stride: int, padding: int, primals: tuple[Features, Kernel], cotangent: Images
) -> tuple[Features, Kernel]:
    features, kernel = primals
    return (
        maps.forward(cotangent, kernel, stride, padding),
        maps.of_kernel(cotangent, kernel, features, stride, padding),
    )


_convolve.defvjp(_keep, _pull_back)
_transposed_convolve.defvjp(_keep_transposed, _pull_back_transposed)
