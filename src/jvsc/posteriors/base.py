"""What every posterior family gives, and what a location-scale base adds."""

from collections.abc import Callable
from typing import NamedTuple

from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.thresholds import Heads


class Annealing(NamedTuple):
    """What changes a sampler during training; evaluation uses the last values.

    Attributes:
      warmup: w of appendix B, a factor of the noise, in [0.1, 1].
      temperature: tau of the relaxed Bernoulli variable.
    """

    warmup: ArrayLike = 1.0
    temperature: ArrayLike = 0.5


Sample = Callable[[Key[Array, ""], Heads, Annealing], Float[Array, " K"]]
Divergence = Callable[[Heads], Float[Array, "*B K"]]


class Posterior(NamedTuple):
    """A distribution over the code of one datum.

    Attributes:
      prior: heads at which it is the prior, the same number for every latent.
      sample: `(key, heads, annealing) -> code [K]`, one reparameterised draw for one datum.
      kl: `heads -> KL(q || p)` for each latent, [..., K].
    """

    prior: dict[str, float]
    sample: Sample
    kl: Divergence

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the encoder heads it reads, each [K] for one datum."""
        return tuple(self.prior)


class LocationScale(NamedTuple):
    """A base family whose samples are `loc + noise`, which is what thresholding needs.

    Attributes:
      prior: heads at which it is the prior; one of them is "loc".
      noise: `(key, heads, annealing) -> scaled noise [K]` for one datum.
      kl: `heads -> KL(q || p)` for each latent, [..., K].
    """

    prior: dict[str, float]
    noise: Sample
    kl: Divergence


def as_posterior(base: LocationScale) -> Posterior:
    """The base family itself as a posterior, without a threshold: samples are never zero."""

    def sample(key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        return heads["loc"] + base.noise(key, heads, annealing)

    return Posterior(base.prior, sample, base.kl)
