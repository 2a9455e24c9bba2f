"""The random numbers are JAX's own, however they are computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvsc.kernels.threefry import fused_threefry

DISTRIBUTIONS = {
    "bits": jax.random.bits,
    "bytes": lambda key, shape: jax.random.bits(key, shape, jnp.uint8),
    "uniform": jax.random.uniform,
    "normal": jax.random.normal,
    "laplace": jax.random.laplace,
    "logistic": jax.random.logistic,
}


@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys())
@pytest.mark.parametrize("shape", [(), (7,), (3, 5, 2)])
def test_numbers_are_those_of_jax(draw, shape):
    for seed in range(3):
        key = jax.random.key(seed)
        line = fused_threefry(key)
        assert line.dtype != key.dtype, "the key is JAX's own still"
        np.testing.assert_array_equal(draw(key, shape), draw(line, shape))


def test_numbers_in_double_precision_are_those_of_jax():
    with jax.enable_x64(True):
        key = jax.random.key(5)
        line = jax.random.normal(fused_threefry(key), (9,))
        assert line.dtype == jnp.float64
        np.testing.assert_array_equal(jax.random.normal(key, (9,)), line)


def test_keys_that_follow_and_batches_are_those_of_jax():
    keys = jax.random.split(jax.random.key(0), 4)

    def draw(key):
        first, second = jax.random.split(key)
        return jax.random.uniform(first, (6,)) + jax.random.uniform(
            jax.random.fold_in(second, 3), (6,)
        )

    expected = jax.vmap(draw)(keys)
    found = jax.jit(jax.vmap(lambda key: draw(fused_threefry(key))))(keys)
    np.testing.assert_array_equal(expected, found)


def test_other_generators_stay_as_they_are():
    key = jax.random.key(0, impl="rbg")
    assert fused_threefry(key) is key
