"""A training: its data, devices, workdir and logs, put together and run to the end."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh
from rich.console import Console

from jvsc.data import Dataset
from jvsc.errors import UserError
from jvsc.model.model import Model
from jvsc.runs.checkpoint import Checkpoints, drop_unfinished, open_checkpoints, restore_unfinished
from jvsc.runs.config import Config
from jvsc.runs.divergence import check_not_lost, read_divergences
from jvsc.runs.factories import build_dataset, build_model, build_optimizer
from jvsc.runs.factories.models import build_online_step
from jvsc.runs.interruption import deferred_interruption
from jvsc.runs.logs import open_log
from jvsc.runs.loop import Loop
from jvsc.runs.needs import check_needs
from jvsc.runs.processes import (
    agree,
    ending_with_others,
    is_first_process,
    own_folder,
    wait_for_all,
)
from jvsc.runs.trackers import require_trackers
from jvsc.runs.trained_model import write_normalisation
from jvsc.runs.workdir import check_workdir, claim_workdir, locked_workdir, make_workdir
from jvsc.training.batches import make_prepare
from jvsc.training.feed import Feed, fits_on_device, resident_feed, streamed_feed
from jvsc.training.mesh import DATA_AXIS, batch_axis, check_batch_size, make_mesh, spread_latents
from jvsc.training.online import online_feed
from jvsc.training.state import TrainState, init_states, with_atoms_of_data


class Trained(NamedTuple):
    """A run at its end.

    Attributes:
      state: the last state of every seed, with a leading axis.
      dataset: the data it was trained on.
    """

    state: TrainState
    dataset: Dataset


def train(config: Config, workdir: Path, console: Console | None = None) -> Trained:
    """Trains a run, or continues it from its newest checkpoint, to the end.

    Several processes train it together: each calls this with the same arguments. The first one
    writes what is not a checkpoint. A SIGTERM or Ctrl-C to one of them ends all in good order,
    after the steps in hand (see `Pace`).

    Args:
      config: the run's settings.
      workdir: where checkpoints, logs and pictures go; the run's own.
      console: where progress is shown.

    Returns:
      The last states and the data.

    Raises:
      UserError: if the data or the workdir do not serve, or a tracker is not installed.
      DivergenceError: if a loss becomes non-finite where that is not an expected result.
      InterruptedRunError: after a SIGTERM or Ctrl-C; the same call goes on where it ended.
    """
    console = console or Console()
    require_trackers(config.output.trackers)
    check_workdir(workdir, config)
    check_needs(config)
    check_one_process(config)
    mesh = make_mesh(config.parallel.latent_shards)
    check_batch_size(config.batch_size, mesh.shape[DATA_AXIS])
    dataset = build_dataset(config)
    with ExitStack() as stack:
        if is_first_process():
            make_workdir(workdir)
            stack.enter_context(locked_workdir(workdir))
            claim_workdir(workdir, config)
            write_normalisation(dataset, workdir)
        wait_for_all("the workdir is claimed")
        console.print(dataset.description, markup=False, highlight=False, soft_wrap=True)
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        interruption = stack.enter_context(deferred_interruption())
        checkpoints = stack.enter_context(open_checkpoints(workdir, config.output.keep_last))
        loop = start_loop(config, dataset, mesh, checkpoints, workdir, scratch, console)
        check_not_lost(config, loop.diverged, loop.epoch)
        log = stack.enter_context(
            open_log(loop.folder, loop.epoch, config, console, tracked=is_first_process())
        )
        with ending_with_others():
            while not loop.is_over():
                loop.run_epoch(log, interruption)
            loop.tell_end()
            stop, _ = agree(interruption.asked, 0)
        if stop:
            raise interruption.error(
                "when the training was done; the same command goes on with its evaluation"
            )
        drop_unfinished(workdir)
        return Trained(loop.state, dataset)


def check_one_process(config: Config) -> None:
    """Refuses several processes of a method that learns on one host.

    Raises:
      UserError: naming it.
    """
    if config.learns_online and jax.process_count() > 1:
        raise UserError(
            f"method={config.method} learns on one host; start one process, without --distributed"
        )


def start_loop(
    config: Config,
    dataset: Dataset,
    mesh: Mesh,
    checkpoints: Checkpoints,
    workdir: Path,
    scratch: Path,
    console: Console,
) -> Loop:
    """The loop at the run's newest checkpoint, or at its start.

    Args:
      config: the run's settings.
      dataset: its data.
      mesh: the devices.
      checkpoints: the run's.
      workdir: the run's.
      scratch: where a process that does not write puts its logs.
      console: told of damaged checkpoints, and of divergences.
    """
    model = build_model(config, dataset.train.shape[1], batch_axis(mesh), training=True)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    state = init_states(config.seeds, model, optimizer)
    if config.generator.start == "data" and model.generator.is_dictionary:
        state = with_atoms_of_data(state, dataset.train, config.num_latents)
    state = spread_latents(state, mesh, config.num_latents)
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    restored = checkpoints.restore_newest(state, tell)
    if restored is None:
        # So that a run that diverges in its first epoch has a last good checkpoint too.
        checkpoints.save(0, state, None)
        epoch, patience = 0, ()
    else:
        epoch, state, patience = restored.epoch, restored.state, restored.patience
    feed = make_feed(config, model, optimizer, dataset, state, mesh)
    feed.seek(epoch * feed.num_steps)
    folder, diverged = own_folder(workdir, scratch), read_divergences(workdir)
    loop = Loop(
        config,
        model,
        dataset,
        feed,
        checkpoints,
        state,
        epoch,
        diverged,
        workdir,
        folder,
        console,
        patience,
    )
    unfinished = restore_unfinished(workdir, state, tell)
    if unfinished is not None and (unfinished.epoch - 1) // config.steps_per_epoch == epoch:
        loop.go_on_within_epoch(unfinished, mesh)
    return loop


def make_feed(
    config: Config,
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset: Dataset,
    state: TrainState,
    mesh: Mesh,
) -> Feed:
    """The run's epoch with its data: on the device where they fit, else streamed.

    A dictionary that is learned online reads them on the host.
    """
    if config.learns_online:
        prepare = make_prepare(dataset.shape, dataset.mirrored)
        step, penalty = build_online_step(config), config.fista.penalty
        return online_feed(
            dataset.train, step, penalty, config.batch_size, prepare, mesh, state.key
        )
    arguments = feed_arguments(config, model, optimizer, dataset, mesh)
    if fits_on_device(dataset.train, config.data.device_memory_fraction):
        return resident_feed(dataset.train, **arguments)
    return streamed_feed(dataset.train, keys=state.key, **arguments)


def feed_arguments(
    config: Config,
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset: Dataset,
    mesh: Mesh,
) -> dict[str, Any]:
    """What both ways to feed an epoch take."""
    return {
        "loss": model.loss,
        "optimizer": optimizer,
        "batch_size": config.batch_size,
        "prepare": make_prepare(dataset.shape, dataset.mirrored),
        "mesh": mesh,
    }
