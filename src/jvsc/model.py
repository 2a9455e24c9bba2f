"""Encoder, posterior and generator of a method, put together."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Key

from jvsc.networks import Encoder, Generator
from jvsc.posteriors import Posterior
from jvsc.thresholds import Heads


class Parameters(NamedTuple):
    """What training changes.

    Attributes:
      encoder: the encoder network's parameters; empty for FISTA.
      generator: the dictionary [K, D], or the generator network's parameters.
    """

    encoder: Any
    generator: Any


class Model(NamedTuple):
    """A method: how codes are inferred, and what they generate.

    Attributes:
      generator: codes to data.
      posterior: the family of posteriors; None for FISTA.
      encoder: data to posterior parameters; None for FISTA.
    """

    generator: Generator
    posterior: Posterior | None = None
    encoder: Encoder | None = None

    def init(self, key: Key[Array, ""]) -> Parameters:
        """Initial parameters, a function of `key` alone."""
        encoder_key, generator_key = jax.random.split(key)
        encoder = {} if self.encoder is None else self.encoder.init(encoder_key)
        return Parameters(encoder, self.generator.init(generator_key))

    def encode(self, parameters: Parameters, data: Float[Array, "B D"]) -> Heads:
        """Posterior parameters of each datum, one [B, K] array a head."""
        if self.encoder is None:
            raise ValueError("this method has no encoder; its codes come from jvsc.solvers.fista")
        return self.encoder.apply(parameters.encoder, data)

    def require_posterior(self) -> Posterior:
        """The posterior, where the method has one."""
        if self.posterior is None:
            raise ValueError("this method has no posterior; its codes come from jvsc.solvers.fista")
        return self.posterior
