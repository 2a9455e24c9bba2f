"""What every data source gives."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Dataset(NamedTuple):
    """Training and validation data, standardised by the training set's statistics.

    Attributes:
      train: [N, D], float32.
      validation: [M, D], float32.
      mean: what was subtracted from each dimension, [D].
      scale: what each dimension was divided by, [D].
      shape: the shape of one datum as an image, (H, W) or (H, W, C); its product is D.
      description: what the data are and how they were split, one line.
    """

    train: Float[np.ndarray, "N D"]
    validation: Float[np.ndarray, "M D"]
    mean: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]
    shape: tuple[int, ...]
    description: str


def standardise(
    train: Float[np.ndarray, "N D"], validation: Float[np.ndarray, "M D"]
) -> tuple[
    Float[np.ndarray, "N D"],
    Float[np.ndarray, "M D"],
    Float[np.ndarray, " D"],
    Float[np.ndarray, " D"],
]:
    """Gives each dimension mean 0 and variance 1 over the training set, and applies it to both.

    Returns:
      Standardised training and validation data, and the mean and standard deviation used.
    """
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = train.std(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.where(deviation > 0, deviation, np.float32(1))
    return (train - mean) / scale, (validation - mean) / scale, mean, scale
