"""Inception-v3 as the Frechet inception distance uses it (Heusel et al. 2017; Szegedy et al. 2016).

The weights of December 2015 differ from later ones: averages leave out the padding, and the last
block takes a maximum where others take an average.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

NUM_FEATURES = 2048
SIDE = 299

Maps = Float[Array, "B _ _ _"]
average: Callable[[Maps], Maps] = partial(
    nn.avg_pool, window_shape=(3, 3), padding="SAME", count_include_pad=False
)
maximum: Callable[[Maps], Maps] = partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
halve: Callable[[Maps], Maps] = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))


class ConvolutionBlock(nn.Module):
    """A convolution without bias, BatchNorm of running averages, ReLU."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        high, wide = self.padding
        x = nn.Conv(
            self.features,
            self.kernel,
            self.stride,
            ((high, high), (wide, wide)),
            use_bias=False,
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


def same(name: str, features: int, kernel: tuple[int, int]) -> ConvolutionBlock:
    """A block that keeps the maps' size."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return ConvolutionBlock(features, kernel, padding=padding, name=name)


def pointwise(name: str, features: int) -> ConvolutionBlock:
    """A 1x1 block."""
    return ConvolutionBlock(features, name=name)


def halving(name: str, features: int) -> ConvolutionBlock:
    """A 3x3 block that halves the maps' size."""
    return ConvolutionBlock(features, (3, 3), stride=2, name=name)


def concatenate(*branches: Maps) -> Maps:
    """Branches' maps side by side."""
    return jnp.concatenate(branches, axis=-1)


class MixedA(nn.Module):
    """Mixed_5b to 5d: 5x5 and doubled 3x3."""

    pool_features: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        wide = same("branch5x5_2", 64, (5, 5))(pointwise("branch5x5_1", 48)(x))
        double = same("branch3x3dbl_2", 96, (3, 3))(pointwise("branch3x3dbl_1", 64)(x))
        double = same("branch3x3dbl_3", 96, (3, 3))(double)
        pooled = pointwise("branch_pool", self.pool_features)(average(x))
        return concatenate(pointwise("branch1x1", 64)(x), wide, double, pooled)


class MixedB(nn.Module):
    """Mixed_6a: halves the size."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        double = same("branch3x3dbl_2", 96, (3, 3))(pointwise("branch3x3dbl_1", 64)(x))
        double = halving("branch3x3dbl_3", 96)(double)
        return concatenate(halving("branch3x3", 384)(x), double, halve(x))


class MixedC(nn.Module):
    """Mixed_6b to 6e: 7x7 as rows and columns."""

    features: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        row, column = (1, 7), (7, 1)
        seven = same("branch7x7_2", self.features, row)(pointwise("branch7x7_1", self.features)(x))
        seven = same("branch7x7_3", 192, column)(seven)
        double = pointwise("branch7x7dbl_1", self.features)(x)
        for index, kernel in enumerate((column, row, column), start=2):
            double = same(f"branch7x7dbl_{index}", self.features, kernel)(double)
        double = same("branch7x7dbl_5", 192, row)(double)
        pooled = pointwise("branch_pool", 192)(average(x))
        return concatenate(pointwise("branch1x1", 192)(x), seven, double, pooled)


class MixedD(nn.Module):
    """Mixed_7a: halves the size."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        three = halving("branch3x3_2", 320)(pointwise("branch3x3_1", 192)(x))
        seven = same("branch7x7x3_2", 192, (1, 7))(pointwise("branch7x7x3_1", 192)(x))
        seven = same("branch7x7x3_3", 192, (7, 1))(seven)
        return concatenate(three, halving("branch7x7x3_4", 192)(seven), halve(x))


class MixedE(nn.Module):
    """Mixed_7b, and 7c, which pools by maximum."""

    pool: Any

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        row, column = (1, 3), (3, 1)
        three = pointwise("branch3x3_1", 384)(x)
        three = concatenate(
            same("branch3x3_2a", 384, row)(three), same("branch3x3_2b", 384, column)(three)
        )
        double = same("branch3x3dbl_2", 384, (3, 3))(pointwise("branch3x3dbl_1", 448)(x))
        double = concatenate(
            same("branch3x3dbl_3a", 384, row)(double), same("branch3x3dbl_3b", 384, column)(double)
        )
        pooled = pointwise("branch_pool", 192)(self.pool(x))
        return concatenate(pointwise("branch1x1", 320)(x), three, double, pooled)


class InceptionV3(nn.Module):
    """Images in [-1, 1], [B, 299, 299, 3], to 2,048 features."""

    @nn.compact
    def __call__(self, x: Maps) -> Float[Array, "B F"]:
        x = halving("Conv2d_1a_3x3", 32)(x)
        x = ConvolutionBlock(32, (3, 3), name="Conv2d_2a_3x3")(x)
        x = halve(same("Conv2d_2b_3x3", 64, (3, 3))(x))
        x = pointwise("Conv2d_3b_1x1", 80)(x)
        x = halve(ConvolutionBlock(192, (3, 3), name="Conv2d_4a_3x3")(x))
        for name, features in {"Mixed_5b": 32, "Mixed_5c": 64, "Mixed_5d": 64}.items():
            x = MixedA(features, name=name)(x)
        x = MixedB(name="Mixed_6a")(x)
        widths = {"Mixed_6b": 128, "Mixed_6c": 160, "Mixed_6d": 160, "Mixed_6e": 192}
        for name, features in widths.items():
            x = MixedC(features, name=name)(x)
        x = MixedD(name="Mixed_7a")(x)
        x = MixedE(average, name="Mixed_7b")(x)
        x = MixedE(maximum, name="Mixed_7c")(x)
        return jnp.mean(x, axis=(1, 2))


def inception_shapes() -> Any:
    """Shapes of the network's variables."""
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), images)


# PyTorch's names of what Flax keeps under a block's conv and bn.
LEAVES = {
    ("params", "conv", "kernel"): "conv.weight",
    ("params", "bn", "scale"): "bn.weight",
    ("params", "bn", "bias"): "bn.bias",
    ("batch_stats", "bn", "mean"): "bn.running_mean",
    ("batch_stats", "bn", "var"): "bn.running_var",
}


def inception_variables(state: Mapping[str, np.ndarray]) -> Any:
    """Flax's variables out of a PyTorch state dict; what else it holds, as `fc`, is left.

    Args:
      state: arrays under PyTorch's names, such as "Mixed_5b.branch1x1.conv.weight".

    Raises:
      ValueError: naming the first array that is missing or of another shape.
    """

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        collection, *blocks, layer, kind = (entry.key for entry in path)
        name = ".".join([*blocks, LEAVES[collection, layer, kind]])
        if name not in state:
            raise ValueError(f"no array {name}")
        array = np.asarray(state[name], np.float32)
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        if array.shape != shape.shape:
            raise ValueError(f"{name} has the shape {state[name].shape}")
        return array

    return jax.tree_util.tree_map_with_path(leaf, inception_shapes())


def inception_features(variables: Any, images: Float[Array, "B H W C"]) -> Float[Array, "B F"]:
    """Features of images in [0, 1], of one or three channels, resized as PyTorch's users do.

    Bilinear, to 299x299, without a filter against aliasing; then from [0, 1] to [-1, 1].
    """
    shape = (images.shape[0], SIDE, SIDE, 3)
    coloured = jnp.broadcast_to(images, (*images.shape[:3], 3))
    resized = jax.image.resize(coloured, shape, "bilinear", antialias=False)
    features: Any = InceptionV3().apply(variables, 2 * resized - 1)
    return features
