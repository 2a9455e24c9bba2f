"""The importance-weighted bound (Burda et al. 2016)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def importance_weighted_bound(log_weights: Float[Array, "J *B"]) -> Float[Array, "*B"]:
    """Log mean_j w_j of J importance weights w = p(x, z) / q(z | x) (Burda et al. 2016).

    At most log p(x) on average.

    Args:
      log_weights: log p(x | z_j) + log p(z_j) - log q(z_j | x) of J draws.

    Returns:
      The bound in nats: for J = 1 the evidence lower bound, and tighter for larger J.
    """
    return jax.nn.logsumexp(log_weights, axis=0) - jnp.log(log_weights.shape[0])


def gaussian_log_likelihood(
    squared_error: Float[Array, "*B"], kl_weight: float | Float[Array, ""], num_features: int
) -> Float[Array, "*B"]:
    """Log N(x; x_hat, v I) with v = beta D / 2, which the encoder's loss bounds (eq. 12).

    mean_d (x_d - x_hat_d)^2 + beta KL is beta (-log p(x | s) + KL) up to a constant for this v.

    Args:
      squared_error: mean over the D dimensions.
      kl_weight: beta > 0.
      num_features: D.

    Returns:
      Nats.
    """
    constant = 0.5 * num_features * jnp.log(jnp.pi * kl_weight * num_features)
    return -squared_error / kl_weight - constant
