"""Convolutions as matrix products against the device's own, and against PyTorch's definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from jvsc import convolutions
from jvsc.convolutions import convolve, transposed_convolve
from jvsc.networks import ARCHITECTURES

LAYERS = sorted(
    {
        (size, layer.stride, layer.padding)
        for architecture, sizes in (
            ("fashion_mnist", (28, 14, 7, 4)),
            ("celeba", (64, 32, 16, 8, 4)),
        )
        for size, layer in zip(sizes, ARCHITECTURES[architecture].encoder, strict=True)
    }
)


def problem(size, channels=3, filters=5):
    images = jax.random.normal(jax.random.key(0), (2, size, size + 2, channels))
    return images, jax.random.normal(jax.random.key(1), (4, 4, channels, filters))


def device_convolution(images, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )


@pytest.mark.parametrize(("size", "stride", "padding"), LAYERS)
def test_products_of_patches_are_the_devices_convolution_and_its_gradients(size, stride, padding):
    images, kernel = problem(size)
    ours, pullback = jax.vjp(lambda x, w: convolve(x, w, stride, padding), images, kernel)
    theirs, expected = jax.vjp(
        lambda x, w: device_convolution(x, w, stride, padding), images, kernel
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)
    cotangent = jax.random.normal(jax.random.key(2), ours.shape)
    for one, other in zip(pullback(cotangent), expected(cotangent), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("stride", "padding", "out_size"), [(2, 1, 10), (1, 0, 8), (2, 0, 12)])
def test_transposed_convolutions_are_those_of_lax(stride, padding, out_size):
    """Lax counts padding on the dilated input: 4 - 1 - padding for a 4x4 kernel."""
    features = jax.random.normal(jax.random.key(3), (2, 5, 5, 6))
    kernel = jax.random.normal(jax.random.key(4), (4, 4, 3, 6))
    ours = transposed_convolve(features, kernel, stride, padding)
    theirs = jax.lax.conv_transpose(
        features,
        kernel,
        (stride, stride),
        [(3 - padding, 3 - padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=True,
    )
    assert ours.shape == (2, out_size, out_size, 3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


def test_a_convolution_is_a_correlation():
    images, kernel = problem(9, channels=1, filters=1)
    expected = correlate2d(np.pad(images[0, :, :, 0], 1), kernel[:, :, 0, 0], mode="valid")[
        ::2, ::2
    ]
    np.testing.assert_allclose(convolve(images, kernel, 2, 1)[0, :, :, 0], expected, atol=1e-4)


def test_a_transposed_convolution_is_the_adjoint():
    images, kernel = problem(14)
    features = jnp.ones((2, 7, 8, 5)) * jnp.arange(5.0)
    forward = jnp.vdot(convolve(images, kernel, 2, 1), features)
    backward = jnp.vdot(images, transposed_convolve(features, kernel, 2, 1))
    np.testing.assert_allclose(forward, backward, rtol=1e-5)


# Few channels go by blocks, more by the library; in the last two cases no window sees the last
# pixels, which in the last one are in no block either.
@pytest.mark.parametrize(
    ("size", "channels", "stride", "padding"),
    [(14, 1, 2, 1), (14, 8, 2, 0), (14, 3, 3, 1), (15, 3, 2, 0)],
)
def test_what_gpus_run_is_the_same_convolution_with_the_same_gradients(
    size, channels, stride, padding
):
    images, kernel = problem(size, channels)
    features = jax.random.normal(jax.random.key(3), (2, 5, 6, 5))

    def all_of(function, operand):
        value, pull_back = jax.vjp(lambda x, w: function(x, w, stride, padding), operand, kernel)
        return value, *pull_back(jax.random.normal(jax.random.key(2), value.shape))

    for operand, ours, theirs in (
        (images, convolutions._convolve_by_device, convolve),
        (features, convolutions._transposed_by_device, transposed_convolve),
    ):
        for one, other in zip(all_of(ours, operand), all_of(theirs, operand), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)
