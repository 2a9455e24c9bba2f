"""Convolutions as matrix products against the device's own, and against PyTorch's definition."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from jvsc.convolutions import convolve, library, products, transposed_convolve
from jvsc.convolutions.bilinear import convolve_by, transposed_convolve_by
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

    cotangent = jax.random.normal(jax.random.key(2), (2, 20, 20, 8))
    for operand, ours, theirs in (
        (images, partial(convolve_by, maps=library.MAPS), convolve),
        (features, partial(transposed_convolve_by, maps=library.MAPS), transposed_convolve),
    ):
        expected, found = (
            value_and_gradients(function, operand, kernel, cotangent, stride, padding)
            for function in (theirs, ours)
        )
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


@partial(jax.jit, static_argnums=(0, 4, 5))
def value_and_gradients(function, operand, kernel, cotangent, stride, padding):
    value, pull_back = jax.vjp(lambda x, w: function(x, w, stride, padding), operand, kernel)
    return value, *pull_back(cotangent[tuple(map(slice, value.shape))])


def double_problem(size, extent, stride, padding, channels=8, filters=5):
    """Images, a kernel and feature maps in float64."""
    images = jax.random.normal(jax.random.key(0), (3, *size, channels), jnp.float64)
    kernel = jax.random.normal(jax.random.key(1), (extent, extent, channels, filters), jnp.float64)
    shape = jax.eval_shape(lambda x, w: device_convolution(x, w, stride, padding), images, kernel)
    return images, kernel, jax.random.normal(jax.random.key(3), shape.shape, jnp.float64)


# Odd and even numbers of features, strides of one and of half a kernel, pixels that no window sees.
@pytest.mark.parametrize(
    ("size", "extent", "stride", "padding"),
    [
        ((14, 14), 4, 2, 1),
        ((16, 14), 4, 2, 1),
        ((15, 12), 4, 2, 0),
        ((7, 7), 4, 1, 0),
        ((9, 11), 4, 1, 1),
        ((8, 9), 2, 1, 1),
        ((17, 20), 6, 3, 2),
        ((17, 20), 6, 1, 2),
    ],
)
def test_minimal_filtering_is_the_same_convolution_with_the_same_gradients(
    size, extent, stride, padding
):
    with jax.enable_x64(True):
        images, kernel, features = double_problem(size, extent, stride, padding)
        assert products.choose(size, kernel, stride, padding) is products.MINIMAL_FILTERING
        ours, windows = (
            convolutions_by(maps, images, kernel, features, stride, padding)
            for maps in (products.MINIMAL_FILTERING, products.WINDOWS)
        )
    for one, other in zip(ours, windows, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_windows_in_double_precision_are_the_devices_convolution():
    with jax.enable_x64(True):
        images, kernel, features = double_problem((14, 16), 4, 2, 1)
        ours, theirs = (
            value_and_gradients(function, images, kernel, features, 2, 1)
            for function in (partial(convolve_by, maps=products.WINDOWS), device_convolution)
        )
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "stride", "padding"), [(14, 2, 1), (7, 1, 0)])
def test_minimal_filtering_rounds_little_more_than_windows(size, stride, padding):
    """Of its sums of four terms; measured: 1.04 to 2.04 times the error of windows."""
    with jax.enable_x64(True):
        exact_problem = double_problem((size, size), 4, stride, padding, 64, 64)
        exact = convolutions_by(products.WINDOWS, *exact_problem, stride, padding)
        problem = [array.astype(jnp.float32) for array in exact_problem]
        filtering, windows = (
            [
                float(jnp.linalg.norm(rounded - true))
                for rounded, true in zip(
                    convolutions_by(maps, *problem, stride, padding), exact, strict=True
                )
            ]
            for maps in (products.MINIMAL_FILTERING, products.WINDOWS)
        )
    for one, other in zip(filtering, windows, strict=True):
        assert one < 3 * other


def convolutions_by(maps, images, kernel, features, stride, padding):
    """The convolution and the transposed one, with their gradients."""
    return [
        *value_and_gradients(
            partial(convolve_by, maps=maps), images, kernel, features, stride, padding
        ),
        *value_and_gradients(
            partial(transposed_convolve_by, maps=maps), features, kernel, images, stride, padding
        ),
    ]


def test_minimal_filtering_is_chosen_where_it_saves_products():
    kernel = jnp.zeros((4, 4, 64, 64))
    chosen = lambda size, kernel, stride, padding: (  # noqa: E731
        products.choose((size, size), kernel, stride, padding) is products.MINIMAL_FILTERING
    )
    assert chosen(14, kernel, 2, 1)
    assert chosen(7, kernel, 1, 0)
    assert not chosen(4, kernel, 2, 0)  # one feature
    assert not chosen(6, kernel, 2, 1)  # three by three features take as many products
    assert not chosen(14, kernel[:, :, :3], 2, 1)  # few channels
    assert not chosen(14, kernel.astype(jnp.bfloat16), 2, 1)  # few bits
    assert not chosen(14, kernel[:3, :3], 2, 1)  # no halves


def test_minimal_filtering_multiplies_nine_times_for_four_features():
    images, kernel = jnp.zeros((2, 16, 16, 8)), jnp.zeros((4, 4, 8, 8))

    def multiplications(maps):
        step = jax.jit(lambda x, w: maps.forward(x, w, 2, 1))
        return str(step.trace(images, kernel).jaxpr).count("dot_general[")

    assert multiplications(products.MINIMAL_FILTERING) == 9  # of a quarter of the features each
    assert multiplications(products.WINDOWS) == 1  # of windows of four blocks
