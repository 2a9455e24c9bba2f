"""Activations of a deep network: any [N, D] array, in one file or in shards."""

from functools import cache, partial

import numpy as np

from jvsc.data.dataset import Dataset
from jvsc.data.normalisation import Normalisation, normalisation_by
from jvsc.data.paths import span, user_path
from jvsc.data.rows import Rows, open_rows
from jvsc.data.tokens import read_tokens, token_file
from jvsc.errors import UserError

# Rows that the normalisation is measured on at most, evenly spread, and how many are read at once.
MEASURED_ROWS = 1 << 20
BLOCK = 1 << 13


def load_activations(path: str, *, num_train: int, num_validation: int) -> Dataset:
    """The first N rows for training and the last M for validation, in the order of the files.

    They are normalised to mean zero and a mean squared norm of D, by one factor for all dimensions:
    x - mean, over sqrt(mean ||x - mean||^2 / D), both of at most 2^20 training rows, evenly spread.
    Training rows are read, and normalised, as they are needed. Where the tokens that they are of
    stand beside them (see `read_tokens`), an evaluation shows them.

    Args:
      path: a .npy, .npz or .safetensors file, or a folder of such.
      num_train: N.
      num_validation: M.

    Returns:
      The data, float32: `train` [N, D], which is `Rows`, and `validation` [M, D].

    Raises:
      UserError: if `path` is empty, or its files are missing, unreadable, of several widths, not
        real numbers or too few rows; or if a validation row or a measured training row is not
        finite, or all measured rows are the same.
    """
    if not path:
        raise UserError(
            "data.path is missing; give a .npy or .safetensors file of activations [N, D], or a "
            "folder of such"
        )
    source = user_path(path, "data.path")
    rows, files = open_rows(source, "data.path", flattens=False)
    if len(rows) < num_train + num_validation:
        raise UserError(
            f"data.path={path} has {len(rows):,} rows, fewer than data.num_train={num_train:,} and "
            f"data.num_validation={num_validation:,} together; lower one of them"
        )
    normalisation = measure_normalisation(rows.part(0, num_train), path)
    validation = rows.part(len(rows) - num_validation, len(rows), normalisation)[:]
    if not np.isfinite(validation).all():
        raise UserError(f"data.path={path}: the validation rows hold numbers that are not finite")
    tokens = token_file(source)
    return Dataset(
        rows.part(0, num_train, normalisation),
        validation,
        (rows.shape[1],),
        f"{num_train:,} + {num_validation:,} activations of {rows.shape[1]:,} dimensions ({path}, "
        f"{span(files)}), mean 0, mean squared norm {rows.shape[1]:,}",
        *normalisation,
        signed=True,
        read_tokens=tokens and cache(partial(read_tokens, tokens, len(rows), num_validation)),
    )


def measure_normalisation(rows: Rows, path: str) -> Normalisation:
    """Mean of each dimension, and the one factor that gives a mean squared norm of D.

    Of all rows, or of `MEASURED_ROWS` evenly spread ones if there are more.

    Raises:
      UserError: if a row is not finite, or all are the same.
    """
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MEASURED_ROWS)).astype(int)
    total, squares = np.zeros(rows.shape[1]), 0.0
    # About the first row, so that a mean far from zero takes no digits off the squares.
    origin = rows.in_double(np.arange(1))
    for first in range(0, len(chosen), BLOCK):
        block = rows.in_double(chosen[first : first + BLOCK]) - origin
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = chosen[first + int(np.argmin(finite))]
            raise UserError(f"data.path={path}: row {row} holds a number that is not finite")
        total += block.sum(axis=0)
        squares += float(np.sum(block**2))
    mean = total / len(chosen)
    variance = (squares / len(chosen) - float(np.sum(mean**2))) / rows.shape[1]
    if not variance > 0:
        raise UserError(f"data.path={path}: all rows are the same; there is nothing to learn")
    return normalisation_by(mean + origin[0], np.full(rows.shape[1], np.sqrt(variance)))
