"""Rows of a matrix of any real type, NumPy's, memory-mapped or CSR, read a part at a time."""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from sklearn.preprocessing import StandardScaler

from jvsc.errors import UserError

# Of the original data, and of the codes and draws made of them, held at once.
CHUNK_BYTES = 1 << 24
# A chunk is filled up to one of these sizes, so that few sizes are compiled.
CHUNK_ROWS = (128, 1024)
# Scaled values beyond it would overflow float32 when they are squared and summed.
LARGEST = 1e15
# Rows that weights make of one, on average, at most.
MOST_REPEATS = 8
# So many rows make about the steps of a usual fit.
MANY_ROWS = 400_000
# Scales between which no square overflows or vanishes in float64.
ORDINARY_SCALES = (1e-140, 1e140)

# A NumPy array, or a CSR array or matrix of SciPy's.
Data = Any


class StandardisedRows:
    """A matrix whose rows are centred, scaled and made float32 when they are read.

    Every row is computed in float64, so one datum gives the same bits whatever type holds it. NaN,
    an entry that is not there, stays.

    Args:
      data: the matrix [N, D].
      mean: what is subtracted from each column.
      scale: what is divided by.
      order: which rows it has, any number of times; by default all of them.
    """

    def __init__(
        self,
        data: Data,
        mean: Float[np.ndarray, " D"],
        scale: float,
        order: Int[np.ndarray, " N"] | None = None,
    ):
        self.data: Data = data
        self.mean: np.ndarray = mean
        self.scale: float = scale
        self.order: np.ndarray | None = order
        count = data.shape[0] if order is None else len(order)
        self.shape: tuple[int, int] = (count, data.shape[1])
        self.itemsize: int = np.dtype(np.float32).itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n D"]:
        # Chosen by an array of numbers, so a copy that may be changed.
        chosen = _dense(self.data[rows if self.order is None else self.order[rows]])
        with np.errstate(over="ignore", invalid="ignore"):  # `chunks` refuses what overflows
            chosen -= self.mean
            chosen /= self.scale
            found = chosen.astype(np.float32)
        found[np.abs(found) < np.finfo(np.float32).tiny] = 0  # as devices take them
        return found

    def chosen(self, rows: Int[np.ndarray, " n"]) -> "StandardisedRows":
        """Some of the rows."""
        order = rows if self.order is None else self.order[rows]
        return StandardisedRows(self.data, self.mean, self.scale, order)

    def chunks(self) -> Iterator[tuple[Float[np.ndarray, "c D"], int]]:
        """Consecutive rows, filled up with zeros, and how many of them are the data's.

        Raises:
          UserError: for rows so far from the data fitted that float32 has no room for their codes.
        """
        size = next((size for size in CHUNK_ROWS if size >= len(self)), CHUNK_ROWS[-1])
        for first in range(0, len(self), size):
            rows = self[np.arange(first, min(first + size, len(self)))]
            sizes = np.fmax.reduce(np.abs(rows), axis=1, initial=0)
            if not (sizes <= LARGEST).all():
                row = int(np.argmin(sizes <= LARGEST))
                raise UserError(
                    f"row {first + row} is more than {LARGEST:.0e} times as large as the scale of "
                    f"the data fitted ({self.scale:.3g}); leave it out, or fit data like it"
                )
            yield np.pad(rows, ((0, size - len(rows)), (0, 0))), len(rows)


def _dense(rows: Data) -> Float[np.ndarray, "n D"]:
    """Rows in float64, a copy where they were chosen or sparse."""
    return np.asarray(rows.toarray() if scipy.sparse.issparse(rows) else rows, np.float64)


def _parts(data: Data) -> Iterator[tuple[slice, Float[np.ndarray, "n D"]]]:
    """Consecutive rows in float64, and where they are."""
    count = max(1, CHUNK_BYTES // (8 * data.shape[1]))
    for first in range(0, data.shape[0], count):
        part = slice(first, first + count)
        yield part, _dense(data[part])


class Moments(NamedTuple):
    """What centres and scales data.

    Attributes:
      counts: entries of each column, or the sum of their weights, of which the largest is one at
        most.
      mean: of each column.
      deviation: standard deviation of each column; zero of constant ones.
      scale: gives the columns a mean variance of one. One scale for all keeps the data's geometry:
        the least squared error of the scaled data is that of the data, and the noise of a nearly
        constant column is not blown up. Constant data keep their scale: it is 1.
    """

    counts: Float[np.ndarray, " D"]
    mean: Float[np.ndarray, " D"]
    deviation: Float[np.ndarray, " D"]
    scale: float

    @property
    def is_constant(self) -> bool:
        """Whether no column varies."""
        return not self.deviation.any()

    def uncentred(self) -> "Moments":
        """Of data whose mean stays, and which are scaled by their root mean square."""
        size = max(float(np.abs(self.mean).max()), float(self.deviation.max())) or 1.0
        squares = (self.mean / size) ** 2 + (self.deviation / size) ** 2
        scale = size * float(np.sqrt(np.mean(squares))) or 1.0
        return self._replace(mean=np.zeros_like(self.mean), scale=scale)


def moments(
    data: Data, before: Moments | None = None, weights: Float[np.ndarray, " N"] | None = None
) -> Moments:
    """Moments of data of any size, and of what was seen before (as scikit-learn's StandardScaler).

    Args:
      data: [N, D].
      before: of earlier data.
      weights: of the rows; by default one.

    Raises:
      UserError: for a column without an entry; NaN are none.
    """
    if weights is not None:
        weights = _at_most_one(weights)  # their sum is no more than the rows' number
    with np.errstate(over="ignore", invalid="ignore"):
        found = _moments(data, before, weights, 0)
    low, high = ORDINARY_SCALES
    if np.isfinite(found.mean).all() and low < found.scale < high and not found.is_constant:
        return found
    sizes = [np.fmax.reduce(np.abs(part), axis=None, initial=0) for _, part in _parts(data)]
    if before is not None:
        sizes += [np.abs(before.mean).max(), before.deviation.max()]
    return _moments(data, before, weights, int(np.frexp(max(sizes))[1]))


def _moments(
    data: Data, before: Moments | None, weights: Float[np.ndarray, " N"] | None, exponent: int
) -> Moments:
    """Moments computed in units of 2^exponent."""
    scaler: Any = StandardScaler()
    if before is not None:
        scaler.mean_ = np.ldexp(before.mean, -exponent)
        scaler.var_ = np.ldexp(before.deviation, -exponent) ** 2
        scaler.scale_, scaler.n_features_in_ = scaler.var_, len(before.mean)
        scaler.n_samples_seen_ = before.counts.copy()
    for part, rows in _parts(data):
        rows = np.ldexp(rows, -exponent) if exponent else rows
        if weights is None or weights[part].any():
            _add(scaler, rows, None if weights is None else weights[part])
    mean, variances = np.asarray(scaler.mean_), np.asarray(scaler.var_)
    counts = np.broadcast_to(np.asarray(scaler.n_samples_seen_, np.float64), mean.shape)
    if not counts.all():
        raise UserError(f"column {int(np.argmin(counts))} has no number but NaN; leave it out")
    # What rounding leaves of a constant column's variance is none (Chan et al. 1983, as
    # scikit-learn bounds it).
    rounding = counts * np.finfo(np.float64).eps
    is_constant = variances <= rounding * variances + (rounding * mean) ** 2
    variances = np.where(is_constant, 0.0, variances)
    variance = float(np.mean(variances))
    return Moments(
        counts,
        np.ldexp(mean, exponent) if exponent else mean,
        np.ldexp(np.sqrt(variances), exponent),
        float(np.ldexp(variance**0.5, exponent)) if variance else 1.0,
    )


def _add(scaler: Any, rows: Float[np.ndarray, "n D"], weights: Any) -> None:
    """Adds a part; columns without an entry in it stay, which scikit-learn would make NaN."""
    mean, variance = getattr(scaler, "mean_", 0.0), getattr(scaler, "var_", 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaler.partial_fit(rows, sample_weight=weights)
    if np.isnan(scaler.var_).any():
        there = ~np.isnan(rows)
        if weights is not None:
            there &= (weights > 0)[:, None]
        is_empty = ~there.any(axis=0)
        scaler.mean_ = np.where(is_empty, mean, scaler.mean_)
        scaler.var_ = np.where(is_empty, variance, scaler.var_)


def ordinary_weights(weights: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Weights whose sums and squares have room in float64, by a power of two where they had not.

    Raises:
      UserError: if fewer than two rows have one.
    """
    if np.count_nonzero(weights) < 2:
        raise UserError("sample_weight is zero for all rows but one at most; weigh two or more")
    low, high = ORDINARY_SCALES
    return weights if low < weights.max() < high else _at_most_one(weights)


def _at_most_one(weights: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Weights divided by a power of two, so that the largest is between a half and one."""
    return np.ldexp(weights, -int(np.frexp(weights.max())[1]))


def weighted_order(
    weights: Float[np.ndarray, " N"],
) -> tuple[Int[np.ndarray, " M"], int]:
    """Numbers of rows, each as often as its weight asks for, and of how many passes they are.

    Whole numbers, or whole multiples of the smallest, divided by what they have in common, are
    followed exactly, if the rows are not more than `MOST_REPEATS` times as many then: one pass.
    Else each row comes so often to less than one, in so many passes of as many rows as were given
    (systematic resampling): `MOST_REPEATS`, or fewer of `MANY_ROWS` and more.

    Args:
      weights: not negative, not all zero.
    """
    most = MOST_REPEATS * len(weights)
    if (weights != np.rint(weights)).any():
        multiples = weights / weights[weights > 0].min()
        if np.allclose(multiples, np.rint(multiples), rtol=1e-12, atol=0):
            weights = np.rint(multiples)
    if (weights == np.rint(weights)).all() and weights.max() < 2**53:
        whole = weights.astype(np.int64)
        whole //= np.gcd.reduce(whole)
        if whole.sum(dtype=np.float64) <= most:
            return np.repeat(np.arange(len(weights)), whole), 1
    passes = min(max(MANY_ROWS // len(weights), 1), MOST_REPEATS)
    ends = np.rint(np.cumsum(weights / weights.sum()) * passes * len(weights)).astype(np.int64)
    return np.repeat(np.arange(len(weights)), np.diff(ends, prepend=0)), passes


def warn_of_dominant_rows(
    data: Data,
    mean: Float[np.ndarray, " D"],
    scale: float = 1.0,
    weights: Float[np.ndarray, " N"] | None = None,
) -> None:
    """Warns where a hundredth of the rows, or fewer, hold most of the variance.

    The scale, the loss and the dictionary then follow them, and the codes of all others are poor.
    They stay in: whether they are mistakes or the data's own is for the user to say.
    """
    count = data.shape[0]
    energy = np.concatenate(
        [np.nansum(((part - mean) / scale) ** 2, axis=1) for _, part in _parts(data)]
    )
    if weights is not None:
        energy = energy * _at_most_one(weights)
        count = np.count_nonzero(weights)
    few = max(1, count // 100)
    if count < 2 * few + 1 or not 0 < energy.sum() < np.inf:
        return
    largest = np.argsort(-energy, kind="stable")[:few]
    needed = int(np.searchsorted(np.cumsum(energy[largest]), energy.sum() / 2)) + 1
    if needed > few:
        return
    rows = ", ".join(str(row) for row in sorted(largest[:needed])[:10])
    warnings.warn(
        f"{needed} of {count} rows hold half of the variance (rows {rows}"
        f"{', ...' if needed > 10 else ''}), and the codes of the others will be poor; leave such "
        "rows out, or divide each row by its norm",
        stacklevel=3,
    )
