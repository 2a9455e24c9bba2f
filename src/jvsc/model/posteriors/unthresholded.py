"""A location-scale family without a threshold, as earlier variational sparse coders have it."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.model.posteriors.base import Annealing, LocationScale, Posterior
from jvsc.model.thresholding import Heads


@dataclass(frozen=True)
class Unthresholded(Posterior):
    """The base family itself as a posterior: samples are never zero (section 2 of the paper).

    Attributes:
      base: a location-scale family, such as `Laplacian(0.1)`.
    """

    base: LocationScale

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior."""
        return self.base.prior

    def sample_and_log_ratio(
        self, key: Key[Array, ""], heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """`loc + noise`, and its log ratio (see `Posterior`)."""
        noise = self.base.noise(key, heads, annealing)
        return heads["loc"] + noise, self.base.log_ratio(noise, heads)

    def moments(
        self, heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
        """`loc`, and the mean square of the noise."""
        heads = self.base.warmed(heads, annealing.warmup)
        return heads["loc"], self.base.excess_square(0.0, heads)

    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL of the base, in nats."""
        return self.base.kl(heads)

    def support_probability(self, heads: Heads) -> Float[Array, "*B K"]:
        """One for every latent."""
        return jnp.ones_like(heads["loc"])
