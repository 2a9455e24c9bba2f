"""What the device can do at best: its large matrix products and its copies."""

import functools
import statistics

import jax
import jax.numpy as jnp

from benchmarks.timing import REPETITIONS, block, seconds_of

# Side of the multiplied matrices and bytes of the copied array; a GPU's rates are those of larger.
SIDE, COPIED_BYTES = 2048, 2**28
GPU_SIDE, GPU_COPIED_BYTES = 8192, 2**32


def dense_flops(rows: int, inner: int, columns: int) -> float:
    """Operations of a matrix product, a multiplication and an addition each."""
    return 2.0 * rows * inner * columns


@functools.cache
def matrix_product_rate(dtype: str) -> float:
    """Operations per second of a product of two large square matrices."""
    side = SIDE if jax.default_backend() == "cpu" else GPU_SIDE
    left = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
    product = jax.jit(jnp.matmul)
    block(product(left, left))
    times = [seconds_of(lambda: product(left, left)) for _ in range(REPETITIONS)]
    return dense_flops(side, side, side) / statistics.median(times)


@functools.cache
def copy_bandwidth() -> float:
    """Bytes read and written per second while a large array is copied."""
    size = COPIED_BYTES if jax.default_backend() == "cpu" else GPU_COPIED_BYTES
    source = jnp.ones(size // 4, jnp.float32)
    copy = jax.jit(jnp.negative)
    block(copy(source))
    times = [seconds_of(lambda: copy(source)) for _ in range(REPETITIONS)]
    return 2 * size / statistics.median(times)
