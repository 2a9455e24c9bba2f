"""What measures are computed of: one trained seed, and the data it is measured on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Key, Shaped

from jvsc.data import Dataset
from jvsc.evaluation.code_measures import Values
from jvsc.evaluation.inference import Inferred
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics
from jvsc.runs.config import Config


class Subject(NamedTuple):
    """One trained seed and the data it is measured on.

    Attributes:
      parameters: of encoder and generator.
      statistics: running averages of encoder, generator and prior.
      data: the validation data that are measured.
      inferred: their codes.
      key: of everything that is drawn.
    """

    parameters: Parameters
    statistics: Statistics
    data: Shaped[np.ndarray, "M D"]
    inferred: Inferred
    key: Key[Array, ""]


Compute = Callable[[Subject], Values]
# Compiles a group of measures for all seeds of a run; None where it does not apply.
Make = Callable[[Config, Model, Dataset], Compute | None]
