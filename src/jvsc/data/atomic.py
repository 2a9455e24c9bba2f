"""Files and folders that are written whole or not at all, so that no reader sees half of one."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jvsc.errors import UserError


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing, that takes `file`'s place once it is whole and on the disk.

    If the block raises, the new file is removed and `file` stays as it was.
    """
    # A name of its own for each writer, also for those on other machines.
    temporary = file.with_name(f"{file.stem}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    finally:
        with suppress(OSError):  # the write's own error says more
            temporary.unlink(missing_ok=True)


def write_atomically(file: Path, text: str) -> None:
    """Writes a text file by `replacing`."""
    with replacing(file) as out:
        out.write(text.encode())


@contextmanager
def new_folder(folder: Path, argument: str = "output") -> Iterator[Path]:
    """A temporary folder to fill, which becomes `folder` when the block ends.

    Args:
      folder: to be made.
      argument: what named it.

    Raises:
      UserError: if the folder is there already, or cannot be made.
    """
    try:
        if folder.exists():
            raise UserError(f"{folder} is there already; remove it or give another", argument)
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        temporary.mkdir(parents=True)
    except OSError as error:
        reason = f"{folder} cannot be written ({error.strerror}); give another"
        raise UserError(reason, argument) from None
    try:
        yield temporary
        _put_in_place(temporary, folder, argument)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path, argument: str) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:  # another one may have been faster
        reason = f"{folder} cannot be written ({error.strerror}); remove it or give another"
        raise UserError(reason, argument) from None
