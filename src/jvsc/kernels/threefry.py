"""JAX's default random bits (Threefry-2x32, Salmon et al. 2011) in one pass on a CPU.

There JAX's own are a loop over the rounds, which writes the whole array in each of them. These are
the same bits, from a straight line of code that the compiler fuses.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl, threefry_prng_impl
from jaxtyping import Array, Key, UInt, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
# Beyond so many words a count has a second half.
LARGEST = 1 << 32


def fused_threefry(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key as one whose bits are drawn in one pass; the numbers stay the same.

    Returns:
      The key itself where that does not apply: on other devices than CPUs, for other generators
      than Threefry, and if `jax_threefry_partitionable` is off.
    """
    applies = (
        jax.default_backend() == "cpu"
        and jax.random.key_impl(key) == "threefry2x32"
        and jax.config.jax_threefry_partitionable  # pyright: ignore[reportAttributeAccessIssue]
    )
    if not applies:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_FUSED)


def threefry(
    key: UInt32[Array, "2"], first: UInt32[Array, "*S"], second: UInt32[Array, "*S"]
) -> tuple[UInt32[Array, "*S"], UInt32[Array, "*S"]]:
    """Two words of 20 rounds of Threefry-2x32 for each pair of counts."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY))
    first, second = first + schedule[0], second + schedule[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first += second
            second = (second << np.uint32(rotation)) | (second >> np.uint32(32 - rotation))
            second ^= first
        first += schedule[(group + 1) % 3]
        second += schedule[(group + 2) % 3] + np.uint32(group + 1)
    return first, second


def _random_bits(
    key: UInt32[Array, "2"], bit_width: int, shape: tuple[int, ...]
) -> UInt[Array, "..."]:
    """The bits of `jax.random.bits` under `jax_threefry_partitionable`."""
    if bit_width not in (32, 64) or math.prod(shape) >= LARGEST:
        return threefry_prng_impl.random_bits(key, bit_width, shape)
    counts = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    first, second = threefry(key, jnp.zeros_like(counts), counts)
    if bit_width == 32:
        return first ^ second
    return (first.astype(jnp.uint64) << np.uint64(32)) | second.astype(jnp.uint64)


_FUSED = define_prng_impl(
    key_shape=(2,),
    seed=threefry_prng_impl.seed,
    split=threefry_prng_impl.split,
    random_bits=_random_bits,
    fold_in=threefry_prng_impl.fold_in,
    name="threefry2x32_fused",
    tag="fryl",
)
