"""The one reader of a run's JSON files, which a full disk, an editor or a copy may have damaged."""

import json
import stat
import time
from pathlib import Path
from typing import Any

import pydantic

# A pydantic.TypeAdapter, of which the checks of the tests know no content.
Kind = Any
# Where what cannot be read goes, so that nothing is lost.
ASIDE = "damaged"
# Of what a file holds, so much is quoted.
QUOTED = 120


class UnreadableError(ValueError):
    """What a file holds instead of what was written; its message is a few words."""


def stored_text(file: Path) -> str | None:
    """The text of a file; None where there is none.

    Raises:
      UnreadableError: if it is a folder, a pipe, a link to nothing, or no text.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise UnreadableError("not a regular file")
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if file.is_symlink():
            raise UnreadableError("a link to what is not there") from None
        return None
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise UnreadableError("not UTF-8 text") from None


def parsed(text: str, kind: Kind) -> Any:
    """What a JSON text of some kind holds.

    Raises:
      UnreadableError: if it is no JSON, or of another kind.
    """
    try:
        return kind.validate_python(json.loads(text), strict=True)
    except RecursionError:
        raise UnreadableError("nested too deeply") from None
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "it"
        raise UnreadableError(f"{place}: {problem['msg']}"[:QUOTED]) from None
    except ValueError as error:
        raise UnreadableError(str(error).splitlines()[0].split(";")[0][:QUOTED]) from None


def stored_json(file: Path, kind: Kind) -> Any:
    """What a JSON file of some kind holds; None where there is none.

    Raises:
      UnreadableError: if it cannot be read, or is of another kind.
    """
    text = stored_text(file)
    return None if text is None else parsed(text, kind)


def set_aside(file: Path) -> Path:
    """Moves what cannot be read into `damaged/` beside it; returns its new place."""
    aside = file.parent / ASIDE / f"{file.name}-{time.time_ns()}"
    aside.parent.mkdir(exist_ok=True)
    return file.rename(aside)
