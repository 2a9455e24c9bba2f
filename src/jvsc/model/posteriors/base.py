"""What every posterior family gives, and what a location-scale base adds."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError
from jvsc.model.thresholding import Heads

# Odds of a non-zero stay finite where every latent is in use.
LARGEST_PROBABILITY = 1 - 1e-6
# Of the largest exponential that float32 holds; noise of a smaller scale has underflowed to zero.
LARGEST_EXPONENT = 88.0
# Beyond exp(40) scales `size / scale` is far past where exp(-size / scale) is zero in float32;
# the limit keeps its gradient from becoming inf * 0.
LARGEST_LOG_PRECISION = 40.0


class Annealing(NamedTuple):
    """What changes a sampler during training; evaluation uses the last values.

    Attributes:
      warmup: w in [0, 1], a factor of the Laplacian's noise (appendix B); in the spike-and-slab it
        moves the slab from N(0, 1) to the inferred one.
      temperature: tau > 0 of the relaxed Bernoulli variable.
    """

    warmup: ArrayLike = 1.0
    temperature: ArrayLike = 0.5


class Posterior(ABC):
    """A distribution over the code of one datum, a function of the heads that an encoder gives.

    Families are frozen dataclasses of their constants: equal constants make equal families.
    """

    @property
    @abstractmethod
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior, the same number for every latent."""

    @abstractmethod
    def sample_and_log_ratio(
        self, key: Key[Array, ""], heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """One reparameterised draw for one datum, and log p - log q of each of its latents.

        The ratio of prior to posterior is taken where the divergence acts: of the base sample, and
        of a threshold that is drawn. The importance-weighted bound needs it.

        Args:
          key: of this draw.
          heads: each [K].
          annealing: warm-up and temperature.
        """

    @abstractmethod
    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL(q || p) of each latent, in nats."""

    @abstractmethod
    def support_probability(self, heads: Heads) -> Float[Array, "*B K"]:
        """P(code != 0) of each latent (eq. 3), without warm-up."""

    def moments(
        self, heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
        """Mean and variance of each latent's code, in closed form.

        With them the expected squared error of a linear generator needs no draw.

        Raises:
          ValueError: if there is no closed form (Gamma thresholds).
        """
        raise ValueError(f"{self} has no moments in closed form; sample it")

    @property
    def has_moments(self) -> bool:
        """Whether `moments` are known."""
        return type(self).moments is not Posterior.moments

    def deterministic_code(self, heads: Heads) -> Float[Array, "*B K"]:
        """The location where a non-zero is more probable than not, exactly zero elsewhere."""
        return jnp.where(self.support_probability(heads) > 0.5, heads["loc"], 0.0)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the encoder heads it reads, each [K] for one datum."""
        return tuple(self.prior)

    def sample(self, key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        """One reparameterised draw of the code of one datum (see `sample_and_log_ratio`)."""
        return self.sample_and_log_ratio(key, heads, annealing)[0]


class LocationScale(ABC):
    """A base family whose samples are `loc + noise`, which is what thresholding needs.

    The noise is symmetric around zero. Families are frozen dataclasses of their constants.
    """

    @property
    @abstractmethod
    def prior(self) -> dict[str, float]:
        """Heads at which it is the prior; one of them is "loc"."""

    @abstractmethod
    def noise(self, key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        """Scaled noise of one datum's latents."""

    @abstractmethod
    def kl(self, heads: Heads) -> Float[Array, "*B K"]:
        """KL(q || p) of each latent in nats."""

    @abstractmethod
    def log_ratio(self, noise: Float[Array, " K"], heads: Heads) -> Float[Array, " K"]:
        """Log p(loc + noise) - log q(loc + noise) of each latent."""

    @abstractmethod
    def tail(self, size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """P(|noise| > size) of each latent, `size` broadcast against it."""

    @abstractmethod
    def excess_square(self, size: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """E max(|noise| - size, 0)^2 of each latent: of noise soft-thresholded at `size`."""

    def warmed(self, heads: Heads, warmup: ArrayLike) -> Heads:
        """Heads whose noise is that of `heads` under the warm-up, if it applies to the family."""
        del warmup
        return heads

    @abstractmethod
    def quantile(self, probability: ArrayLike, heads: Heads) -> Float[Array, "*B K"]:
        """The size with P(|noise| > size) = probability, the inverse of `tail`."""


def spike_and_slab_moments(
    probability: Float[Array, "*B K"], loc: Float[Array, "*B K"], variance: Float[Array, "*B K"]
) -> tuple[Float[Array, "*B K"], Float[Array, "*B K"]]:
    """Mean and variance of a code that is zero but with a probability, where it is a slab's.

    Args:
      probability: gamma of each latent.
      loc: mean of the slab.
      variance: of the slab.
    """
    return probability * loc, probability * (variance + (1 - probability) * loc**2)


def slab_of_prior(posterior: Posterior) -> tuple[float, float]:
    """Scale of a Laplacian with the prior slab's variance, and the prior log-odds of a non-zero.

    A Laplacian that is soft-thresholded keeps its scale, a Gaussian does not. Where the moments are
    not known (Gamma thresholds) the slab is taken for the base itself.

    Raises:
      UserError: if the prior leaves no non-zeros.
    """
    with jax.ensure_compile_time_eval():
        heads = {name: jnp.full(1, value, jnp.float32) for name, value in posterior.prior.items()}
        probability = float(posterior.support_probability(heads)[0])
        if not probability > 0:
            raise UserError(
                f"the threshold of {posterior} leaves no non-zeros of its prior; give a lower "
                "threshold or a wider prior"
            )
        if "log_scale" in posterior.prior:
            scale = math.exp(posterior.prior["log_scale"])
        else:
            variance = math.exp(posterior.prior["log_variance"])
            if posterior.has_moments:
                variance = float(posterior.moments(heads, Annealing())[1][0]) / probability
            scale = math.sqrt(variance / 2)
    probability = min(probability, LARGEST_PROBABILITY)
    return scale, math.log(probability) - math.log1p(-probability)
