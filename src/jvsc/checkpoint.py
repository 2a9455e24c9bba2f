"""A run's identity and its checkpoints on disk."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jvsc.config import Config, differences, make_config
from jvsc.errors import UserError
from jvsc.state import TrainState

CONFIG_FILE = "config.json"
# What an evaluation or a drawing may change without being another run.
FREE_SECTIONS = ("eval", "fid", "output")


def write_atomically(path: Path, text: str) -> None:
    """Replaces a text file in one step, so that no reader or kill ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


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
        raise UserError(f"--workdir={workdir}: {existing} is not a directory; give another")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            f"--workdir={workdir}: {existing} is not writable; give another or change its mode"
        )
    if (workdir / CONFIG_FILE).exists():
        different = differences(read_config(workdir), config, ignore=FREE_SECTIONS)
        if different:
            raise UserError(
                f"--workdir={workdir} holds a run of other settings ({'; '.join(different)}); "
                "give another workdir, or the same settings to continue it"
            )


def claim_workdir(workdir: Path, config: Config) -> None:
    """Makes `workdir` this run's: creates it and stores the settings as config.json.

    Raises:
      UserError: as `check_workdir`, and if the directory cannot be created.
    """
    check_workdir(workdir, config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir / CONFIG_FILE, json.dumps(config.model_dump(), indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written ({error.strerror}); give another"
        ) from None


def read_config(workdir: Path) -> Config:
    """The settings of the run in `workdir`.

    Raises:
      UserError: if there is no run, or its settings are not readable.
    """
    file = workdir / CONFIG_FILE
    try:
        return make_config(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(
            f"--workdir={workdir} holds no run (no {CONFIG_FILE}); train one first"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file} is not readable ({error}); restore it or start anew") from None


class Checkpoints:
    """The checkpoints of one run: written beside training, each whole or not at all."""

    def __init__(self, manager: ocp.CheckpointManager):
        self._manager = manager

    @property
    def latest(self) -> int | None:
        """The newest epoch with a checkpoint."""
        return self._manager.latest_step()

    def save(
        self,
        epoch: int,
        state: TrainState,
        validation_loss: float | None,
        position: dict[str, Any] | None = None,
    ) -> None:
        """Starts to write the state after `epoch`; returns before it is on disk.

        Args:
          epoch: epochs done.
          state: taken off the device before this returns, so it may be donated afterwards.
          validation_loss: decides which checkpoint is best; None where it was not computed.
          position: where a stream of data is.
        """
        metrics = None if validation_loss is None else {"validation_loss": validation_loss}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position or {})
        )
        self._manager.save(epoch, args=items, metrics=metrics)

    def restore(self, like: TrainState, epoch: int) -> TrainState:
        """The state after `epoch`, in the shapes and types of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._manager.restore(epoch, args=items)["state"]

    def restore_position(self, epoch: int) -> dict[str, Any]:
        """Where the stream of data was after `epoch`."""
        items = ocp.args.Composite(position=ocp.args.JsonRestore())
        return self._manager.restore(epoch, args=items)["position"]


@contextmanager
def open_checkpoints(workdir: Path, keep_last: int = 2) -> Iterator[Checkpoints]:
    """Opens the run's checkpoints, and waits at the end until all are on disk.

    The newest `keep_last` and the one of the lowest validation loss are kept.
    """

    def rank(metrics: Any) -> float:
        return -metrics["validation_loss"]

    options = ocp.CheckpointManagerOptions(
        cleanup_tmp_directories=True,
        preservation_policy=AnyPreservationPolicy(
            [
                LatestN(keep_last),
                BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False),
            ]
        ),
    )
    manager = ocp.CheckpointManager(workdir.resolve() / "checkpoints", options=options)
    try:
        yield Checkpoints(manager)
        manager.wait_until_finished()
    finally:
        manager.close()
