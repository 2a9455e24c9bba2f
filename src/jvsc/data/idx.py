"""Images in the IDX format of MNIST and its kin, gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jvsc.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"
# Two zero bytes, 08 for bytes, 03 for three dimensions.
IMAGES_MAGIC = b"\x00\x00\x08\x03"
HEADER_BYTES = 16


def read_idx_images(file: Path) -> UInt8[np.ndarray, "N H W"]:
    """Reads an IDX file of images, gzipped or not, whatever its name.

    Raises:
      UserError: if the file cannot be read, is no IDX file of images, or has bytes too few or many.
    """
    try:
        content = file.read_bytes()
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is not readable ({error}); fetch it again") from None
    if not content:
        raise UserError(f"{file} is empty; fetch it again")
    if not content.startswith(IMAGES_MAGIC):
        raise UserError(
            f"{file} is no IDX file of images: it begins with {content[:4].hex()}, "
            f"not {IMAGES_MAGIC.hex()}; fetch it again"
        )
    if len(content) < HEADER_BYTES:
        raise UserError(f"{file} ends within its header; fetch it again")
    shape = tuple(np.frombuffer(content, ">u4", count=3, offset=len(IMAGES_MAGIC)).tolist())
    pixels = len(content) - HEADER_BYTES
    if pixels != math.prod(shape):
        raise UserError(
            f"{file} holds {pixels:,} pixels, but its header declares {shape[0]:,} images of "
            f"{shape[1]}x{shape[2]}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=HEADER_BYTES).reshape(shape)
