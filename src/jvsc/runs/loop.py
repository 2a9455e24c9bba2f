"""The training loop: epochs run, validated and kept, and what a divergence or a signal leaves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from jvsc.data import Dataset
from jvsc.errors import DivergenceError
from jvsc.evaluation.inference import inference_key, make_validate
from jvsc.model.model import Model, StepMetrics
from jvsc.model.thresholding import SUBGRADIENTS
from jvsc.runs.checkpoint import Checkpoints, Restored, keep_unfinished
from jvsc.runs.config import Config
from jvsc.runs.divergence import (
    advice,
    advice_without_codes,
    describe,
    find_divergence,
    write_divergences,
)
from jvsc.runs.early_stopping import has_stopped_falling, patience_after
from jvsc.runs.factories.models import build_annealing, build_infer_chunk
from jvsc.runs.interruption import Interruption, Pace
from jvsc.runs.logs import LogRow, RunLog
from jvsc.runs.processes import agree
from jvsc.runs.restore import seed_variables
from jvsc.training.feed import Feed
from jvsc.training.mesh import replicate
from jvsc.training.patience import Patience
from jvsc.training.state import TrainState


class Underway(NamedTuple):
    """An epoch of which some steps are done.

    Attributes:
      before: the state at its start.
      metrics: of its steps, [S, steps].
      place: how many are done.
      seconds: they took.
    """

    before: TrainState
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
        patience: tuple[Patience, ...] = (),
    ):
        self.config: Config = config
        self.model: Model = model
        self.dataset: Dataset = dataset
        self.feed: Feed = feed
        self.checkpoints: Checkpoints = checkpoints
        self.state: TrainState = state
        self.epoch: int = epoch
        self.diverged: dict[int, Any] = diverged
        self.workdir: Path = workdir
        self.folder: Path = folder
        self.console: Console = console
        self.patience: tuple[Patience, ...] = patience or (Patience(),) * len(config.seeds)
        self.validate: Callable[[TrainState], list[float]] = validate_seeds(config, model, dataset)
        self.pace: Pace = Pace()
        self.underway: Underway
        self._begin_epoch()

    def is_lost(self) -> bool:
        """Whether every seed has diverged."""
        return len(self.diverged) == len(self.config.seeds)

    def is_over(self) -> bool:
        """Whether all epochs are done, every seed is lost, or the loss has stopped falling."""
        if self.epoch >= self.config.num_epochs or self.is_lost():
            return True
        settings = self.config.early_stopping
        return settings.patience > 0 and agree(has_stopped_falling(self.patience, settings), 0)[0]

    def tell_end(self) -> None:
        """Says why a training ends before its last epoch."""
        if self.epoch < self.config.num_epochs and not self.is_lost():
            self.console.print(
                f"ended after epoch {self.epoch}: the validation loss has not fallen in "
                f"{self.config.early_stopping.patience} validations",
                highlight=False,
                soft_wrap=True,
            )

    def _begin_epoch(self) -> None:
        before = copied(self.state)
        metrics = self.feed.begin(self.state)
        self.underway = Underway(before, metrics, 0, 0.0)

    def go_on_within_epoch(self, unfinished: Restored, mesh: Mesh) -> None:
        """Takes up an epoch where `_keep` left it."""
        record, self.state = unfinished.position, unfinished.state
        self.feed.seek(unfinished.epoch)
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
        if self.config.family.warms_up:
            annealing = build_annealing(self.config)
            row["warmup"] = float(jnp.asarray(annealing(jnp.int32(row["step"])).warmup))
        if last or self.epoch % output.validate_every == 0:
            row["validation_loss"] = self.validate(self.state)
            self.patience = patience_after(row, self.patience, self.config.early_stopping)
        log.write(row)
        log.advance(row)
        if self.is_over() and not np.any(row["nonzero_fraction"]):
            self.console.print(advice_without_codes(self.config), highlight=False, soft_wrap=True)
        if self.is_over() or self.epoch % output.checkpoint_every == 0:
            loss = row.get("validation_loss")
            mean_loss = float(np.mean(loss)) if loss else None
            self.checkpoints.save(self.epoch, self.state, mean_loss, patience=self.patience)
        if self.epoch in output.draw_epochs:
            from jvsc.runs.pictures import draw_epoch  # brings in matplotlib

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
                raise interruption.error(
                    f"after step {self.epoch * num_steps + now.place}, which is kept; the same "
                    "command goes on from it"
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
            before = self.underway.before
            self.checkpoints.save(self.epoch, before, None, patience=self.patience)

    def _keep(self) -> None:
        """Writes the epoch underway; and the checkpoint of its start, if there is none."""
        now = self.underway
        self._keep_start()
        if not now.place:
            return
        record = {
            "metrics": {k: np.asarray(v).tolist() for k, v in now.metrics._asdict().items()},
            "place": now.place,
            "seconds": now.seconds,
        }
        step = self.epoch * self.feed.num_steps + now.place
        keep_unfinished(self.workdir, step, self.state, record)

    def _settle_divergences(self, before: TrainState, metrics: StepMetrics) -> None:
        config, first_step = self.config, self.epoch * self.config.steps_per_epoch
        diverged = find_divergence(metrics, self.state.parameters, config.seeds, first_step)
        new = {seed: diverged[seed] for seed in diverged if seed not in self.diverged}
        self.diverged = new | self.diverged
        if self.diverged:
            self.state = keep_last_good(before, self.state, config.seeds, self.diverged)
        if new:
            write_divergences(self.folder, self.diverged)
            if self.is_lost() and config.estimator not in SUBGRADIENTS:
                self._keep_start()
                raise DivergenceError(advice(new, self.epoch))
            self.console.print(describe(new), highlight=False)


@jax.jit
def copied(state: TrainState) -> TrainState:
    """A copy that survives donation of the original."""
    return jax.tree.map(jnp.copy, state)


def epoch_row(epoch: int, metrics: StepMetrics, seconds: float) -> LogRow:
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


def validate_seeds(
    config: Config, model: Model, dataset: Dataset
) -> Callable[[TrainState], list[float]]:
    """The validation loss of each seed's inferred codes, as a function."""
    infer_chunk = build_infer_chunk(config, model, training=True)
    losses_of_data = make_validate(model, config.eval.chunk, infer_chunk)
    key = inference_key(config.eval.seed)

    def validate(state: TrainState) -> list[float]:
        losses = []
        for index in range(len(config.seeds)):
            parameters, statistics = seed_variables(state, index)
            seed_losses = losses_of_data(parameters, statistics, dataset.validation, key)
            losses.append(float(np.mean(seed_losses)))
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
