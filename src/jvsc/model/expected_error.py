"""The expectation of a reconstruction's error over codes, by their mean and variance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.kernels.threefry import fused_threefry
from jvsc.model.objective import filled, squared_error
from jvsc.model.thresholding import gradient_carrier

# Of a code's noise, below which it has no gradient: the slope of the root is infinite at zero.
SMALLEST_VARIANCE = 1e-12


def expected_squared_error(
    data: Float[Array, "*B D"],
    reconstruction: Float[Array, "*B D"],
    variance: Float[Array, "*B K"],
    dictionary: Float[Array, "K D"],
    has_missing: bool = False,
) -> Float[Array, "*B"]:
    """Expectation of `squared_error` over codes with the reconstruction m A and variances v.

    E ||x - s A||^2 is ||x - m A||^2 + sum_k v_k ||A_k||^2; over some entries alone, the norms are
    of those. The mean is over D in any case, so that the divergence keeps its weight.

    Args:
      data: x.
      reconstruction: m A.
      variance: v, of each latent.
      dictionary: A.
      has_missing: whether NaN is an entry that is not there.
    """
    if not has_missing:
        spread = variance @ jnp.sum(dictionary**2, axis=-1) / data.shape[-1]
        return squared_error(data, reconstruction) + spread
    spread = jnp.where(jnp.isnan(data), 0.0, variance @ dictionary**2)
    return squared_error(filled(data, reconstruction), reconstruction) + jnp.mean(spread, axis=-1)


def charged_squared_error(
    generate: Callable[[Float[Array, "S B K"]], tuple[Float[Array, "S B D"], Any]],
    data: Float[Array, "B D"],
    mean: Float[Array, "B K"],
    variance: Float[Array, "B K"],
    code: Float[Array, "B K"],
    keys: Key[Array, " B"],
) -> tuple[Float[Array, " B"], Any]:
    """`squared_error` of a code under any generator g, and how far noise moves what g makes of it.

    ||x - g(c)||^2 + ||g(s) - g(c)||^2, with one s from the normal distribution that has the
    codes' moments (as Wang & Manning 2013 of dropout), so that probabilities have a gradient that
    no draw of a support has. Where g is linear and c the mean, the expectation is
    `expected_squared_error`: bias and variance. Else it is no bound of anything: a network could
    use the noise itself to come nearer to the data than its code, and this charges for whatever
    noise changes. The distance of c from the mean counts, but has no gradient but through g.

    Args:
      generate: g, and its new statistics.
      data: x.
      mean: of the codes.
      variance: of each latent.
      code: c, whose gradient is the mean's.
      keys: one a datum.

    Returns:
      Both errors' sum, a mean over D, and the generator's new statistics.
    """
    deviation = jnp.sqrt(jnp.maximum(variance, SMALLEST_VARIANCE))
    noise = jax.vmap(
        lambda key: jax.random.normal(fused_threefry(key), mean.shape[1:], mean.dtype)
    )(keys)
    code = jax.lax.stop_gradient(code) + gradient_carrier(mean)
    made, statistics = generate(jnp.stack([code, mean + deviation * noise]))
    return squared_error(data, made[0]) + squared_error(made[1], made[0]), statistics
