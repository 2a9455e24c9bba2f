"""The training loop and its input and output."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from rich.console import Console

from jvsc.batches import make_prepare
from jvsc.build import build_dataset, build_infer, build_loss, build_model, build_optimizer
from jvsc.checkpoint import check_workdir, claim_workdir, open_checkpoints
from jvsc.code_measures import validation_loss
from jvsc.config import Config
from jvsc.data import Dataset
from jvsc.divergence import describe, find_divergence, read_divergences, write_divergences
from jvsc.errors import DivergenceError
from jvsc.feed import Feed, fits_on_device, resident_feed, streamed_feed
from jvsc.inference import inference_key
from jvsc.logs import Row, open_log
from jvsc.model import Model
from jvsc.objective import StepMetrics
from jvsc.parallel import DATA_AXIS, check_batch_size, make_mesh, replicate
from jvsc.pictures import draw_epoch
from jvsc.restore import seed_variables
from jvsc.state import TrainState, init_states


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

    Args:
      config: the run's settings.
      workdir: where checkpoints, logs and pictures go; the run's own.
      console: where progress is shown.

    Returns:
      The last states and the data.

    Raises:
      UserError: if the data or the workdir do not serve.
      DivergenceError: if a loss becomes non-finite where that is not an expected result.
    """
    console = console or Console()
    check_workdir(workdir, config)
    mesh = make_mesh()
    check_batch_size(config.batch_size, mesh.size)
    dataset = build_dataset(config)
    claim_workdir(workdir, config)
    console.print(dataset.description, markup=False, highlight=False, soft_wrap=True)
    model = build_model(config, dataset.train.shape[1], DATA_AXIS)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    validate = make_validate(config, model, dataset)
    diverged = read_divergences(workdir)

    with open_checkpoints(workdir, config.output.keep_last) as checkpoints:
        state = replicate(init_states(config.seeds, model, optimizer), mesh)
        epoch = checkpoints.latest
        if epoch is None:
            # So that a run that diverges in its first epoch has a last good checkpoint too.
            epoch = 0
            checkpoints.save(epoch, state, None)
        else:
            state = checkpoints.restore(state, epoch)
        feed = make_feed(config, model, optimizer, dataset, state, mesh)
        if epoch:
            feed.seek(checkpoints.restore_position(epoch))
        with open_log(workdir, epoch, config.num_epochs, config.seeds, console) as log:
            while epoch < config.num_epochs and len(diverged) < len(config.seeds):
                before = jax.tree.map(jnp.copy, state)
                start = time.perf_counter()
                state, metrics = jax.block_until_ready(feed.run_epoch(state))
                seconds = time.perf_counter() - start
                first_step = epoch * config.steps_per_epoch
                found = find_divergence(metrics, state.parameters, config.seeds, first_step)
                new = {seed: found[seed] for seed in found if seed not in diverged}
                diverged = new | diverged
                if diverged:
                    state = keep_last_good(before, state, config.seeds, diverged)
                if new:
                    write_divergences(workdir, diverged)
                    if config.estimator != "subgradient":
                        raise DivergenceError(_advice(new, epoch))
                    console.print(describe(new), highlight=False)
                if len(diverged) == len(config.seeds):
                    break
                epoch += 1
                row = epoch_row(epoch, metrics, seconds)
                due = epoch % config.output.validate_every == 0 or epoch == config.num_epochs
                if due:
                    row["validation_loss"] = validate(state)
                log.write(row)
                log.advance(row)
                if epoch % config.output.checkpoint_every == 0 or epoch == config.num_epochs:
                    loss = row.get("validation_loss")
                    mean_loss = float(np.mean(loss)) if loss else None
                    checkpoints.save(epoch, state, mean_loss, feed.position())
                if epoch in config.output.draw_epochs:
                    draw_epoch(epoch, model, *seed_variables(state, 0), dataset, workdir)
    return Trained(state, dataset)


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
    lost = jnp.asarray([seed in diverged for seed in seeds])

    def pick(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(lost.reshape((-1,) + (1,) * (new.ndim - 1)), old, new)

    return jax.tree.map(pick, before, after)


def _advice(diverged: dict[int, Any], epoch: int) -> str:
    return (
        f"{describe(diverged)}. The checkpoint of epoch {epoch} is kept. "
        "Lower encoder.learning_rate or generator.learning_rate, in another workdir"
    )
