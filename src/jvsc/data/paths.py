"""Paths as users write them, and which files of a folder are data."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jvsc.errors import UserError

# How many of a folder's names a message tells.
NAMED = 6


def user_path(path: str | os.PathLike[str], argument: str) -> Path:
    """A path with `~` written out.

    Args:
      path: as it was given.
      argument: what named it, for the error: an argument, or a setting such as "data.path".

    Raises:
      UserError: if it is not a path, or begins with an unknown user's home.
    """
    try:
        written = Path(path)
        if "\0" in str(written):
            raise TypeError
        return written.expanduser()
    except TypeError:
        raise UserError(f"{path!r}: give a path", argument) from None
    except RuntimeError:
        reason = f"{path}: there is no such user's home; write the path out"
        raise UserError(reason, argument) from None


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Names with the numbers in them in their order: a2 before a10."""

    def key(name: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"([0-9]+)", name)
        return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]

    return sorted(names, key=key)


def data_files(folder: Path, suffixes: Sequence[str], argument: str) -> list[Path]:
    """The files of a folder that end in some suffix, in natural order; hidden ones are no data.

    Raises:
      UserError: if the folder has none, cannot be read, or one of them is a pipe or a link to
        nothing.
    """
    try:
        there = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror})", argument) from None
    names = [name for name in there if Path(name).suffix.lower() in suffixes]
    files = [folder / name for name in in_natural_order(names) if not (folder / name).is_dir()]
    if not files:
        raise UserError(
            f"{folder}: no {', '.join(suffixes)} file in this folder{what_lies(folder)}", argument
        )
    for file in files:
        if not file.is_file():
            raise UserError(f"{folder}: {file.name} is no file; remove it", argument)
    return files


def what_lies(folder: Path) -> str:
    """What a folder holds instead of the expected files, as the end of a message."""
    try:
        names = in_natural_order(path.name for path in folder.iterdir())
    except NotADirectoryError:
        return "; it is a file"
    except OSError:
        return "; there is no such folder"
    if not names:
        return ", which is empty"
    return f", which holds {', '.join(names[:NAMED])}{' ...' if len(names) > NAMED else ''}"


def span(files: Sequence[Path]) -> str:
    """How many files there are, and in which order."""
    if len(files) == 1:
        return "1 file"
    return f"{len(files)} files, {files[0].name} to {files[-1].name}"


def default_cache() -> Path:
    """The user's cache folder for jvsc."""
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "jvsc"
