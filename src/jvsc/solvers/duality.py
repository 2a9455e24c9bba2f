"""How far codes are from the lasso's optimum: its duality gap, and the exact products of it."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Accelerators would round products to TensorFloat-32 or bfloat16, and the certificate be void.
product: Callable[..., jax.Array] = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def there(values: Float[Array, "N D"], present: Bool[Array, "N D"] | None) -> Float[Array, "N D"]:
    """Values of the entries that there are, zero elsewhere."""
    return values if present is None else jnp.where(present, values, 0.0)


def duality_gap(
    residual_data: Float[Array, " N"],
    residual_energy: Float[Array, " N"],
    residual_correlation: Float[Array, "N K"],
    codes: Float[Array, "N K"],
    penalty: Float[Array, "N #K"],
    positive: bool = False,
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Primal objective and duality gap of each lasso problem.

    The primal objective is P(s) = 0.5 ||x - s A||^2 + sum_k lambda_k |s_k|. Its Fenchel dual is
    D(t) = <t, x> - 0.5 ||t||^2 over t with |<t, a_k>| <= lambda_k for every atom, the conjugate of
    lambda_k |s_k| being zero there and infinite elsewhere. Where codes may not be negative the
    conjugate is zero for all correlations up to lambda_k, so that <t, a_k> <= lambda_k is all that
    is asked for. Of the residual r = x - s A the dual point is c r with
    c = min(1, min_k lambda_k / |<r, a_k>|), or with max(<r, a_k>, 0) for codes that are not
    negative, and P(s) - D(c r) is at least P(s) less its minimum.

    Args:
      residual_data: <r, x>.
      residual_energy: ||r||^2.
      residual_correlation: <r, a_k>.
      codes: s.
      penalty: lambda of each datum [N, 1], or of each datum's latents [N, K]; finite.
      positive: whether codes may not be negative.

    Returns:
      P(s) and P(s) - D(c r).
    """
    tiny = jnp.finfo(residual_data.dtype).tiny
    correlation = residual_correlation if positive else jnp.abs(residual_correlation)
    feasible = penalty / jnp.maximum(correlation, tiny)
    scale = jnp.min(feasible, axis=-1, initial=1.0)
    primal = 0.5 * residual_energy + jnp.sum(penalty * jnp.abs(codes), axis=-1)
    dual = scale * residual_data - 0.5 * scale**2 * residual_energy
    return primal, jnp.maximum(primal - dual, 0.0)


def exact_gap(
    codes: Float[Array, "N K"],
    data: Float[Array, "N D"],
    dictionary: Float[Array, "K D"],
    penalty: Float[Array, "N #K"],
    positive: bool = False,
    present: Bool[Array, "N D"] | None = None,
) -> Float[Array, " N"]:
    """Duality gap of each lasso problem from its residual itself, free of cancellation.

    Args:
      codes: s.
      data: x.
      dictionary: A.
      penalty: lambda of each datum [N, 1], or of each datum's latents [N, K]; finite.
      positive: whether codes may not be negative.
      present: which entries there are; the others of x are zero. By default all.
    """
    residual = data - there(product(codes, dictionary), present)
    return duality_gap(
        jnp.sum(residual * data, axis=-1),
        jnp.sum(residual**2, axis=-1),
        product(residual, dictionary.T),
        codes,
        penalty,
        positive,
    )[1]
