"""The shifted soft-threshold (eq. 2) and its two gradients (eq. 4, appendix C)."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jvsc.solvers.soft_threshold import soft_threshold

# Posterior parameters by name: one array [..., K] each, or [K] for one datum.
Heads = dict[str, Float[Array, "*B K"]]
Estimator = Literal["straight_through", "subgradient", "subgradient_published"]
# With these the paper's trainings collapse or diverge (table 2), which is their result.
SUBGRADIENTS: tuple[Estimator, ...] = ("subgradient", "subgradient_published")


def shifted_soft_threshold(
    loc: Float[Array, "*S"],
    noise: Float[Array, "*S"],
    threshold: Float[Array, "*#S"] | float,
) -> Float[Array, "*S"]:
    """Thresholds the sample `loc + noise` around its own `loc` (eq. 2).

    Differentiated as written this is the subgradient estimator of appendix C: an inactive latent
    passes no gradient.

    Args:
      loc: location of the base distribution.
      noise: the sample's deviation from `loc`, scaled.
      threshold: t >= 0, broadcast against `noise`.

    Returns:
      `loc + soft_threshold(noise)`, and exactly zero where |noise| <= t.
    """
    return jnp.where(jnp.abs(noise) <= threshold, 0.0, loc + soft_threshold(noise, threshold))


@jax.custom_jvp
def gradient_carrier(values: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The term r - sg[r] of a straight-through estimator: zero, with the gradient of `values`.

    Written out it would be computed where nothing is differentiated, such as for the draws that
    are only scored, since a compiler cannot know that r is finite.

    Args:
      values: r, any shape.

    Returns:
      Exact zeros.
    """
    return jnp.zeros_like(values)


@gradient_carrier.defjvp
def _gradient_carrier_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return gradient_carrier(*primals), *tangents


def straight_through_threshold(
    loc: Float[Array, "*S"],
    noise: Float[Array, "*S"],
    threshold: Float[Array, "*#S"] | float,
) -> Float[Array, "*S"]:
    """The shifted soft-threshold with the straight-through gradient `r + T(sg[r]) - sg[r]` (eq. 4).

    `loc` and the noise's scale receive the gradient of the unthresholded sample r, on active and
    inactive latents alike; `threshold` receives its own through T.

    Args:
      loc: location of the base distribution.
      noise: the sample's deviation from `loc`, scaled.
      threshold: t >= 0, broadcast against `noise`.

    Returns:
      Exactly the value of `shifted_soft_threshold`.
    """
    stop = jax.lax.stop_gradient
    thresholded = shifted_soft_threshold(stop(loc), stop(noise), threshold)
    return thresholded + gradient_carrier(loc + noise)


ESTIMATORS: dict[str, Callable[..., Array]] = {
    "straight_through": straight_through_threshold,
    "subgradient": shifted_soft_threshold,
    "subgradient_published": shifted_soft_threshold,
}
