"""Encoded images, and those that tensorflow-datasets prepares; read without TensorFlow."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from jvsc.data.paths import user_path
from jvsc.errors import UserError

# The format that can be read in any order, and without TensorFlow.
FILE_FORMAT = "array_record"


class EncodedImages(NamedTuple):
    """Images of one split as they are stored.

    Attributes:
      names: what to call each image, in order.
      read: the bytes of the image at an index, e.g. a JPEG file; called from several threads.
      fingerprint: changes whenever the stored images do.
      absent: how many images were listed but not found, and so are not among `names`.
      label: what is stored of the image at an index but its pixels; None where nothing is.
    """

    names: Sequence[str]
    read: Callable[[int], bytes]
    fingerprint: str
    absent: int = 0
    label: Callable[[int], Any] | None = None


def fingerprint(files: Iterable[Path]) -> str:
    """Digest of the names, sizes and times of files."""
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_file(files: list[Path], index: int) -> bytes:
    """The bytes of one of the files."""
    if not files[index].is_file():
        raise OSError("no file")  # a pipe would be waited for
    return files[index].read_bytes()


def prepared_images(
    name: str, splits: Sequence[str], tfds_dir: str, label: str = ""
) -> list[EncodedImages]:
    """The splits of a tensorflow-datasets data set, downloaded and prepared unless they are.

    Args:
      name: as tensorflow-datasets has it, e.g. "celeb_a".
      splits: which splits, e.g. ["train", "validation"].
      tfds_dir: where they are or will be; "" for ~/tensorflow_datasets.
      label: the feature that labels an image; "" for none.

    Returns:
      Encoded images, one entry a split, in the order in which they are stored.

    Raises:
      UserError: if they are not prepared and cannot be; the message is the reason in one line.
    """
    try:
        builder = prepared_builder(name, tfds_dir)
        return [_encoded_images(builder, split, label) for split in splits]
    except UserError:
        raise
    except Exception as error:  # downloads and their preparation raise almost anything
        raise UserError(f"tensorflow-datasets: {_reason(error)}") from None


def prepared_builder(name: str, tfds_dir: str) -> Any:
    """tensorflow-datasets' builder of a data set that lies prepared on the disk."""
    # Imported by those who need it only: it takes half a second.
    import tensorflow_datasets as tfds

    folder = str(user_path(tfds_dir, "data.tfds_dir")) if tfds_dir else None
    builder = tfds.builder(name, data_dir=folder, file_format=FILE_FORMAT)
    if not builder.is_prepared():
        # Without a network tensorflow-datasets would try again for minutes.
        for url in list(builder.url_infos or ())[:1]:
            _ensure_reachable(url)
        builder.download_and_prepare(file_format=FILE_FORMAT)
    return builder


def _ensure_reachable(url: str) -> None:
    try:
        urlopen(Request(url, method="HEAD"), timeout=10).close()
    except HTTPError:
        pass  # an answer, if not the one to a download
    except OSError as error:
        raise ConnectionError(f"its download cannot be reached ({error})") from None


def _encoded_images(builder: Any, split: str, label: str) -> EncodedImages:
    import tensorflow_datasets as tfds

    records = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    return EncodedImages(
        names=[f"{split}[{index}]" for index in range(len(records))],
        read=lambda index: records[index]["image"],
        fingerprint=fingerprint(Path(file) for file in builder.info.splits[split].filepaths),
        label=(lambda index: records[index][label]) if label else None,
    )


def _reason(error: BaseException) -> str:
    """The first line of what an error was raised for."""
    while error.__cause__ is not None and not isinstance(error, ConnectionError):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return re.sub(r"\S*://\S+|host='[^']*'", "an address", reason)
