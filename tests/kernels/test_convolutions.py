"""Convolutions as matrix products, by windows and filtering, against the device's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from jvsc.kernels.convolutions import convolve, library, products, transposed_convolve
from jvsc.kernels.convolutions.bilinear import convolve_by, transposed_convolve_by
from jvsc.model.networks import ARCHITECTURES

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


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize(("size", "stride", "padding"), LAYERS)
def test_products_of_matrices_are_the_devices_convolution_and_its_gradients(
    size, stride, padding, channels
):
    with jax.enable_x64(True):
        images, kernel = problem(size, channels)
        cotangent = jax.random.normal(jax.random.key(2), (2, 40, 40, 5))
        ours, theirs = (
            value_and_gradients(function, images, kernel, cotangent, stride, padding)
            for function in (convolve, device_convolution)
        )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize(("stride", "padding", "out_size"), [(2, 1, 10), (1, 0, 8), (2, 0, 12)])
def test_transposed_convolutions_are_those_of_lax(stride, padding, out_size, channels):
    """Lax counts padding on the dilated input: 4 - 1 - padding for a 4x4 kernel."""
    features = jax.random.normal(jax.random.key(3), (2, 5, 5, 6))
    kernel = jax.random.normal(jax.random.key(4), (4, 4, channels, 6))
    ours = transposed_convolve(features, kernel, stride, padding)
    theirs = jax.lax.conv_transpose(
        features,
        kernel,
        (stride, stride),
        [(3 - padding, 3 - padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=True,
    )
    assert ours.shape == (2, out_size, out_size, channels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


def test_a_convolution_is_a_correlation():
    images, kernel = problem(9, channels=1, filters=1)
    expected = correlate2d(np.pad(images[0, :, :, 0], 1), kernel[:, :, 0, 0], mode="valid")[
        ::2, ::2
    ]
    np.testing.assert_allclose(convolve(images, kernel, 2, 1)[0, :, :, 0], expected, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 8])
def test_a_transposed_convolution_is_the_adjoint(channels):
    images, kernel = problem(14, channels)
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


# Odd and even numbers of features, or of them in a shift; one; strides of one and of half a kernel;
# pixels that no window sees.
@pytest.mark.parametrize(
    ("size", "extent", "stride", "padding"),
    [
        ((14, 14), 4, 2, 1),
        ((16, 14), 4, 2, 1),
        ((15, 12), 4, 2, 0),
        ((4, 4), 4, 2, 0),
        ((4, 14), 4, 2, 1),
        ((7, 7), 4, 1, 0),
        ((9, 9), 4, 1, 0),
        ((9, 11), 4, 1, 1),
        ((8, 9), 2, 1, 1),
        ((17, 20), 6, 1, 2),
    ],
)
def test_minimal_filtering_is_the_same_convolution_with_the_same_gradients(
    size, extent, stride, padding
):
    with jax.enable_x64(True):
        images, kernel, features = double_problem(size, extent, stride, padding)
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
    """Of its sums of four terms; measured: 1.05 to 2.08 times the error of windows."""
    with jax.enable_x64(True):
        double = double_problem((size, size), 4, stride, padding, 64, 64)
        single = [array.astype(jnp.float32) for array in double]
        double = [array.astype(jnp.float64) for array in single]
        exact = convolutions_by(products.WINDOWS, *double, stride, padding)
        filtering, windows = (
            [
                float(jnp.linalg.norm(rounded - true))
                for rounded, true in zip(
                    convolutions_by(maps, *single, stride, padding), exact, strict=True
                )
            ]
            for maps in (products.MINIMAL_FILTERING, products.WINDOWS)
        )
    for one, other in zip(filtering, windows, strict=True):
        assert one < 3 * other


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
    assert not chosen(14, kernel[:, :2], 2, 1)  # no square
    assert not chosen(2, kernel, 2, 0)  # no feature


@pytest.mark.parametrize("side", [14, 16])
def test_minimal_filtering_multiplies_nine_times_for_four_features(side):
    """Of a quarter of the features each; windows once, of four blocks for each feature."""
    images, kernel = jnp.zeros((2, side, side, 8)), jnp.zeros((4, 4, 8, 8))
    features = jnp.zeros((2, side // 2, side // 2, 8))
    for maps, expected in ((products.MINIMAL_FILTERING, 9), (products.WINDOWS, 1)):
        for function, operands in (
            (partial(maps.forward, stride=2, padding=1), (images, kernel)),
            (partial(maps.adjoint, stride=2, padding=1, size=(side, side)), (features, kernel)),
            (partial(maps.of_kernel, stride=2, padding=1), (images, kernel, features)),
        ):
            equations = jax.make_jaxpr(function)(*operands).eqns
            assert [each.primitive.name for each in equations].count("dot_general") == expected


def test_kernels_side_by_side_are_convolved_as_one_after_another():
    images, kernel = problem(14, channels=8)
    kernels = jnp.stack([kernel, 2 - kernel])
    cotangent = jax.random.normal(jax.random.key(2), (2, 20, 20, 8))
    each = lambda kernel: value_and_gradients(convolve, images, kernel, cotangent, 2, 1)  # noqa: E731
    together = jax.vmap(each)(kernels)
    for index in range(2):
        for one, other in zip(together, each(kernels[index]), strict=True):
            np.testing.assert_allclose(one[index], other, rtol=1e-5, atol=1e-4)
