"""The spike-and-slab with a relaxed Bernoulli spike (Tonolini et al. 2020)."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.model.posteriors.base import Annealing, Posterior, spike_and_slab_moments
from jvsc.model.posteriors.gaussian import Gaussian
from jvsc.model.thresholding import Heads, gradient_carrier


def relaxed_spike(
    key: Key[Array, ""], log_odds: Float[Array, " K"], temperature: ArrayLike
) -> Float[Array, " K"]:
    """Bernoulli draw in {0, 1} with the gradient of its logistic relaxation (Jang et al. 2017).

    Args:
      key: random key.
      log_odds: log-odds of a one.
      temperature: tau > 0 of the relaxation.

    Returns:
      Zeros and ones; the gradient is that of sigmoid((log-odds + logistic noise) / tau).
    """
    noise = jax.random.logistic(key, log_odds.shape, log_odds.dtype)
    relaxed = jax.nn.sigmoid((log_odds + noise) / temperature)
    return jnp.round(jax.lax.stop_gradient(relaxed)) + gradient_carrier(relaxed)


@dataclass(frozen=True)
class SpikeAndSlab(Posterior):
    """Spike-and-slab posterior: heads `loc`, `log_variance`, `gate` (Tonolini et al. 2020).

    A latent is on with probability gamma = sigmoid(gate), which has a gradient everywhere; the
    published exp(-relu(-head)) has none for a head above zero. The warm-up w moves the slab from
    N(0, 1) to the inferred Gaussian.

    Attributes:
      sparsity: the prior's probability p0 of a non-zero.
      variance: variance v0 of the prior's slab N(0, v0).

    Raises:
      UserError: if `sparsity` is outside (0, 1) or `variance` is not positive.
    """

    sparsity: float = 0.1
    variance: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise UserError(
                f"sparsity is {self.sparsity}; give a share of non-zeros between 0 and 1"
            )
        Gaussian(self.variance)  # refuses what is not positive

    @property
    def slab(self) -> Gaussian:
        """The family of a code's value where it is not zero."""
        return Gaussian(self.variance)

    @property
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior."""
        return self.slab.prior | {"gate": math.log(self.sparsity) - math.log1p(-self.sparsity)}

    def sample_and_log_ratio(
        self, key: Key[Array, ""], heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """`spike * slab`, and its log ratio (see `Posterior`)."""
        slab_key, spike_key = jax.random.split(key)
        w = jnp.asarray(annealing.warmup)
        scale = w * jnp.exp(heads["log_variance"] / 2) + jnp.sqrt(1 - w)
        slab = w * heads["loc"] + scale * jax.random.normal(
            slab_key, heads["loc"].shape, heads["loc"].dtype
        )
        spike = relaxed_spike(spike_key, heads["gate"], annealing.temperature)
        on, off = self._spike_log_ratios(heads)
        # Where the spike is zero the slab is not drawn, as in the divergence.
        of_slab = self.slab.log_ratio(slab - heads["loc"], heads)
        return spike * slab, jnp.where(spike > 0.5, on + of_slab, off)

    def moments(
        self, heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
        """Mean gamma m, and variance gamma (m^2 + v) - (gamma m)^2, of a slab N(m, v)."""
        w = jnp.asarray(annealing.warmup)
        scale = w * jnp.exp(heads["log_variance"] / 2) + jnp.sqrt(1 - w)
        return spike_and_slab_moments(self.support_probability(heads), w * heads["loc"], scale**2)

    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL(q || p) of each latent in nats: the slab's where it is on, and the spike's."""
        probability = self.support_probability(heads)
        on, off = self._spike_log_ratios(heads)
        return probability * (self.slab.kl(heads) - on) - (1 - probability) * off

    def support_probability(self, heads: Heads) -> Float[Array, "*B K"]:
        """gamma: the relaxed spike is one where the gate + logistic noise > 0, at any tau."""
        return jax.nn.sigmoid(heads["gate"])

    def _spike_log_ratios(self, heads: Heads) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
        """Log p - log q of a spike that is on, and of one that is off."""
        on = math.log(self.sparsity) - jax.nn.log_sigmoid(heads["gate"])
        return on, math.log1p(-self.sparsity) - jax.nn.log_sigmoid(-heads["gate"])
