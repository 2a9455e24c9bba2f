"""Noise and prior that a training finds as it goes: moving averages, no gradient."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jvsc.model.posteriors.inferred_threshold import (
    PRIOR_LOG_ODDS,
    PRIOR_LOG_SCALE,
    InferredThreshold,
)
from jvsc.model.thresholding import Heads

NoiseRule = Literal["fixed", "controlled", "learned"]
NOISE_RULES: tuple[NoiseRule, ...] = ("fixed", "controlled", "learned")
NOISE = "log_noise_variance"
# A step of the controller for each unit of log(share / wanted share), which counts up to one.
CONTROL_RATE, LARGEST_CONTROL = 0.02, 1.0
SMALLEST_SHARE = 1e-6
# The controller leaves this share of the noise that it began with, usually 0.001 of the data's
# variance: with an R^2 of 0.999 codes need no more non-zeros, and where data cannot have the wanted
# ones (more than dimensions) all probabilities went to 1/2 in search of them.
SMALLEST_NOISE = 4e-3
# Share of the newest batch in the moving averages, of logarithms; one batch moves them so far.
AVERAGE_RATE, LARGEST_CHANGE = 0.01, 3.0


@dataclass(frozen=True)
class EmpiricalBayes:
    """How the noise's variance and the prior of an `InferredThreshold` follow from the data.

    With the exact bound their best values given the posterior are plain means over the data:
    sigma^2 the expected squared error of an entry, p0 the mean probability of a non-zero, b0 the
    mean size of a non-zero. Training keeps moving averages of them (variational EM).

    Attributes:
      noise: "learned" by its mean, so that with the exact bound the loss is, but for a factor and a
        constant, the best bound on the evidence; "controlled" so that `sparsity` is the share of
        latents with a probability above 1/2; or "fixed".
      noise_variance: sigma^2 at the start, of an entry of the data.
      sparsity: wanted share of non-zeros, for the controller.
      learns_scale: whether b0 is found, or stays what the posterior says.
      learns_sparsity: whether p0 is.
      settled_after: step from which the controller rests.
      axis_name: mesh axis over which a batch is spread in training.
    """

    noise: NoiseRule = "controlled"
    noise_variance: float = 0.25
    sparsity: float = 0.05
    learns_scale: bool = True
    learns_sparsity: bool = False
    settled_after: int | None = None
    axis_name: str | None = None

    def init(self, posterior: InferredThreshold) -> dict[str, Float[Array, ""]]:
        """The numbers before the first step."""
        return {
            NOISE: jnp.float32(math.log(self.noise_variance)),
            PRIOR_LOG_SCALE: jnp.float32(math.log(posterior.scale)),
            PRIOR_LOG_ODDS: jnp.float32(posterior.prior["gate"]),
        }

    def update(
        self,
        numbers: dict[str, Float[Array, ""]],
        posterior: InferredThreshold,
        heads: Heads,
        squared_error: Float[Array, " B"],
        step: Int[Array, ""],
    ) -> dict[str, Float[Array, ""]]:
        """The numbers after a batch.

        Args:
          numbers: before it.
          posterior: of the codes.
          heads: of the batch.
          squared_error: expected squared error of each datum, the mean over its entries.
          step: steps done before it.
        """
        probability = posterior.support_probability(heads)
        means = {
            "error": jnp.mean(squared_error),
            "share": jnp.mean(probability > 0.5, dtype=jnp.float32),
            "probability": jnp.mean(probability),
            "size": jnp.mean(probability * posterior.mean_size(heads)),
        }
        means = jax.lax.stop_gradient(means)
        if self.axis_name is not None:
            means = jax.lax.pmean(means, self.axis_name)
        new = dict(numbers)
        if self.noise == "learned":
            new[NOISE] = _average(numbers[NOISE], jnp.log(means["error"]))
        elif self.noise == "controlled":
            change = jnp.log(jnp.maximum(means["share"], SMALLEST_SHARE) / self.sparsity)
            change = CONTROL_RATE * jnp.clip(change, -LARGEST_CONTROL, LARGEST_CONTROL)
            rests = self.settled_after is not None and step >= self.settled_after
            lowest = math.log(SMALLEST_NOISE * self.noise_variance)
            new[NOISE] = jnp.maximum(numbers[NOISE] + jnp.where(rests, 0.0, change), lowest)
        if self.learns_scale:
            tiny = jnp.finfo(jnp.float32).tiny  # where no latent has any probability
            size = jnp.log(means["size"] + tiny) - jnp.log(means["probability"] + tiny)
            new[PRIOR_LOG_SCALE] = _average(numbers[PRIOR_LOG_SCALE], size)
        if self.learns_sparsity:
            share = jnp.clip(means["probability"], SMALLEST_SHARE, 0.5)
            odds = jnp.log(share) - jnp.log1p(-share)
            new[PRIOR_LOG_ODDS] = _average(numbers[PRIOR_LOG_ODDS], odds)
        return new


def prior_heads(numbers: dict[str, Any], like: Float[Array, "B K"]) -> Heads:
    """The prior's numbers as heads, the same for all latents and data."""
    return {
        name: jnp.broadcast_to(numbers[name], like.shape)
        for name in (PRIOR_LOG_SCALE, PRIOR_LOG_ODDS)
    }


def _average(old: Float[Array, ""], batch: Float[Array, ""]) -> Float[Array, ""]:
    return old + AVERAGE_RATE * jnp.clip(batch - old, -LARGEST_CHANGE, LARGEST_CHANGE)
