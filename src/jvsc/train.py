"""The training loop and its input and output."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from rich.console import Console

from jvsc.batches import make_prepare
from jvsc.build import build_dataset, build_infer, build_loss, build_model, build_optimizer
from jvsc.checkpoint import (
    Checkpoints,
    Restored,
    check_workdir,
    claim_workdir,
    drop_unfinished,
    keep_unfinished,
    locked_workdir,
    make_workdir,
    open_checkpoints,
    restore_unfinished,
)
from jvsc.code_measures import validation_loss
from jvsc.config import Config
from jvsc.data import Dataset
from jvsc.divergence import describe, find_divergence, read_divergences, write_divergences
from jvsc.errors import DivergenceError, InterruptedRunError
from jvsc.feed import Feed, fits_on_device, resident_feed, streamed_feed
from jvsc.inference import inference_key
from jvsc.interruption import Interruption, Pace, deferred_interruption
from jvsc.logs import Row, RunLog, open_log
from jvsc.model import Model
from jvsc.objective import StepMetrics
from jvsc.parallel import DATA_AXIS, check_batch_size, make_mesh, replicate
from jvsc.pictures import draw_epoch
from jvsc.processes import (
    agree,
    ending_with_others,
    is_first_process,
    own_folder,
    wait_for_all,
)
from jvsc.restore import seed_variables
from jvsc.state import TrainState, init_states
from jvsc.trained import write_normalisation


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
    writes what is not a checkpoint. A SIGTERM to one of them ends all in good order, after the
    steps in hand (see `Pace`).

    Args:
      config: the run's settings.
      workdir: where checkpoints, logs and pictures go; the run's own.
      console: where progress is shown.

    Returns:
      The last states and the data.

    Raises:
      UserError: if the data or the workdir do not serve.
      DivergenceError: if a loss becomes non-finite where that is not an expected result.
      InterruptedRunError: after a SIGTERM; the same call goes on where it ended.
    """
    console = console or Console()
    check_workdir(workdir, config)
    mesh = make_mesh()
    check_batch_size(config.batch_size, mesh.size)
    dataset = build_dataset(config)
    with ExitStack() as held:
        if is_first_process():
            make_workdir(workdir)
            held.enter_context(locked_workdir(workdir))
            claim_workdir(workdir, config)
            write_normalisation(dataset, workdir)
        wait_for_all("the workdir is claimed")
        console.print(dataset.description, markup=False, highlight=False, soft_wrap=True)
        scratch = Path(held.enter_context(TemporaryDirectory()))
        interruption = held.enter_context(deferred_interruption())
        checkpoints = held.enter_context(open_checkpoints(workdir, config.output.keep_last))
        loop = start_loop(config, dataset, mesh, checkpoints, workdir, scratch, console)
        log = held.enter_context(
            open_log(loop.folder, loop.epoch, config.num_epochs, config.seeds, console)
        )
        with ending_with_others():
            while loop.epoch < config.num_epochs and not loop.is_lost():
                loop.run_epoch(log, interruption)
            stop, _ = agree(interruption.asked, 0)
        if stop:
            raise InterruptedRunError(
                "ended by SIGTERM; the training is done, and the same command goes on with its "
                "evaluation"
            )
        drop_unfinished(workdir)
        return Trained(loop.state, dataset)


def start_loop(
    config: Config,
    dataset: Dataset,
    mesh: Mesh,
    checkpoints: Checkpoints,
    workdir: Path,
    scratch: Path,
    console: Console,
) -> "Loop":
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
    model = build_model(config, dataset.train.shape[1], DATA_AXIS)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    state = replicate(init_states(config.seeds, model, optimizer), mesh)
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    restored = checkpoints.restore_newest(state, tell)
    if restored is None:
        # So that a run that diverges in its first epoch has a last good checkpoint too.
        checkpoints.save(0, state, None)
        epoch = 0
    else:
        epoch, state = restored.epoch, restored.state
    feed = make_feed(config, model, optimizer, dataset, state, mesh)
    if restored is not None and restored.position:
        feed.seek(restored.position)
    folder, diverged = own_folder(workdir, scratch), read_divergences(workdir)
    loop = Loop(
        config, model, dataset, feed, checkpoints, state, epoch, diverged, workdir, folder, console
    )
    unfinished = restore_unfinished(workdir, state, tell)
    if unfinished is not None and unfinished.epoch // config.steps_per_epoch == epoch:
        loop.go_on_within_epoch(unfinished, mesh)
    return loop


class Underway(NamedTuple):
    """An epoch of which some steps are done.

    Attributes:
      before: the state at its start.
      position: where the stream of data was then.
      metrics: of its steps, [S, steps].
      place: how many are done.
      seconds: they took.
    """

    before: TrainState
    position: dict[str, Any]
    metrics: StepMetrics
    place: int
    seconds: float


class Loop:
    """A training: its state, how many epochs are done, the one underway, and where it writes."""

    def __init__(
        self,
        config: Config,
        model: Model,
        dataset: Dataset,
        feed: Feed,
        checkpoints: Checkpoints,
        state: TrainState,
        epoch: int,
        diverged: dict[int, Any],
        workdir: Path,
        folder: Path,
        console: Console,
    ):
        self.config, self.model, self.dataset, self.feed = config, model, dataset, feed
        self.checkpoints, self.state, self.epoch = checkpoints, state, epoch
        self.diverged, self.workdir, self.folder, self.console = diverged, workdir, folder, console
        self.validate = make_validate(config, model, dataset)
        self.pace = Pace()
        self._begin_epoch()

    def is_lost(self) -> bool:
        """Whether every seed has diverged."""
        return len(self.diverged) == len(self.config.seeds)

    def _begin_epoch(self) -> None:
        before = jax.tree.map(jnp.copy, self.state)
        metrics = self.feed.begin(self.state)
        self.underway = Underway(before, self.feed.position(), metrics, 0, 0.0)

    def go_on_within_epoch(self, unfinished: Restored, mesh: Mesh) -> None:
        """Takes up an epoch where `_keep` left it."""
        record, self.state = unfinished.position, unfinished.state
        if record["stream"]:
            self.feed.seek(record["stream"])
        kept: dict[str, Any] = {
            name: replicate(np.asarray(values, jnp.result_type(float)), mesh)
            for name, values in record["metrics"].items()
        }
        metrics = StepMetrics(**kept)
        self.underway = self.underway._replace(
            metrics=metrics, place=record["place"], seconds=record["seconds"]
        )

    def run_epoch(self, log: RunLog, interruption: Interruption) -> None:
        """Trains an epoch, validates it, and keeps it; a seed that diverges stays as it was.

        Raises:
          DivergenceError: if a seed diverges where that is not an expected result.
          InterruptedRunError: if a process was asked to end; what is done is kept.
        """
        self._run_steps(interruption)
        done = self.underway
        self._settle_divergences(done.before, done.metrics)
        if self.is_lost():
            return
        self.epoch += 1
        output, last = self.config.output, self.epoch == self.config.num_epochs
        row = epoch_row(self.epoch, done.metrics, done.seconds)
        if last or self.epoch % output.validate_every == 0:
            row["validation_loss"] = self.validate(self.state)
        log.write(row)
        log.advance(row)
        if last or self.epoch % output.checkpoint_every == 0:
            loss = row.get("validation_loss")
            mean_loss = float(np.mean(loss)) if loss else None
            self.checkpoints.save(self.epoch, self.state, mean_loss, self.feed.position())
        if self.epoch in output.draw_epochs:
            variables = seed_variables(self.state, 0)
            draw_epoch(self.epoch, self.model, *variables, self.dataset, self.folder)
        self._begin_epoch()

    def _run_steps(self, interruption: Interruption) -> None:
        """Runs what is left of the epoch, all processes the same steps at a time."""
        num_steps = self.feed.num_steps
        while True:
            now = self.underway
            wanted = min(self.pace.steps, num_steps - now.place)
            stop, steps = agree(interruption.asked, wanted)
            if stop:
                self._keep()
                raise InterruptedRunError(
                    f"ended by SIGTERM after step {self.epoch * num_steps + now.place}, which is "
                    "kept; the same command goes on from it"
                )
            if not steps:
                return
            start = time.perf_counter()
            self.state, metrics = jax.block_until_ready(
                self.feed.run_steps(self.state, now.metrics, now.place, steps)
            )
            seconds = time.perf_counter() - start
            self.pace.learn(steps, seconds)
            self.underway = now._replace(
                metrics=metrics, place=now.place + steps, seconds=now.seconds + seconds
            )

    def _keep_start(self) -> None:
        if self.checkpoints.latest != self.epoch:
            self.checkpoints.save(self.epoch, self.underway.before, None, self.underway.position)

    def _keep(self) -> None:
        """Writes the epoch underway; and the checkpoint of its start, if there is none."""
        now = self.underway
        self._keep_start()
        if not now.place:
            return
        record = {
            "stream": self.feed.position(),
            "metrics": {k: np.asarray(v).tolist() for k, v in now.metrics._asdict().items()},
            "place": now.place,
            "seconds": now.seconds,
        }
        step = self.epoch * self.feed.num_steps + now.place
        keep_unfinished(self.workdir, step, self.state, record)

    def _settle_divergences(self, before: TrainState, metrics: StepMetrics) -> None:
        config, first_step = self.config, self.epoch * self.config.steps_per_epoch
        found = find_divergence(metrics, self.state.parameters, config.seeds, first_step)
        new = {seed: found[seed] for seed in found if seed not in self.diverged}
        self.diverged = new | self.diverged
        if self.diverged:
            self.state = keep_last_good(before, self.state, config.seeds, self.diverged)
        if new:
            write_divergences(self.folder, self.diverged)
            if config.estimator != "subgradient":
                self._keep_start()
                raise DivergenceError(_advice(new, self.epoch))
            self.console.print(describe(new), highlight=False)


def make_feed(
    config: Config,
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset: Dataset,
    state: TrainState,
    mesh: Mesh,
) -> Feed:
    """The run's epoch with its data: on the device where they fit, else streamed."""
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
        "loss": build_loss(config, model),
        "optimizer": optimizer,
        "batch_size": config.batch_size,
        "prepare": make_prepare(dataset.shape, dataset.mirrored),
        "mesh": mesh,
    }


def epoch_row(epoch: int, metrics: StepMetrics, seconds: float) -> Row:
    """One epoch's log: means over its steps, one number a seed, and how long it took."""
    means = {
        name: np.mean(np.asarray(values), axis=1, dtype=np.float64).tolist()
        for name, values in metrics._asdict().items()
    }
    num_steps = metrics.loss.shape[1]
    return {
        "epoch": epoch,
        "step": epoch * num_steps,
        **means,
        "seconds": seconds,
        "steps_per_second": num_steps / seconds,
    }


def make_validate(
    config: Config, model: Model, dataset: Dataset
) -> Callable[[TrainState], list[float]]:
    """The validation loss of each seed's inferred codes (see `validation_loss`), as a function."""
    infer = build_infer(config, model, config.fista.tolerance, config.fista.max_iterations)
    key = inference_key(config.eval.seed)

    def validate(state: TrainState) -> list[float]:
        losses = []
        for index in range(len(config.seeds)):
            parameters, statistics = seed_variables(state, index)
            inferred = infer(parameters, statistics, dataset.validation, key)
            losses.append(validation_loss(config, inferred, dataset.validation.shape[1]))
        return losses

    return validate


def keep_last_good(
    before: TrainState, after: TrainState, seeds: tuple[int, ...], diverged: dict[int, Any]
) -> TrainState:
    """The state after an epoch, but before it for the seeds that diverged."""
    lost = np.asarray([seed in diverged for seed in seeds])

    def pick(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(lost.reshape((-1,) + (1,) * (new.ndim - 1)), old, new)

    return jax.tree.map(pick, before, after)


def _advice(diverged: dict[int, Any], epoch: int) -> str:
    return (
        f"{describe(diverged)}. The checkpoint of epoch {epoch} is kept. "
        "Lower encoder.learning_rate or generator.learning_rate, in another workdir"
    )
