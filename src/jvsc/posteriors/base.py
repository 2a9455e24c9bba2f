"""What every posterior family gives, and what a location-scale base adds."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jvsc.thresholds import Heads, Tail


class Annealing(NamedTuple):
    """What changes a sampler during training; evaluation uses the last values.

    Attributes:
      warmup: w in [0, 1], a factor of the Laplacian's noise (appendix B); in the spike-and-slab it
        moves the slab from N(0, 1) to the inferred one.
      temperature: tau > 0 of the relaxed Bernoulli variable.
    """

    warmup: ArrayLike = 1.0
    temperature: ArrayLike = 0.5


Sample = Callable[[Key[Array, ""], Heads, Annealing], Float[Array, " K"]]
Divergence = Callable[[Heads], Float[Array, "*B K"]]
SupportProbability = Callable[[Heads], Float[Array, "*B K"]]
# (key, heads, annealing) -> a draw's code [K], and log p(z) - log q(z) of each of its latents [K]
WeighedSample = Callable[
    [Key[Array, ""], Heads, Annealing], tuple[Float[Array, " K"], Float[Array, " K"]]
]


class Posterior(NamedTuple):
    """A distribution over the code of one datum.

    Attributes:
      prior: heads at which it is the prior, the same number for every latent.
      sample: `(key, heads, annealing) -> code [K]`, one reparameterised draw for one datum.
      kl: `heads -> KL(q || p)` for each latent in nats, [..., K].
      weighed_sample: `sample`'s draw with the log ratio of prior to posterior where the divergence
        acts: of the base sample and of an inferred threshold, for the importance-weighted bound.
      support_probability: `heads -> P(code != 0)` of each latent, [..., K], without warm-up.
    """

    prior: dict[str, float]
    sample: Sample
    kl: Divergence
    weighed_sample: WeighedSample
    support_probability: SupportProbability

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the encoder heads it reads, each [K] for one datum."""
        return tuple(self.prior)


class LocationScale(NamedTuple):
    """A base family whose samples are `loc + noise`, which is what thresholding needs.

    Attributes:
      prior: heads at which it is the prior; one of them is "loc".
      noise: `(key, heads, annealing) -> scaled noise [K]` for one datum.
      kl: `heads -> KL(q || p)` for each latent in nats, [..., K].
      log_ratio: `(noise, heads) -> log p(loc + noise) - log q(loc + noise)` for each latent.
      tail: `(size, heads) -> P(|noise| > size)` for each latent, `size` broadcast against it.
      quantile: `(probability, heads) -> size` with `P(|noise| > size) = probability`, its inverse.
    """

    prior: dict[str, float]
    noise: Sample
    kl: Divergence
    log_ratio: Callable[[Float[Array, " K"], Heads], Float[Array, " K"]]
    tail: Tail
    quantile: Tail


def as_posterior(base: LocationScale) -> Posterior:
    """The base family itself as a posterior, without a threshold: samples are never zero."""

    def sample(key: Key[Array, ""], heads: Heads, annealing: Annealing) -> Float[Array, " K"]:
        return weighed_sample(key, heads, annealing)[0]

    def weighed_sample(
        key: Key[Array, ""], heads: Heads, annealing: Annealing
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        noise = base.noise(key, heads, annealing)
        return heads["loc"] + noise, base.log_ratio(noise, heads)

    def support_probability(heads: Heads) -> Float[Array, "*B K"]:
        return jnp.ones_like(heads["loc"])

    return Posterior(base.prior, sample, base.kl, weighed_sample, support_probability)
