"""How a model's data are made of the original ones."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped


class Normalisation(NamedTuple):
    """How a model's data are made of the original ones: (x - mean) / scale.

    Attributes:
      mean: what is subtracted from each dimension, [D].
      scale: what each dimension is divided by afterwards, [D].
    """

    mean: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]

    def apply(self, data: Shaped[np.ndarray, "*B D"]) -> Float[np.ndarray, "*B D"]:
        """Data as the model takes them, float32."""
        return (data.astype(np.float32) - self.mean) / self.scale

    def undo(self, data: Float[np.ndarray, "*B D"]) -> Float[np.ndarray, "*B D"]:
        """Data in their original units."""
        return data * self.scale + self.mean
