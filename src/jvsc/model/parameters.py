"""What a model consists of while it is trained: numbers that have a gradient, and running ones."""

from typing import Any, NamedTuple


class Parameters(NamedTuple):
    """What training changes by a gradient.

    Attributes:
      encoder: the encoder network's parameters; empty for codes that a solver infers.
      generator: the dictionary [K, D], or the generator network's parameters.
    """

    encoder: Any
    generator: Any


class Statistics(NamedTuple):
    """What training changes without a gradient: running averages, controllers, counters.

    Attributes:
      encoder: the encoder network's; empty without batch normalisation.
      generator: the generator network's.
      prior: numbers of noise and prior that the data decide; None where they are constants.
    """

    encoder: Any
    generator: Any
    prior: Any = None
