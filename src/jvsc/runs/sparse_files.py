"""Sparse matrices out of files that anyone may have written, checked before they are used."""

import warnings
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import numpy as np
from scipy import sparse

from jvsc.errors import UserError

# Arrays of such a file that are no indices.
VALUES = {"data.npy", "format.npy", "shape.npy", "_is_array.npy"}


def read_sparse(file: Path, argument: str | None = None) -> sparse.csr_array:
    """A matrix that `scipy.sparse.save_npz` wrote, in any of its formats, as float32 CSR.

    SciPy's products and conversions are compiled code that trusts a matrix's indices, so every
    index is checked before the first of them.

    Args:
      file: a .npz.
      argument: what named it.

    Raises:
      UserError: if it is not there, is no such file, is damaged, or holds what are not finite real
        numbers in two dimensions.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such file", argument)
    try:
        # What SciPy only warns of, such as indices that are not whole numbers, is damage here.
        with warnings.catch_warnings(action="error"), file.open("rb") as opened:
            _check_index_types(opened)
            opened.seek(0)
            return _checked(sparse.load_npz(opened))
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{file} cannot be read ({reason}); give scipy.sparse's .npz, such as an encoding "
            "writes",
            argument,
        ) from None


def _check_index_types(opened: BinaryIO) -> None:
    """Looks at the types of the indices before SciPy makes its own of them without a word.

    Raises:
      ValueError: if one is not of signed integers: fractions would be cut off, and unsigned ones
        beyond 2^63 become negative when they have been checked.
    """
    with ZipFile(opened) as archive:
        for name in set(archive.namelist()) - VALUES:
            with archive.open(name) as entry:
                np.lib.format.read_magic(entry)
                *_, dtype = np.lib.format.read_array_header_1_0(entry)
            if dtype.kind != "i":
                raise ValueError(f"{name.removesuffix('.npy')} of type {dtype}, not of integers")


def _checked(stored: Any) -> sparse.csr_array:
    """The matrix as CSR.

    Raises:
      ValueError: if it is not two-dimensional, real and finite, or an index is out of its range.
    """
    if stored.ndim != 2 or not min(stored.shape):
        raise ValueError(f"an array of shape {stored.shape}, where rows of latents are needed")
    if stored.dtype.kind not in "biuf":
        raise ValueError(f"values of type {stored.dtype}, not real numbers")
    # Of coordinates and diagonals SciPy checks the indices as it reads them.
    if stored.format in ("csr", "csc", "bsr"):
        stored.check_format(full_check=True)
    with np.errstate(over="ignore"):
        values = stored.data.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite; encode anew")
    return sparse.csr_array(stored.astype(np.float32))
