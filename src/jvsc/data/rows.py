"""Rows of numbers in files, one or a folder of shards, read as they are needed."""

import json
import math
import os
import weakref
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, Shaped
from safetensors import safe_open

from jvsc.data.normalisation import Normalisation
from jvsc.data.paths import data_files, in_natural_order
from jvsc.errors import UserError

SUFFIXES = (".npy", ".npz", ".safetensors")
_SAFETENSORS_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
}


# Read at once where all rows are wanted.
PART_BYTES = 1 << 26
# Files that are held open; of more, each is opened when it is read.
MOST_OPEN = 256


class StoredRows:
    """Rows of a file, read when they are asked for.

    They are not mapped into memory: a file that is cut short meanwhile is one line then, where a
    mapping would end the process.

    Attributes:
      shape: (N, D).
      dtype: of the numbers in the file.
    """

    def __init__(self, file: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, int]):
        """Opens a file.

        Args:
          file: holds the rows one after the other.
          dtype: of their numbers.
          offset: where the first row begins, in bytes.
          shape: (N, D).
        """
        self._file = file
        self._descriptor: int | None = None
        if len(_OPEN) < MOST_OPEN:
            self._descriptor = self._open()
            _OPEN.add(self._descriptor)
            weakref.finalize(self, _close, self._descriptor)
        self._opened_by: StoredRows | None = None
        self._offset = offset
        self.shape: tuple[int, int] = shape
        self.dtype: np.dtype[Any] = dtype

    def __len__(self) -> int:
        return self.shape[0]

    def between(self, start: int, stop: int) -> "StoredRows":
        """The rows `start` to `stop`, not read yet."""
        part = copy(self)
        part._opened_by = self  # or the file would be closed
        part._offset += start * self._row_bytes
        part.shape = (min(stop, len(self)) - start, self.shape[1])
        return part

    def __getitem__(self, chosen: Integer[np.ndarray, " M"]) -> Shaped[np.ndarray, "M D"]:
        rows, size = np.empty((len(chosen), self.shape[1]), self.dtype), self._row_bytes
        buffer = rows.view(np.uint8).reshape(-1).data
        # Rows that follow one another are read at once.
        begins = np.flatnonzero(np.diff(chosen, prepend=-2) != 1)
        places = (self._offset + chosen[begins].astype(np.int64) * size).tolist()
        limits = [*(begins * size).tolist(), len(buffer)]
        descriptor = self._open() if self._descriptor is None else self._descriptor
        try:
            for number, place in enumerate(places):
                self._read(descriptor, buffer[limits[number] : limits[number + 1]], place)
        finally:
            if self._descriptor is None:
                os.close(descriptor)
        return rows

    def _open(self) -> int:
        return os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def _row_bytes(self) -> int:
        return self.shape[1] * self.dtype.itemsize

    def _read(self, descriptor: int, buffer: memoryview, place: int) -> None:
        """Fills a buffer from a place of the file on.

        Raises:
          UserError: if the file ends before.
        """
        while buffer:
            count = os.preadv(descriptor, [buffer], place)
            if not count:
                raise UserError(
                    f"{self._file} was cut short while it was read; restore it and start again"
                )
            buffer, place = buffer[count:], place + count


# Descriptors of the files that are held open.
_OPEN: set[int] = set()


def _close(descriptor: int) -> None:
    _OPEN.discard(descriptor)
    os.close(descriptor)


# In memory, or in a file.
Part = np.ndarray | StoredRows


class Rows:
    """N rows of D numbers that lie in several arrays, read when they are asked for.

    Like an array it has a shape, a type and a size, takes slices, indices and arrays of them, and
    can be gone through row by row.

    Attributes:
      shape: (N, D).
      dtype: float32; uint8 where all arrays hold bytes and nothing is normalised.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        normalisation: Normalisation | None = None,
    ):
        """Joins arrays of the same width.

        Args:
          parts: [_, D] each.
          normalisation: applied to what is read.
        """
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self._normalisation = normalisation
        self.shape: tuple[int, int] = (int(self._ends[-1]), self._parts[0].shape[1])
        are_bytes = normalisation is None and all(part.dtype == np.uint8 for part in self._parts)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if are_bytes else np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def itemsize(self) -> int:
        """Bytes of a number, once it is read."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, once they are read."""
        return self.shape[0] * self.shape[1] * self.itemsize

    def __getitem__(
        self, chosen: int | slice | Integer[np.ndarray, " M"]
    ) -> Shaped[np.ndarray, "*M D"]:
        if isinstance(chosen, int | np.integer):
            return self[np.array([range(len(self))[chosen]])][0]
        if isinstance(chosen, slice):
            chosen = np.arange(*chosen.indices(len(self)))
        return self._gather(chosen, self._read, self.dtype)

    def in_double(self, chosen: Integer[np.ndarray, " M"]) -> Float[np.ndarray, "M D"]:
        """Rows as they are stored, not normalised, in float64."""

        def read(part: Part, chosen: np.ndarray) -> np.ndarray:
            return part[chosen].astype(np.float64)

        return self._gather(chosen, read, np.dtype(np.float64))

    def _gather(
        self, chosen: Integer[np.ndarray, " M"], read: Callable[..., np.ndarray], dtype: np.dtype
    ) -> Shaped[np.ndarray, "M D"]:
        if len(self._parts) == 1:
            return read(self._parts[0], chosen)
        rows = np.empty((len(chosen), self.shape[1]), dtype)
        which = np.searchsorted(self._ends, chosen, side="right")
        for index in np.unique(which):
            part, here = self._parts[index], which == index
            rows[here] = read(part, chosen[here] - (self._ends[index] - len(part)))
        return rows

    def _read(self, part: Part, chosen: Integer[np.ndarray, " M"]) -> Shaped[np.ndarray, "M D"]:
        rows = part[chosen]
        if self._normalisation is None:
            return rows.astype(self.dtype)
        return self._normalisation.apply(rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        whole = np.empty(self.shape, self.dtype if dtype is None else dtype)
        # In parts, for each is held several times as it is read, centred and scaled.
        count = max(1, PART_BYTES // (self.itemsize * self.shape[1]))
        for start in range(0, len(self), count):
            whole[start : start + count] = self[start : start + count]
        return whole

    def part(self, start: int, stop: int, normalisation: Normalisation | None = None) -> "Rows":
        """The original rows `start` to `stop`, to be normalised when they are read."""
        begins = self._ends - [len(part) for part in self._parts]
        inside = [
            _between(part, int(max(start - begin, 0)), int(stop - begin))
            for part, begin, end in zip(self._parts, begins, self._ends, strict=True)
            if begin < stop and end > start
        ]
        return Rows(inside, normalisation)


def _between(part: Part, start: int, stop: int) -> Part:
    return part.between(start, stop) if isinstance(part, StoredRows) else part[start:stop]


def open_rows(
    path: Path,
    argument: str,
    normalisation: Normalisation | None = None,
    flattens: bool = True,
) -> tuple[Rows, list[Path]]:
    """Opens the arrays of a file, or of every file of a folder in natural order, as rows.

    A .npz is read whole, and a .npy in Fortran's order; of others the rows that are asked for.

    Args:
      path: a .npy, .npz or .safetensors file, or a folder of such.
      argument: what named it, as in `user_path`.
      normalisation: applied to what is read.
      flattens: whether an array of more than two axes counts as rows of its other axes' product, as
        images do, or is refused, as for activations [batch, sequence, D].

    Returns:
      The rows, and the files they lie in.

    Raises:
      UserError: if there is nothing to read, or something that does not fit together.
    """
    if path.is_dir():
        files = data_files(path, SUFFIXES, argument)
    elif path.is_file():
        files = [path]
    else:
        raise UserError(f"{path}: there is no such file or folder", argument)
    parts = [_as_rows(array, file, flattens) for file in files for array in _arrays(file, argument)]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise UserError(f"{path} holds no rows; give an array [N, D]", argument)
    widths = sorted({part.shape[1] for part in parts})
    if 0 in widths:
        raise UserError(f"{path} holds rows without numbers; give an array [N, D]", argument)
    if len(widths) > 1:
        raise UserError(
            f"{path}: its arrays have rows of {' and '.join(map(str, widths))} numbers; give "
            "arrays of one width",
            argument,
        )
    return Rows(parts, normalisation), files


def _arrays(file: Path, argument: str) -> list[np.ndarray]:
    try:
        if file.suffix == ".npy":
            return [np.load(file, mmap_mode="r", allow_pickle=False)]
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return [arrays[name] for name in in_natural_order(arrays.files)]
        if file.suffix == ".safetensors":
            return _safetensors(file)
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "pickle" in reason:  # NumPy's word for whatever it does not know, and no remedy
            reason = "it holds no array of numbers"
        raise UserError(f"{file} cannot be read ({reason}); give another") from None
    raise UserError(f"{file}: give a {', '.join(SUFFIXES)} file or a folder of them", argument)


def _safetensors(file: Path) -> list[np.ndarray]:
    """Tensors by name, mapped: the library itself reads slices only, not rows here and there."""
    with safe_open(file, "numpy"):
        pass  # it checks that the header and the file's length agree
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    tensors = []
    for name in in_natural_order(header):
        entry = header[name]
        if entry["dtype"] not in _SAFETENSORS_TYPES:
            raise ValueError(f"tensor {name!r} is of type {entry['dtype']}")
        offset = 8 + length + entry["data_offsets"][0]
        kind, shape = _SAFETENSORS_TYPES[entry["dtype"]], tuple(entry["shape"])
        tensors.append(np.memmap(file, kind, "r", offset, shape))
    return tensors


def _as_rows(array: np.ndarray, file: Path, flattens: bool) -> Part:
    if array.ndim < 2:
        raise UserError(f"{file} holds an array of {array.ndim} axes; give one [N, D]")
    if array.ndim > 2 and not flattens:
        rows = [math.prod(array.shape[:-1]), array.shape[-1]]
        raise UserError(
            f"{file} holds an array {list(array.shape)}; give one [N, D], which reshape to {rows} "
            "makes if the last axis is a datum"
        )
    if array.dtype.kind == "V" and array.dtype != jnp.bfloat16:
        raise UserError(
            f"{file} holds {array.dtype}, as NumPy stores bfloat16 and others that it does not "
            "know; save them as .safetensors, or as float32"
        )
    if array.dtype.kind not in "fiu" and array.dtype != jnp.bfloat16:
        raise UserError(f"{file} holds {array.dtype}, not real numbers; give another")
    shape = len(array), math.prod(array.shape[1:])
    if isinstance(array, np.memmap) and array.flags.c_contiguous:
        return StoredRows(file, array.dtype, array.offset, shape)
    return np.array(array).reshape(shape)
