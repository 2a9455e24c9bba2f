"""Images and labels in the IDX format of MNIST and its kin, gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from jvsc.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"
# Two zero bytes and 08 for bytes; then the number of dimensions.
BYTES_MAGIC = b"\x00\x00\x08"


def read_idx_images(file: Path) -> UInt8[np.ndarray, "N H W"]:
    """Reads an IDX file of images, gzipped or not, whatever its name.

    Raises:
      UserError: if the file cannot be read, is no IDX file of images, or has bytes too few or many.
    """
    return _read(file, 3, "images")


def read_idx_labels(file: Path) -> UInt8[np.ndarray, " N"]:
    """Reads an IDX file of labels, as `read_idx_images` does."""
    return _read(file, 1, "labels")


def _read(file: Path, num_dimensions: int, content_name: str) -> Shaped[np.ndarray, "N *shape"]:
    magic = BYTES_MAGIC + bytes([num_dimensions])
    header = len(magic) + 4 * num_dimensions
    try:
        content = file.read_bytes()
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is not readable ({error}); fetch it again") from None
    if not content:
        raise UserError(f"{file} is empty; fetch it again")
    if not content.startswith(magic):
        raise UserError(
            f"{file} is no IDX file of {content_name}: it begins with {content[:4].hex()}, "
            f"not {magic.hex()}; fetch it again"
        )
    if len(content) < header:
        raise UserError(f"{file} ends within its header; fetch it again")
    shape = tuple(np.frombuffer(content, ">u4", count=num_dimensions, offset=len(magic)).tolist())
    size = len(content) - header
    if size != math.prod(shape):
        declared = f"{shape[0]:,} {content_name}"
        if num_dimensions > 1:
            declared += f" of {'x'.join(str(size) for size in shape[1:])}"
        raise UserError(
            f"{file} holds {size:,} {'pixels' if num_dimensions > 1 else content_name}, but its "
            f"header declares {declared}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
