"""What the device can do at best: its large matrix products and its copies."""

import functools
import statistics

import jax
import jax.numpy as jnp

from benchmarks.timing import REPETITIONS, block, seconds_of

SIDE = 2048
COPIED_BYTES = 2**28


def dense_flops(rows: int, inner: int, columns: int) -> float:
    """Operations of a matrix product, a multiplication and an addition each."""
    return 2.0 * rows * inner * columns


@functools.cache
def matrix_product_rate(dtype: str) -> float:
    """Operations per second of a product of two square matrices of side 2048."""
    left = jax.random.normal(jax.random.key(0), (SIDE, SIDE)).astype(dtype)
    product = jax.jit(jnp.matmul)
    block(product(left, left))
    times = [seconds_of(lambda: product(left, left)) for _ in range(REPETITIONS)]
    return dense_flops(SIDE, SIDE, SIDE) / statistics.median(times)


@functools.cache
def copy_bandwidth() -> float:
    """Bytes read and written per second while an array of 256 MiB is copied."""
    source = jnp.ones(COPIED_BYTES // 4, jnp.float32)
    copy = jax.jit(jnp.negative)
    block(copy(source))
    times = [seconds_of(lambda: copy(source)) for _ in range(REPETITIONS)]
    return 2 * COPIED_BYTES / statistics.median(times)
