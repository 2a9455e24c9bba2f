"""A run's folder: whose it is, its settings, and its lock."""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pydantic

from jvsc.data.atomic import write_atomically
from jvsc.data.paths import what_lies
from jvsc.errors import UserError
from jvsc.runs.config import Config, differences, make_config
from jvsc.runs.stored import UnreadableError, stored_json

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"
LOCK_FILE = ".lock"
_SETTINGS = pydantic.TypeAdapter(dict[str, Any])
# What may change without being another run: evaluation, drawing, and who computes what.
FREE_SECTIONS = ("eval", "fid", "output", "parallel")
# Of data also where copies of them are kept, and whether they are read ahead: the numbers are the
# same.
FREE = (*FREE_SECTIONS, "data.tfds_dir", "data.cache_dir", "data.device_memory_fraction")


def check_workdir(workdir: Path, config: Config) -> None:
    """Refuses a workdir that cannot be this run's; changes nothing.

    Args:
      workdir: need not be there yet.
      config: the run's settings.

    Raises:
      UserError: if the directory cannot be written, or holds a run of other settings.
    """
    existing = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"{workdir}: {existing} is not a directory; give another", "workdir")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            f"{workdir}: {existing} is not writable; give another or change its mode", "workdir"
        )
    if (workdir / CONFIG_FILE).exists():
        different = differences(read_config(workdir), config, ignore=FREE)
        if different:
            raise UserError(
                f"{workdir} holds a run of other settings ({'; '.join(different)}); "
                "give another workdir, or the same settings to continue it",
                "workdir",
            )


def make_workdir(workdir: Path) -> None:
    """Creates the directory, unless it is there.

    Raises:
      UserError: if it cannot be created.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(workdir, error) from None


def claim_workdir(workdir: Path, config: Config) -> None:
    """Makes `workdir` this run's: creates it and stores the settings as config.json.

    Raises:
      UserError: as `check_workdir`, and if the directory cannot be created.
    """
    check_workdir(workdir, config)
    make_workdir(workdir)
    try:
        write_atomically(workdir / CONFIG_FILE, json.dumps(config.model_dump(), indent=2) + "\n")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _not_writable(workdir, error) from None


def _not_writable(workdir: Path, error: OSError) -> UserError:
    return UserError(f"{workdir} cannot be written ({error.strerror}); give another", "workdir")


def read_config(workdir: Path) -> Config:
    """The settings of the run in `workdir`.

    Raises:
      UserError: if there is no run, or its settings are not readable.
    """
    file = workdir / CONFIG_FILE
    try:
        stored = stored_json(file, _SETTINGS)
        if stored is not None:
            return make_config(stored)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (UnreadableError, RecursionError) as error:
        reason = str(error) if isinstance(error, UnreadableError) else "nested too deeply"
        raise UserError(f"{file} is not readable ({reason}); restore it or start anew") from None
    if (workdir / CHECKPOINTS).is_dir():
        raise UserError(
            f"{workdir} holds a training by jvsc.train, which only its own call goes on with",
            "workdir",
        )
    there = what_lies(workdir)
    raise UserError(f"{workdir} holds no run (no {CONFIG_FILE}){there}; train one first", "workdir")


def _lock_file(workdir: Path, argument: str) -> TextIO:
    path = workdir / LOCK_FILE
    try:
        # Not blocking, lest a pipe in its place is waited for.
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{workdir} cannot be written ({path.name}: {error.strerror}); change its mode, or go "
            "on with a copy",
            argument,
        ) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UserError(f"{path} is not a regular file; remove it")
    return os.fdopen(number, "r+")


@contextmanager
def locked_workdir(workdir: Path, argument: str = "workdir") -> Iterator[None]:
    """Holds the workdir for this process alone; the system lets go of it however it ends.

    Args:
      workdir: a folder.
      argument: what named it.

    Raises:
      UserError: if another process holds it, or it cannot be written.
    """
    with _lock_file(workdir, argument) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{workdir} is in use by another process; wait for it, stop it, or give another",
                argument,
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
