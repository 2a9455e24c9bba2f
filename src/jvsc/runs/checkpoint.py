"""A run's checkpoints on disk."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jvsc.errors import UserError
from jvsc.runs.orbax_messages import hush_orbax
from jvsc.runs.processes import is_first_process, wait_for_all
from jvsc.runs.workdir import CHECKPOINTS
from jvsc.training.patience import Patience
from jvsc.training.state import TrainState

UNFINISHED = "unfinished_epoch"


class Restored(NamedTuple):
    """A checkpoint as it was written.

    Attributes:
      epoch: epochs done.
      state: after them.
      position: what else was needed to go on.
      patience: early stopping's state of each seed, in order; empty without early stopping.
    """

    epoch: int
    state: TrainState
    position: dict[str, Any]
    patience: tuple[Patience, ...] = ()


class Checkpoints:
    """The checkpoints of one run: written beside training, each whole or not at all."""

    def __init__(
        self, manager: ocp.CheckpointManager, folder: Path, unit: str, reading: bool = False
    ):
        self._manager = manager
        self._folder = folder
        self._unit = unit
        self._reading = reading

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
        patience: tuple[Patience, ...] = (),
    ) -> None:
        """Starts to write the state after `epoch`; returns before it is on disk.

        Args:
          epoch: epochs done.
          state: taken off the device before this returns, so it may be donated afterwards.
          validation_loss: decides which checkpoint is best; None where it was not computed.
          position: what else is needed to go on.
          patience: of each seed.
        """
        metrics = None if validation_loss is None else {"validation_loss": validation_loss}
        record = {
            "position": position or {},
            "patience": [list(seed) for seed in patience],
            "digest": digest(state),
            "structure": structure(state),
            "version": version("jvsc"),
        }
        record["check"] = text_digest(record)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(record)
        )
        self._manager.save(epoch, args=items, metrics=metrics)

    def restore_newest(
        self, like: TrainState, tell: Callable[[str], None], required: bool = True
    ) -> Restored | None:
        """The newest checkpoint that is whole, in the shapes, types and places of `like`.

        A damaged one is reported, and moved into `damaged/` unless the checkpoints are only read;
        then the one before it is tried.

        Args:
          like: a state, or its shapes and where they go.
          tell: is called with a message for each damaged one.
          required: whether one must be found where there are any.

        Returns:
          The checkpoint; None if there is none.

        Raises:
          UserError: if there are checkpoints, but none that can be read.
        """
        damaged: list[int] = []
        while (epoch := self._newest_but(damaged)) is not None:
            restored = self._restore_whole(like, epoch)
            if isinstance(restored, Restored):
                return restored
            if self._reading and not (self._folder / str(epoch)).exists():
                self._manager.reload()  # a training that goes on has replaced it by a newer one
                continue
            damaged.append(epoch)
            place = "left" if self._reading else f"put aside in {self._put_aside(epoch)}"
            tell(
                f"checkpoint of {self._unit} {epoch} is damaged ({restored}); it is {place}, and "
                "the one before it is used"
            )
        if damaged and required:
            raise UserError(
                f"no checkpoint in {self._folder} can be read (damaged: {self._unit}s "
                f"{', '.join(map(str, damaged))}); restore one, or start in another workdir"
            )
        return None

    def _newest_but(self, damaged: list[int]) -> int | None:
        """The newest epoch with a checkpoint that is not known to be damaged."""
        return max(set(self._manager.all_steps()) - set(damaged), default=None)

    def _restore_whole(self, like: TrainState, epoch: int) -> Restored | str:
        """The checkpoint of an epoch, or why it is damaged."""
        try:
            return self._restore(like, epoch)
        except UserError:
            raise
        except Exception as error:  # whatever a damaged file makes a reader raise
            return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

    def _restore(self, like: TrainState, epoch: int) -> Restored:
        json_only = ocp.args.Composite(position=ocp.args.JsonRestore())
        record = self._manager.restore(epoch, args=json_only)["position"]
        check = record.pop("check", None)
        if check not in (None, text_digest(record)):
            raise ValueError("its record is not the one that was written")
        if record.get("structure", structure(like)) != structure(like):
            written, here = record.get("version"), version("jvsc")
            changed = "the run's settings or its data's width were changed since"
            cause, remedy = f"differs: {changed}", "restore them"
            if written != here:
                cause = f"differs from {here}'s, or {changed}"
                remedy = "go on with that version, restore them"
            raise UserError(
                f"the checkpoint of {self._unit} {epoch} in {self._folder} was written by jvsc "
                f"{written}, whose training state {cause}; {remedy}, or take another workdir"
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        state_only = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        state = self._manager.restore(epoch, args=state_only)["state"]
        if record.get("digest", digest(state)) != digest(state):
            raise ValueError("its arrays are not those that were written")
        patience = tuple(Patience(*seed) for seed in record.get("patience", []))
        return Restored(epoch, state, record.get("position", {}), patience)

    def _put_aside(self, epoch: int) -> Path:
        aside = self._folder.parent / "damaged" / f"{epoch}-{time.time_ns()}"
        if is_first_process():
            aside.parent.mkdir(exist_ok=True)
            (self._folder / str(epoch)).rename(aside)
        wait_for_all(f"checkpoint {epoch} is put aside")
        self._manager.reload()
        return aside


def structure(state: TrainState) -> str:
    """A short name of a state's tree, shapes and types."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    text = "\n".join(f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype}" for path, x in leaves)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(state: TrainState) -> str:
    """A fingerprint of every number of a state, to check that it is read as it was written."""
    sha256 = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        sha256.update(np.asarray(leaf).tobytes())
    return sha256.hexdigest()


def text_digest(record: dict[str, Any]) -> str:
    """A fingerprint of what JSON holds."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def keep_unfinished(workdir: Path, step: int, state: TrainState, position: dict[str, Any]) -> None:
    """Writes the state within an epoch, apart from the checkpoints of whole epochs.

    Args:
      workdir: the run's.
      step: steps done.
      state: after them.
      position: what else is needed to go on.
    """
    drop_unfinished(workdir)
    wait_for_all("the unfinished epoch has its place")
    with open_checkpoints(workdir, folder=UNFINISHED) as checkpoints:
        checkpoints.save(step, state, None, position)


def restore_unfinished(
    workdir: Path, like: TrainState, tell: Callable[[str], None]
) -> Restored | None:
    """What `keep_unfinished` wrote, its `epoch` being the steps done.

    None if it is not there, or not whole: the checkpoint of the epoch's start then serves.
    """
    if not (workdir / UNFINISHED).is_dir():
        return None
    with open_checkpoints(workdir, folder=UNFINISHED) as checkpoints:
        return checkpoints.restore_newest(like, tell, required=False)


def drop_unfinished(workdir: Path) -> None:
    """Removes what `keep_unfinished` wrote."""
    if is_first_process():
        place = workdir / UNFINISHED
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)


@contextmanager
def open_checkpoints(
    workdir: Path,
    keep_last: int = 2,
    alone: bool = False,
    folder: str = CHECKPOINTS,
    reading: bool = False,
) -> Iterator[Checkpoints]:
    """Opens the run's checkpoints, and waits at the end until all are on disk.

    The newest `keep_last` and the one of the lowest validation loss are kept.

    Args:
      workdir: the run's.
      keep_last: how many of the newest stay.
      alone: whether this process opens them without the others that train with it.
      folder: where in the workdir.
      reading: whether nothing in the workdir may change.
    """

    def rank(metrics: Any) -> float:
        return -metrics["validation_loss"]

    hush_orbax()
    options = ocp.CheckpointManagerOptions(
        cleanup_tmp_directories=not reading,
        create=not reading,
        read_only=reading,
        preservation_policy=AnyPreservationPolicy(
            [
                LatestN(keep_last),
                BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False),
            ]
        ),
    )
    place = workdir.resolve() / folder
    if alone and jax.process_count() > 1:
        index = jax.process_index()
        options.create = False
        options.multiprocessing_options = ocp.options.MultiprocessingOptions(
            primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"alone{index}"
        )
    try:
        manager = ocp.CheckpointManager(place, options=options)
    except (NotADirectoryError, FileExistsError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{place} is no folder of checkpoints ({reason}); restore it, or remove it to begin"
        ) from None
    try:
        unit = "epoch" if folder == CHECKPOINTS else "step"
        yield Checkpoints(manager, place, unit, reading)
        manager.wait_until_finished()
    finally:
        manager.close()
