"""Correlations with kernels of 2 by 2 places by nine products of matrices instead of sixteen.

Two places of a kernel (g0, g1) over three blocks (x0, x1, x2) give two features,

    y0 = x0 g0 + x1 g1 = (x0 - x1) g0 + x1 (g0 + g1)
    y1 = x1 g0 + x2 g1 = x1 (g0 + g1) - (x1 - x2) g1,

with three products for four; rows and columns together 9 for 16. This is F(2, 2) of Winograd
(1980), "Arithmetic Complexity of Computations", and its use for networks is Lavin and Gray's
(2016), "Fast Algorithms for Convolutional Neural Networks". All factors are 1 and -1: rounding
grows by what a sum of four terms adds. The nine products stay arrays of their own, for putting them
into one would take a copy of each. Adjoints are written out, for JAX's pad each summand and took up
to twice as long.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from jvsc.kernels.convolutions.blocks import turned

# Arrays of a tile's rows and columns: 3 by 3 blocks, products or sums of the kernel, 2 by 2
# features or places.
Grid = list[list[Array]]
Blocks = Float[Array, "B H W C"]
Kernel = Float[Array, "2 2 C F"]
Features = Float[Array, "B Y X F"]


def correlate(blocks: Blocks, kernel: Kernel) -> Features:
    """y[i, j] = sum_(k, l) x[i + k, j + l] g[k, l]: features of Y = H - 1 and X = W - 1 places."""
    rows, columns = blocks.shape[1] - 1, blocks.shape[2] - 1
    spread, weights = _spread_blocks(_to_even(blocks, rows, columns)), _spread_kernel(kernel)
    products = _pairwise(jnp.matmul, spread, weights)
    return _interleave(_along_both(_sum_products, products))[:, :rows, :columns]


def adjoint(features: Features, kernel: Kernel) -> Blocks:
    """The gradient of <features, correlate(blocks, kernel)> by the blocks."""
    rows, columns = features.shape[1:3]
    if rows % 2 and columns % 2:
        # Tiles of blocks are no more than tiles of features, and need no overlap.
        around = jnp.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return correlate(around, turned(kernel))
    spread = _spread_features(_to_even(features, rows, columns))
    products = _pairwise(lambda y, w: y @ w.T, spread, _spread_kernel(kernel))
    by_rows = _along_rows(partial(_overlap, axis=1), products)
    overlapped = [_overlap(row, axis=2) for row in by_rows]
    return _interleave(overlapped)[:, : rows + 1, : columns + 1]


def of_kernel(blocks: Blocks, features: Features) -> Kernel:
    """The gradient of <features, correlate(blocks, kernel)> by the kernel."""
    rows, columns = features.shape[1:3]
    spread = _spread_blocks(_to_even(blocks, rows, columns))
    of_features = _spread_features(_to_even(features, rows, columns))
    products = _pairwise(contract_places, spread, of_features)
    sums = _along_both(lambda m: [m[0] + m[1], m[1] + m[2]], products)
    return jnp.stack([jnp.stack(row) for row in sums])


def contract_places(
    one: Float[Array, "B Y X C"], other: Float[Array, "B Y X F"]
) -> Float[Array, "C F"]:
    """Sum over data and places of the products of all channels with all others.

    As a product of two matrices; of more axes XLA makes transposed copies on the CPU.
    """
    return one.reshape(-1, one.shape[-1]).T @ other.reshape(-1, other.shape[-1])


def _to_even(maps: Float[Array, "B n m C"], rows: int, columns: int) -> Array:
    """With a row and a column of zeros behind where those of the features are odd."""
    return jnp.pad(maps, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))


def _spread_blocks(blocks: Blocks) -> Grid:
    """The first, second and third blocks of each tile, as their products take them."""
    height, width = blocks.shape[1:3]
    tiles = [
        [
            blocks[:, row : height - 2 + row : 2, column : width - 2 + column : 2]
            for column in range(3)
        ]
        for row in range(3)
    ]
    return _along_both(lambda x: [x[0] - x[1], x[1], x[1] - x[2]], tiles)


def _spread_kernel(kernel: Kernel) -> Grid:
    return _along_both(lambda g: [g[0], g[0] + g[1], g[1]], [list(row) for row in kernel])


def _spread_features(features: Features) -> Grid:
    """The adjoint of what sums the products."""
    tiles = [[features[:, row::2, column::2] for column in range(2)] for row in range(2)]
    return _along_both(lambda y: [y[0], y[0] + y[1], -y[1]], tiles)


def _sum_products(m: list[Array]) -> list[Array]:
    return [m[0] + m[1], m[1] - m[2]]


def _overlap(m: list[Array], axis: int) -> list[Array]:
    """The adjoint of `_spread_blocks` along an axis: a tile's third block is the next one's first.

    Returns:
      The blocks of even and of odd places, one more than tiles; the last odd one is no block.
    """

    def pad(maps: Array, before: int, after: int) -> Array:
        around = [(before, after) if each == axis else (0, 0) for each in range(maps.ndim)]
        return jnp.pad(maps, around)

    return [pad(m[0], 0, 1) - pad(m[2], 1, 0), pad(m[1] - m[0] + m[2], 0, 1)]


def _along_rows(transform: Callable[[list[Array]], list[Array]], grid: Grid) -> Grid:
    """A transform of each column's arrays, which changes how many rows there are."""
    columns = [transform(list(column)) for column in zip(*grid, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _along_both(transform: Callable[[list[Array]], list[Array]], grid: Grid) -> Grid:
    """A transform along the rows of a grid and along its columns."""
    return [transform(row) for row in _along_rows(transform, grid)]


def _pairwise(function: Callable[[Array, Array], Array], one: Grid, other: Grid) -> Grid:
    return [
        [function(*pair) for pair in zip(*rows, strict=True)]
        for rows in zip(one, other, strict=True)
    ]


def _interleave(tiles: Grid) -> Float[Array, "B Y X C"]:
    """A grid of 2 by 2 arrays as one: rows and columns alternate.

    As `depth_to_space` of the four a step of J = 20 took 1.18 times as long.
    """
    woven = jnp.stack([jnp.stack(row, axis=3) for row in tiles], axis=2)
    num_data, rows, _, columns, _, channels = woven.shape
    return woven.reshape(num_data, 2 * rows, 2 * columns, channels)
