"""The result of every data source."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from jvsc.data.normalisation import Normalisation
from jvsc.data.rows import Rows
from jvsc.data.tokens import Tokens


class Labels(NamedTuple):
    """Binary attributes of data.

    Attributes:
      names: of the A attributes.
      train: which each training datum has, [N, A].
      validation: likewise, [M, A].
      exclusive: whether each datum has exactly one, so that they are classes.
    """

    names: tuple[str, ...]
    train: Bool[np.ndarray, "N A"]
    validation: Bool[np.ndarray, "M A"]
    exclusive: bool


class Dataset(NamedTuple):
    """Training and validation data, as a model takes them or as bytes.

    Attributes:
      train: [N, D], float32, or uint8 that stands for [0, 1]; may be memory-mapped, or `Rows`.
      validation: [M, D], of the same type.
      shape: the shape of one datum as an image, (H, W) or (H, W, C), or (D,) if it is none.
      description: what the data are and how they were split, one line.
      mean: what was subtracted from each dimension of the original data, [D]; None for bytes.
      scale: what each dimension was divided by, [D]; None for bytes.
      signed: whether zero is the middle of the data's range, as for whitened pictures.
      mirrored: whether training mirrors images left to right at random.
      read_labels: reads the attributes, which only an evaluation needs; None where there are none.
      read_tokens: reads the validation data's tokens, likewise.
    """

    train: Shaped[np.ndarray | Rows, "N D"]
    validation: Shaped[np.ndarray, "M D"]
    shape: tuple[int, ...]
    description: str
    mean: Float[np.ndarray, " D"] | None = None
    scale: Float[np.ndarray, " D"] | None = None
    signed: bool = False
    mirrored: bool = False
    read_labels: Callable[[], Labels] | None = None
    read_tokens: Callable[[], Tokens] | None = None

    @property
    def normalisation(self) -> Normalisation | None:
        """How the data were made of the original ones; None for bytes."""
        if self.mean is None or self.scale is None:
            return None
        return Normalisation(self.mean, self.scale)


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
