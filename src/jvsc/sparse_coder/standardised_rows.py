"""Rows of a matrix of any real type, NumPy's or memory-mapped, read a part at a time."""

import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.preprocessing import StandardScaler

# Of the original data, and of the codes and draws made of them, held at once.
CHUNK_BYTES = 1 << 24
# A chunk is filled up to one of these sizes, so that few sizes are compiled.
CHUNK_ROWS = (128, 1024)


class StandardisedRows:
    """A matrix whose rows are centred, scaled and made float32 when they are read.

    Every row is computed in float64, so one datum gives the same bits whatever type holds it.

    Args:
      data: the matrix.
      mean: what is subtracted from each column.
      scale: what is divided by.
      count: how many rows there are; more than the data's begin again with the first.
    """

    def __init__(
        self,
        data: Shaped[np.ndarray, "N D"],
        mean: Float[np.ndarray, " D"],
        scale: float,
        count: int | None = None,
    ):
        self.data: np.ndarray = data
        self.mean: np.ndarray = mean
        self.scale: float = scale
        self.shape: tuple[int, int] = (len(data) if count is None else count, data.shape[1])
        self.itemsize: int = np.dtype(np.float32).itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n D"]:
        # Chosen by an array of numbers, so a copy that may be changed.
        chosen = np.asarray(self.data[rows % len(self.data)], np.float64)
        chosen -= self.mean
        chosen /= self.scale
        return chosen.astype(np.float32)

    def chunks(self) -> Iterator[tuple[Float[np.ndarray, "c D"], int]]:
        """Consecutive rows, filled up with zeros, and how many of them are the data's."""
        size = next((size for size in CHUNK_ROWS if size >= len(self)), CHUNK_ROWS[-1])
        for first in range(0, len(self), size):
            rows = self[np.arange(first, min(first + size, len(self)))]
            yield np.pad(rows, ((0, size - len(rows)), (0, 0))), len(rows)


def centre_and_scale(data: Shaped[np.ndarray, "N D"]) -> tuple[Float[np.ndarray, " D"], float]:
    """Mean of each column, and one scale that gives the columns a mean variance of one.

    One scale for all keeps the data's geometry: the least squared error of the scaled data is that
    of the data, and the noise of a nearly constant column is not blown up. Constant data keep their
    scale.
    """
    scaler = StandardScaler()
    count = max(1, CHUNK_BYTES // (8 * data.shape[1]))
    for first in range(0, len(data), count):
        scaler.partial_fit(data[first : first + count])
    mean, variances = np.asarray(scaler.mean_), np.asarray(scaler.var_)
    # What rounding leaves of a constant column's variance is none (Chan et al. 1983, as
    # scikit-learn bounds it).
    rounding = len(data) * np.finfo(np.float64).eps
    variances = np.where(variances > rounding * variances + (rounding * mean) ** 2, variances, 0.0)
    variance = float(np.mean(variances))
    return mean, variance**0.5 if variance > 0 else 1.0


def warn_of_dominant_rows(data: Shaped[np.ndarray, "N D"], mean: Float[np.ndarray, " D"]) -> None:
    """Warns where a hundredth of the rows, or fewer, hold most of the variance.

    The scale, the loss and the dictionary then follow them, and the codes of all others are poor.
    They stay in: whether they are mistakes or the data's own is for the user to say.
    """
    count = max(1, CHUNK_BYTES // (8 * data.shape[1]))
    energy = np.concatenate(
        [
            np.sum((np.asarray(data[first : first + count], np.float64) - mean) ** 2, axis=1)
            for first in range(0, len(data), count)
        ]
    )
    few = max(1, len(data) // 100)
    if len(data) < 2 * few + 1 or not np.isfinite(energy.sum()):
        return
    largest = np.argsort(-energy, kind="stable")[:few]
    needed = int(np.searchsorted(np.cumsum(energy[largest]), energy.sum() / 2)) + 1
    if needed > few:
        return
    rows = ", ".join(str(row) for row in sorted(largest[:needed])[:10])
    warnings.warn(
        f"{needed} of {len(data)} rows hold half of the variance (rows {rows}"
        f"{', ...' if needed > 10 else ''}), and the codes of the others will be poor; leave such "
        "rows out, or divide each row by its norm",
        stacklevel=3,
    )
