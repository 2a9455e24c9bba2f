"""Images decoded once, into files that are checked whenever they are opened."""

import errno
import json
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import UInt8

from jvsc.data.atomic import replacing
from jvsc.data.prepared import EncodedImages
from jvsc.data.rows import Rows, StoredRows
from jvsc.errors import UserError

# Images decoded between two writes.
CHUNK = 512
# Bytes of a file that are checked at once.
READ_BYTES = 1 << 22
# A build writes all the time, so a file this long untouched was left by one that was killed.
ABANDONED_SECONDS = 3600.0
# How many corrupt images the remarks name.
NAMED = 5

# Told, now and then, how many of how many images of the split in hand are done.
Progress = Callable[[int, int], None]


class Recipe(NamedTuple):
    """Description of a cache of images.

    Attributes:
      name: begins the file's name; differs wherever `decode` does.
      source: the images.
      decode: gives an image's pixels, [D]; raises anything for an image that does not serve.
      num_images: N, the first that can be read.
      dimension: D.
      setting: the key of the configuration that asks for `num_images`.
    """

    name: str
    source: EncodedImages
    decode: Callable[[bytes], UInt8[np.ndarray, " D"]]
    num_images: int
    dimension: int
    setting: str

    def pixels(self, index: int) -> UInt8[np.ndarray, " D"] | None:
        """The pixels of the image at an index, or None if it does not serve."""
        try:
            return self.decode(self.source.read(index))
        except Exception:  # image readers raise almost anything
            return None


class CachedImages(NamedTuple):
    """An opened cache.

    Attributes:
      pixels: read when they are asked for, [N, D].
      corrupt: names of the images left out, because they could not be decoded.
      repaired: whether a damaged file was found and built anew.
    """

    pixels: Rows
    corrupt: list[str]
    repaired: bool


def cached_images(recipe: Recipe, folder: Path, progress: Progress | None = None) -> CachedImages:
    """Opens the cache of a recipe, built first if it is not there, or is damaged.

    Args:
      recipe: describes the cache; every recipe and source has a file of its own.
      folder: folder of the caches; created if it is missing.
      progress: told how far a build is.

    Raises:
      UserError: if fewer images than asked can be read, or the folder cannot be written.
    """
    ensure_enough(recipe, len(recipe.source.names))
    file = folder / f"{recipe.name}-{recipe.num_images}-{recipe.source.fingerprint}.npy"
    known = file.with_suffix(".json").exists()
    cached = open_cache(file, recipe) if known else None
    if cached is not None:
        return cached
    try:
        build_cache(file, recipe, progress)
    except OSError as error:
        size = recipe.num_images * recipe.dimension / 1e9
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise UserError(
            f"data.cache_dir={folder}: {error.strerror or error}; the cache needs {size:.2f} GB: "
            f"{'free them or ' if full else ''}set data.cache_dir to a folder that can be written"
        ) from None
    rebuilt = open_cache(file, recipe)
    if rebuilt is None:
        raise UserError(f"{file} reads otherwise than written; set data.cache_dir to another disk")
    return rebuilt._replace(repaired=known)


def open_cache(file: Path, recipe: Recipe) -> CachedImages | None:
    """The cache in a file, every byte of it checked, or None if it is damaged."""
    try:
        record = json.loads(file.with_suffix(".json").read_text())
        with file.open("rb") as opened:
            np.lib.format.read_magic(opened)
            shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
            offset, crc = opened.tell(), 0
            # CelebA's 1.8 GB take about a second, once the operating system holds them.
            while part := opened.read(READ_BYTES):
                crc = zlib.crc32(part, crc)
        expected = (recipe.num_images, recipe.dimension)
        if crc != record["crc"] or shape != expected:
            return None
        pixels = Rows([StoredRows(file, dtype, offset, expected)])
        return CachedImages(pixels, record["corrupt"], repaired=False)
    except Exception:  # damaged files make their readers raise almost anything
        return None


def ensure_enough(recipe: Recipe, available: int, corrupt: Sequence[str] = ()) -> None:
    """Refuses a recipe that asks for more images than can be read."""
    if not 1 <= recipe.num_images <= available:
        remedy = f"set it from 1 to {available:,}" if available else "give other data"
        if corrupt:
            remedy += f", or mend {_some(corrupt)}"
        raise UserError(
            f"{recipe.setting}={recipe.num_images}: of the {len(recipe.source.names):,} images "
            f"there, {available:,} can be read; {remedy}"
        )


def build_cache(file: Path, recipe: Recipe, progress: Progress | None) -> None:
    """Decodes a recipe's images into `file`, and writes its record beside it.

    Raises:
      UserError: if fewer images than asked can be read.
      OSError: if the files cannot be written; nothing is left behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f"{file.stem}.*.tmp"):
        with suppress(FileNotFoundError):  # it may be another's, just done
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                left.unlink()
    with replacing(file) as out:
        crc, corrupt = write_pixels(out, recipe, progress)
    # Last, so that pixels without a record are of an interrupted build.
    with replacing(file.with_suffix(".json")) as out:
        out.write(json.dumps({"crc": crc, "corrupt": corrupt}).encode())


def write_pixels(out: BinaryIO, recipe: Recipe, progress: Progress | None) -> tuple[int, list[str]]:
    """Writes a recipe's images as an .npy file, in order; the next ones replace those left out.

    Written, not mapped: a full disk is then an error instead of a crash.

    Returns:
      The CRC-32 of the pixels, and the names of the images left out.

    Raises:
      UserError: if fewer images than asked can be read.
    """
    names, count = recipe.source.names, recipe.num_images
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, recipe.dimension)}
    np.lib.format.write_array_header_1_0(out, header)
    crc, done, position, corrupt = 0, 0, 0, []
    # Threads suffice: Pillow decodes and resizes without holding Python's lock.
    with ThreadPoolExecutor() as pool:
        while done < count and position < len(names):
            chunk = range(position, min(position + min(CHUNK, count - done), len(names)))
            for index, pixels in zip(chunk, pool.map(recipe.pixels, chunk), strict=True):
                if pixels is None:
                    corrupt.append(names[index])
                    continue
                crc = zlib.crc32(pixels.data, crc)
                out.write(pixels.data)
                done += 1
            position = chunk.stop
            if progress is not None:
                progress(done, count)
    ensure_enough(recipe, done, corrupt)
    return crc, corrupt


def remarks(splits: list[EncodedImages], caches: list[CachedImages]) -> str:
    """Remarks on images that were left out and on a rebuilt cache, for the data's description."""
    corrupt = [name for cache in caches for name in cache.corrupt]
    absent = sum(split.absent for split in splits)
    parts = []
    if corrupt:
        parts.append(f"{len(corrupt):,} left out as corrupt: {_some(corrupt)}")
    if absent:
        parts.append(f"{absent:,} listed but not in the folder")
    if any(cache.repaired for cache in caches):
        parts.append("a damaged cache was rebuilt")
    return "".join(f"; {part}" for part in parts)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")
