"""What a model consists of while it is trained: numbers that have a gradient, and running ones."""

from typing import Any, NamedTuple

import jax
import numpy as np


class Parameters(NamedTuple):
    """What training changes by a gradient.

    Attributes:
      encoder: the encoder network's parameters; empty for codes that a solver infers.
      generator: the dictionary [K, D], or the generator network's parameters.
      prior: numbers of the prior and of the noise by name, where they are learned; else None.
    """

    encoder: Any
    generator: Any
    prior: Any = None


class Statistics(NamedTuple):
    """What training changes without a gradient: running averages, controllers, counters.

    Attributes:
      encoder: the encoder network's; empty without batch normalisation.
      generator: the generator network's.
      prior: of the noise and of how often latents are used; None where nothing is kept.
    """

    encoder: Any
    generator: Any
    prior: Any = None


def has_dictionary(parameters: Parameters) -> bool:
    """Whether the generator is a dictionary [K, D], and not a network."""
    return isinstance(parameters.generator, (jax.Array, np.ndarray))
