"""The Thresholded Laplacian whose threshold the encoder infers: a spike and a Laplacian slab."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.model.posteriors.base import (
    LARGEST_LOG_PRECISION,
    Annealing,
    Posterior,
    spike_and_slab_moments,
)
from jvsc.model.posteriors.laplacian import Laplacian, laplacian_kl
from jvsc.model.thresholding import Heads, straight_through_threshold

# Numbers of the prior that a training may find; they come with the heads, one for all latents.
PRIOR_LOG_SCALE, PRIOR_LOG_ODDS = "prior_log_scale", "prior_log_odds"


@dataclass(frozen=True)
class InferredThreshold(Posterior):
    """Thresholded Laplacian with a threshold of its own for each latent and datum.

    The encoder gives gamma = sigmoid(gate), the probability that a latent is in use, and so the
    threshold lambda = -b log gamma (eq. 3). By Proposition 3.1 the code is exactly spike-and-slab:
    zero with probability 1 - gamma, else Laplace(loc, b). Unlike with a fixed threshold, gamma does
    not rise with the noise b, so the posterior can be sure of a latent. The divergence is that of
    what is drawn, and not of the base, from a spike-and-slab prior with p0 and Laplace(0, b0).

    Heads are `loc`, `log_scale` and `gate`, and where a training finds the prior `prior_log_scale`
    (log b0) and `prior_log_odds` (log p0 / (1 - p0)), the same for all latents.

    Attributes:
      scale: scale b0 of the prior's slab, unless it comes with the heads.
      sparsity: the prior's probability p0 of a non-zero, unless it comes with the heads.

    Raises:
      UserError: if `scale` is not positive or `sparsity` outside (0, 1).
    """

    scale: float = 0.5
    sparsity: float = 0.05

    def __post_init__(self) -> None:
        Laplacian(self.scale)  # refuses what is not positive
        if not 0 < self.sparsity < 1:
            raise UserError(
                f"sparsity is {self.sparsity}; give a share of non-zeros between 0 and 1"
            )

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior."""
        return {
            "loc": 0.0,
            "log_scale": math.log(self.scale),
            "gate": math.log(self.sparsity) - math.log1p(-self.sparsity),
        }

    def prior_scale(self, heads: Heads) -> Float[Array, "*#B K"] | float:
        """b0."""
        log_scale = heads.get(PRIOR_LOG_SCALE)
        return self.scale if log_scale is None else jnp.exp(log_scale)

    def prior_log_odds(self, heads: Heads) -> Float[Array, "*#B K"] | float:
        """Log p0 - log(1 - p0)."""
        return heads.get(PRIOR_LOG_ODDS, self.prior["gate"])

    def sample_and_log_ratio(
        self, key: Key[Array, ""], heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """T(loc + noise) by the straight-through estimator, and the log ratio of what is drawn.

        The gate's gradient goes through the threshold.
        """
        base = Laplacian(self.scale)
        noise = base.noise(key, heads, annealing)
        scale = jnp.exp(heads["log_scale"])
        threshold = jnp.asarray(annealing.warmup) * scale * jax.nn.softplus(-heads["gate"])
        code = straight_through_threshold(heads["loc"], noise, threshold)
        log_odds = jnp.asarray(self.prior_log_odds(heads))
        on = jax.nn.log_sigmoid(log_odds) - jax.nn.log_sigmoid(heads["gate"])
        off = jax.nn.log_sigmoid(-log_odds) - jax.nn.log_sigmoid(-heads["gate"])
        precision = jnp.exp(jnp.minimum(-heads["log_scale"], LARGEST_LOG_PRECISION))
        prior_scale = jnp.asarray(self.prior_scale(heads))
        log_prior = -jnp.log(prior_scale) - jnp.abs(code) / prior_scale
        log_slab = -heads["log_scale"] - jnp.abs(code - heads["loc"]) * precision
        return code, jnp.where(code != 0, on + log_prior - log_slab, off)

    def moments(
        self, heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
        """Gamma loc, and gamma (loc^2 + 2 b^2) - (gamma loc)^2."""
        variance = 2 * (jnp.asarray(annealing.warmup) * jnp.exp(heads["log_scale"])) ** 2
        return spike_and_slab_moments(self.support_probability(heads), heads["loc"], variance)

    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL from the spike-and-slab prior, in nats.

        gamma KL(Laplace(loc, b) || Laplace(0, b0)) + gamma log(gamma / p0) + (1 - gamma) log((1 -
        gamma) / (1 - p0)), in log space.
        """
        gate, log_odds = heads["gate"], jnp.asarray(self.prior_log_odds(heads))
        probability = jax.nn.sigmoid(gate)
        on = jax.nn.log_sigmoid(gate) - jax.nn.log_sigmoid(log_odds)
        off = jax.nn.log_sigmoid(-gate) - jax.nn.log_sigmoid(-log_odds)
        slab = laplacian_kl(heads["loc"], heads["log_scale"], self.prior_scale(heads))
        return probability * (slab + on) + (1 - probability) * off

    def support_probability(self, heads: Heads) -> Float[Array, "*B K"]:
        """Gamma, the sigmoid of the gate."""
        return jax.nn.sigmoid(heads["gate"])

    def mean_size(self, heads: Heads) -> Float[Array, "*B K"]:
        """E |s| of each latent where it is not zero: |loc| + b exp(-|loc| / b)."""
        size, scale = jnp.abs(heads["loc"]), jnp.exp(heads["log_scale"])
        precision = jnp.exp(jnp.minimum(-heads["log_scale"], LARGEST_LOG_PRECISION))
        return size + scale * jnp.exp(-size * precision)
