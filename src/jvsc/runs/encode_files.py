"""Encoding files of data into files of sparse codes, and back: in blocks, resumed after a kill."""

import errno
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydantic
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy import sparse

from jvsc.data.atomic import replacing, write_atomically
from jvsc.data.paths import span
from jvsc.data.prepared import fingerprint
from jvsc.data.rows import Rows, open_rows
from jvsc.errors import UserError
from jvsc.runs.model_files import name_leaves
from jvsc.runs.needs import check_chunk
from jvsc.runs.sparse_files import read_sparse
from jvsc.runs.stored import UnreadableError, set_aside, stored_json
from jvsc.runs.trained_model import TrainedModel
from jvsc.runs.workdir import locked_workdir

# Dense codes that are held at once.
BLOCK_BYTES = 1 << 26
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
IDENTITY_FILE = "identity.json"
_IDENTITY = pydantic.TypeAdapter(dict[str, Any])


def encode_file(
    trained: TrainedModel,
    source: Path,
    target: Path,
    console: Console,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Writes the codes of all rows of a file or folder, as scipy.sparse's CSR .npz.

    Finished blocks are kept in `TARGET.parts` until the whole is there; the same call goes on from
    them. Codes are those of an evaluation on the same rows (`TrainedModel.encode`).

    Args:
      trained: the model.
      source: .npy, .npz, .safetensors, or a folder of them, in the original data's units.
      target: a .npz that is not there yet.
      console: where progress is shown.
      block_bytes: about as many bytes of data, or of dense codes, are held at once.

    Raises:
      UserError: if the data do not fit the model, or hold what is not finite, or the target is
        there or cannot be written.
    """
    _check_target(target, ".npz")
    rows, files = open_rows(source, "input", trained.normalisation)
    _check_width(source, rows.shape[1], trained.num_features)
    check_chunk(trained.config, trained.num_features)
    num_latents = trained.config.num_latents
    block = rows_of_a_block(trained, block_bytes)
    identity = {
        "model": _digest(trained),
        "input": [str(source.resolve()), fingerprint(files)],
        "shape": [len(rows), num_latents],
        "block": block,
    }
    parts = target.with_name(f"{target.name}.parts")
    with _parts_folder(parts, identity, target):
        starts = range(0, len(rows), block)
        paths = [parts / f"{start:012d}.npz" for start in starts]
        with _progress(console, "encode", len(paths)) as advance:
            for start, path in zip(starts, paths, strict=True):
                if not _is_whole(path, (min(block, len(rows) - start), num_latents)):
                    codes = _encode_block(trained, rows, start, block, source)
                    with _writing(path) as out:
                        sparse.save_npz(out, codes, False)
                advance()
        count = _join(paths, (len(rows), num_latents), target)
    shutil.rmtree(parts)
    of_files = f" ({span(files)})" if len(files) > 1 else ""
    share = 100 * count / (len(rows) * num_latents)
    console.print(
        f"{target}: codes of {len(rows):,} rows{of_files}, {num_latents:,} latents, "
        f"{share:.2f}% non-zeros",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def rows_of_a_block(trained: TrainedModel, block_bytes: int) -> int:
    """Whole chunks of which neither the data nor the dense codes take more than so many bytes."""
    chunk = trained.config.eval.chunk
    widest = max(trained.config.num_latents, trained.num_features)
    return chunk * max(1, block_bytes // (4 * chunk * widest))


def decode_file(
    trained: TrainedModel,
    source: Path,
    target: Path,
    console: Console,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Writes what the codes of a scipy.sparse .npz generate, as a float32 .npy.

    Args:
      trained: the model.
      source: as `encode_file` writes it, or `scipy.sparse.save_npz`.
      target: a .npy that is not there yet.
      console: where progress is shown.
      block_bytes: about as many bytes of data, or of dense codes, are held at once.

    Raises:
      UserError: if the codes cannot be read, are not the model's, or hold what is not finite, or
        the target is there or cannot be written.
    """
    _check_target(target, ".npy")
    codes = read_sparse(source, "input")
    sizes: Any = codes.shape
    num_rows, num_latents = sizes
    _check_width(source, num_latents, trained.config.num_latents)
    block = rows_of_a_block(trained, block_bytes)
    starts = range(0, num_rows, block)
    check_chunk(trained.config, trained.num_features)
    shape = (num_rows, trained.num_features)

    # Written, not mapped: a disk that fills meanwhile is then an error instead of a crash.
    with _writing(target) as out, _progress(console, "decode", len(starts)) as advance:
        np.lib.format.write_array_header_1_0(
            out, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        _reserve(out, 4 * shape[0] * shape[1], target)
        for start in starts:
            here = codes[start : start + block].toarray()
            out.write(trained.decode(here).astype("<f4").tobytes())
            advance()
    console.print(
        f"{target}: {shape[0]:,} rows of {shape[1]:,} numbers",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _reserve(out: BinaryIO, size: int, target: Path) -> None:
    """Reserves disk space for `size` more bytes, where the file system can.

    Raises:
      UserError: if there is less.
    """
    out.flush()
    try:
        os.posix_fallocate(out.fileno(), out.tell(), size)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise UserError(
                f"{target} takes {size / 1e9:,.2f} GB, which its disk has not "
                f"({error.strerror}); free some space or give another",
                "output",
            ) from None


def _encode_block(
    trained: TrainedModel, rows: Rows, start: int, block: int, source: Path
) -> sparse.csr_array:
    data = rows[start : start + block]
    finite = np.isfinite(data).all(axis=1)
    if not finite.all():
        row = start + int(np.argmin(finite))
        raise UserError(
            f"{source}: row {row} holds a number that is not finite; replace it", "input"
        )
    return sparse.csr_array(trained.encode_normalised(data, start))


@contextmanager
def _parts_folder(parts: Path, identity: dict[str, Any], target: Path) -> Iterator[None]:
    """Holds the folder of finished blocks; drops those of another model or other data."""
    try:
        parts.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); give another", "output"
        ) from None
    with locked_workdir(parts, "output"):
        stored = parts / IDENTITY_FILE
        try:
            same = stored_json(stored, _IDENTITY) == identity
        except UnreadableError:
            set_aside(stored)
            same = False
        if not same:
            for path in parts.glob("*.npz"):
                path.unlink()
            write_atomically(stored, json.dumps(identity) + "\n")
        yield


def _join(paths: list[Path], shape: tuple[int, int], target: Path) -> int:
    """Joins blocks into one CSR .npz, a block in memory at a time; returns the number stored.

    The members are `scipy.sparse.save_npz`'s, written one after the other as it could not.
    """
    counts = [_member(path, "indptr")[1:] for path in paths]
    ends = np.cumsum([block[-1] for block in counts], dtype=np.int64)
    total = int(ends[-1])
    index = np.dtype(np.int32 if total < 2**31 else np.int64)
    begins = np.concatenate([[0], ends[:-1]])
    pointers = [block + begin for block, begin in zip(counts, begins, strict=True)]
    members: dict[str, tuple[np.dtype, tuple[int, ...], Iterable[np.ndarray]]] = {
        "format": (np.dtype("S3"), (), [np.array(b"csr")]),
        "_is_array": (np.dtype(bool), (), [np.array(True)]),
        "shape": (np.dtype(np.int64), (2,), [np.array(shape)]),
        "indptr": (index, (shape[0] + 1,), [np.zeros(1), *pointers]),
        "indices": (index, (total,), (_member(path, "indices") for path in paths)),
        "data": (np.dtype(np.float32), (total,), (_member(path, "data") for path in paths)),
    }

    with _writing(target) as out, zipfile.ZipFile(out, "w") as archive:
        for name, (kind, size, arrays) in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                described = np.lib.format.dtype_to_descr(kind)
                header = {"descr": described, "fortran_order": False, "shape": size}
                np.lib.format.write_array_header_1_0(member, header)
                for array in arrays:
                    member.write(array.astype(kind).tobytes())
    return total


def _member(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as block:
        return block[name]


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether a finished block exists and is intact."""
    try:
        return read_sparse(path).shape == shape
    except UserError:
        return False


@contextmanager
def _writing(target: Path) -> Iterator[BinaryIO]:
    """`replacing`, with one line for a target that cannot be written."""
    try:
        with replacing(target) as out:
            yield out
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise UserError(
            f"{target} cannot be written ({error.strerror}); give another", "output"
        ) from None


@contextmanager
def _progress(console: Console, task: str, total: int) -> Iterator[Any]:
    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        number = progress.add_task(task, total=total)
        yield lambda: progress.advance(number)


def _check_target(target: Path, suffix: str) -> None:
    if target.suffix != suffix:
        raise UserError(f"{target}: give a file that ends in {suffix}", "output")
    if target.exists():
        raise UserError(f"{target} is there already; remove it or give another", "output")
    if not target.parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}; make it first", "output")


def _check_width(source: Path, width: int, wanted: int) -> None:
    if width != wanted:
        raise UserError(f"{source} has rows of {width} numbers; this model takes {wanted}", "input")


def _digest(trained: TrainedModel) -> str:
    """A fingerprint of all that codes depend on but the data."""
    digest = hashlib.sha256(trained.config.model_dump_json().encode())
    tree = (trained.parameters, trained.statistics, trained.normalisation)
    for name, leaf in name_leaves(tree).items():
        digest.update(name.encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()
