"""The normalisation of data, and its inverse."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

# Means of more scales than this take digits off the rest when float32 holds them.
FAR = 1 << 10


class Normalisation(NamedTuple):
    """Normalisation of data: (x - mean) / scale.

    Attributes:
      mean: what is subtracted from each dimension, [D]; in float64 where it is far from zero, and
        data then are, before they become float32.
      scale: what each dimension is divided by afterwards, [D].
    """

    mean: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]

    def apply(self, data: Shaped[np.ndarray, "*B D"]) -> Float[np.ndarray, "*B D"]:
        """Data as the model takes them, float32."""
        centred = data.astype(self.mean.dtype) - self.mean
        return centred.astype(np.float32) / self.scale

    def undo(self, data: Float[np.ndarray, "*B D"]) -> Float[np.ndarray, "*B D"]:
        """Data in their original units."""
        return data * self.scale + self.mean


def normalisation_by(
    mean: Float[np.ndarray, " D"], scale: Float[np.ndarray, " D"]
) -> Normalisation:
    """A normalisation in float32; the mean in float64 where it is far from zero for its scale."""
    is_far = bool(np.any(np.abs(mean) > FAR * scale))
    return Normalisation(mean if is_far else mean.astype(np.float32), scale.astype(np.float32))
