"""Encoder, posterior and generator of a method, put together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
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


def has_dictionary(parameters: Parameters) -> bool:
    """Whether the generator is a dictionary [K, D], and not a network."""
    return isinstance(parameters.generator, (jax.Array, np.ndarray))


class Statistics(NamedTuple):
    """Running averages of batch normalisation, which training moves without a gradient.

    Attributes:
      encoder: the encoder network's; empty without batch normalisation.
      generator: the generator network's.
    """

    encoder: Any
    generator: Any


class Autoencoder(NamedTuple):
    """A deterministic encoder that is trained with a dictionary by a loss of its own.

    Attributes:
      init: `key -> (parameters, statistics)` of encoder and dictionary, which begin alike.
      infer: `(parameters, data [B, D]) -> codes [B, K]`.
      loss: `(parameters, statistics, data [B, D], penalty) -> (losses [B], codes [B, K], moved
        statistics)`.
    """

    init: Callable[[Key[Array, ""]], tuple[Parameters, Statistics]]
    infer: Callable[[Parameters, Float[Array, "B D"]], Float[Array, "B K"]]
    loss: Callable[
        [Parameters, Statistics, Float[Array, "B D"], Float[Array, ""]],
        tuple[Float[Array, " B"], Float[Array, "B K"], Statistics],
    ]


class Model(NamedTuple):
    """A method: how codes are inferred, and what they generate.

    Attributes:
      generator: codes to data.
      posterior: the family of posteriors; None for FISTA.
      encoder: data to posterior parameters; None for FISTA.
      autoencoder: of a method that has one, in place of posterior and encoder.
    """

    generator: Generator
    posterior: Posterior | None = None
    encoder: Encoder | None = None
    autoencoder: Autoencoder | None = None

    def init(self, key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        """Initial parameters and statistics, functions of `key` alone."""
        if self.autoencoder is not None:
            return self.autoencoder.init(key)
        encoder_key, generator_key = jax.random.split(key)
        encoder = ({}, {}) if self.encoder is None else self.encoder.init(encoder_key)
        generator = self.generator.init(generator_key)
        return Parameters(encoder[0], generator[0]), Statistics(encoder[1], generator[1])

    def encode(
        self,
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        training: bool = False,
    ) -> tuple[Heads, Any]:
        """Posterior parameters of each datum, one [B, K] array a head, and moved statistics."""
        if self.encoder is None:
            raise ValueError("this method has no encoder; its codes come from jvsc.solvers")
        return self.encoder.apply(parameters.encoder, statistics.encoder, data, training)

    def generate(
        self,
        parameters: Parameters,
        statistics: Statistics,
        codes: Float[Array, "*B K"],
        training: bool = False,
    ) -> tuple[Float[Array, "*B D"], Any]:
        """Data of codes, and moved statistics."""
        return self.generator.apply(parameters.generator, statistics.generator, codes, training)

    def require_posterior(self) -> Posterior:
        """The posterior, where the method has one."""
        if self.posterior is None:
            raise ValueError("this method has no posterior; its codes come from jvsc.solvers")
        return self.posterior
