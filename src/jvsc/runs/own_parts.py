"""Training from Python: parts of one's own and any matrix, without settings or a command."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, Shaped

from jvsc.data.dataset import Dataset
from jvsc.data.paths import user_path
from jvsc.errors import DivergenceError, UserError
from jvsc.evaluation.inference import Inferred, inference_key, make_infer, make_validate
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.variational import Variational
from jvsc.runs.checkpoint import Checkpoints, open_checkpoints
from jvsc.runs.divergence import find_divergence
from jvsc.runs.loop import epoch_row
from jvsc.runs.restore import seed_variables
from jvsc.runs.workdir import CONFIG_FILE, locked_workdir, make_workdir
from jvsc.training.batches import make_prepare
from jvsc.training.feed import Feed, fits_on_device, resident_feed, streamed_feed
from jvsc.training.mesh import make_mesh, replicate
from jvsc.training.schedules import one_cycle
from jvsc.training.state import TrainState, init_state, initial_variables

LEARNING_RATE = 1e-3
# Data inferred at once, and the share of a device's memory that training data may take.
CHUNK, MEMORY_SHARE = 1000, 0.5


class Epoch(NamedTuple):
    """An epoch at its end, as a callback is given it.

    Attributes:
      number: epochs done.
      metrics: means over its steps by their names (see `StepMetrics`), its "seconds", and with
        validation data the "validation_loss".
      parameters: of encoder and generator after it.
      statistics: their running averages.
    """

    number: int
    metrics: dict[str, float]
    parameters: Parameters
    statistics: Statistics


class TrainedParts(NamedTuple):
    """A model and what training made of it.

    Attributes:
      model: as it was given.
      parameters: of encoder and generator; a dictionary is `parameters.generator`, [K, D].
      statistics: their running averages.
      metrics: of each epoch, [epochs], by the names that `Epoch.metrics` has.
    """

    model: Model
    parameters: Parameters
    statistics: Statistics
    metrics: dict[str, Float[np.ndarray, " E"]]

    def infer(self, data: Shaped[np.ndarray, "N D"], seed: int = 0) -> Inferred:
        """Codes of data, their divergence, squared error and validation loss, on the host.

        Args:
          data: as the model was trained on.
          seed: of the draws.
        """
        infer = make_infer(self.model, CHUNK)
        return infer(self.parameters, self.statistics, data, inference_key(seed))


def train(
    model: Model,
    data: Shaped[Any, "N D"] | Dataset,
    *,
    optimizer: optax.GradientTransformation | None = None,
    num_epochs: int = 20,
    batch_size: int = 128,
    key: Key[Array, ""] | None = None,
    callback: Callable[[Epoch], bool | None] | None = None,
    workdir: str | os.PathLike[str] | None = None,
) -> TrainedParts:
    """Trains a model of any encoder, generator and posterior, on all devices of this process.

    The steps are those of a run, compiled epoch by epoch (`jvsc.training`), with the data on the
    device where they fit and streamed where they do not.

    Args:
      model: such as `Variational(generator, posterior, encoder)`, of jvsc's parts or one's own.
      data: a matrix, of bytes that stand for [0, 1] or of real numbers, which become float32; or a
        `Dataset`, whose validation data are then inferred after every epoch.
      optimizer: of all parameters; by default Adam, with one cycle of its learning rate up to 1e-3.
      num_epochs: passes over the data.
      batch_size: B, of all devices together; what is left of an epoch's data waits for the next.
      key: of the start, the order of the data and the draws; `jax.random.key(0)` by default.
      callback: called after every epoch; a true answer ends the training there.
      workdir: where a checkpoint is kept after every epoch. The same call goes on from the newest
        one, to the numbers that it would have given uninterrupted.

    Returns:
      The model with its parameters and statistics, and the metrics of all epochs.

    Raises:
      UserError: for data that do not serve, parts that do not fit one another or the data, a batch
        that data or devices do not fill, or a workdir that is not of such a training.
      DivergenceError: if a loss becomes non-finite.
    """
    dataset = as_dataset(data)
    num_data = len(dataset.train)
    if not 1 <= batch_size <= num_data:
        raise UserError(
            f"batch_size is {batch_size}, but data are {num_data}; give 1 to {num_data}"
        )
    if isinstance(model, Variational):
        check_parts(model, dataset.train.shape[1])
    if optimizer is None:
        optimizer = optax.adam(one_cycle(LEARNING_RATE, num_epochs * (num_data // batch_size)))
    key = jax.random.key(0) if key is None else key
    state, feed = _start(model, dataset, optimizer, batch_size, key)
    rows: list[dict[str, float]] = []
    with ExitStack() as stack:
        checkpoints = None
        if workdir is not None:
            checkpoints = _open(stack, user_path(workdir, "workdir"))
            restored = checkpoints.restore_newest(state, print)
            if restored is not None:
                state, rows = restored.state, restored.position["metrics"]
                if restored.position["stream"]:
                    feed.seek(restored.position["stream"])
        validate = _make_validation_loss(model, dataset.validation)
        while len(rows) < num_epochs:
            state, row = _train_epoch(feed, state, len(rows))
            variables = seed_variables(state, 0)
            row |= validate(*variables)
            rows.append(row)
            if checkpoints is not None:
                position = {"stream": feed.position(), "metrics": rows}
                checkpoints.save(len(rows), state, row.get("validation_loss"), position)
            if callback is not None and callback(Epoch(len(rows), row, *variables)):
                break
    metrics = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return TrainedParts(model, *seed_variables(state, 0), metrics)


def _start(
    model: Model,
    dataset: Dataset,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    key: Key[Array, ""],
) -> tuple[TrainState, Feed]:
    """The state before the first step, with an axis of one seed, and the epochs with their data."""
    mesh = make_mesh()
    state = jax.jit(jax.vmap(partial(init_state, model=model, optimizer=optimizer)))(key[None])
    state = replicate(state, mesh)
    prepare = make_prepare(dataset.shape, dataset.mirrored)
    arguments = (dataset.train, model.loss, optimizer, batch_size, prepare, mesh)
    if fits_on_device(dataset.train, MEMORY_SHARE):
        return state, resident_feed(*arguments)
    return state, streamed_feed(*arguments, keys=state.key)


def _train_epoch(feed: Feed, state: TrainState, done: int) -> tuple[TrainState, dict[str, float]]:
    """State and metrics after an epoch.

    Raises:
      DivergenceError: if its loss is not finite.
    """
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(feed.run_epoch(state))
    seconds = time.perf_counter() - start
    diverged = find_divergence(metrics, state.parameters, (0,), done * feed.num_steps)
    if diverged:
        raise DivergenceError(
            f"the loss is not finite at step {diverged[0]['step']}, in its "
            f"{' and '.join(diverged[0]['terms'])}; lower the optimizer's learning rate"
        )
    means = epoch_row(done + 1, metrics, seconds)
    return state, {name: means[name][0] for name in metrics._fields} | {"seconds": seconds}


def _make_validation_loss(
    model: Model, data: Shaped[np.ndarray, "M D"]
) -> Callable[[Parameters, Statistics], dict[str, float]]:
    """The validation loss by its name; nothing where there are no such data."""
    losses = make_validate(model, CHUNK)

    def validate(parameters: Parameters, statistics: Statistics) -> dict[str, float]:
        if not len(data):
            return {}
        datum_losses = losses(parameters, statistics, data, inference_key(0))
        return {"validation_loss": float(np.mean(datum_losses))}

    return validate


def as_dataset(data: Any) -> Dataset:
    """A matrix as training data alone; a data set as it is.

    Raises:
      UserError: if it is no matrix of finite real numbers.
    """
    if isinstance(data, Dataset):
        return data
    rows = np.asarray(data)
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise UserError(
            f"data has shape {rows.shape} and type {rows.dtype}; give real numbers [N, D], one "
            "datum a row"
        )
    if rows.dtype != np.uint8:
        rows = rows.astype(np.float32)
        if not np.isfinite(rows).all():
            raise UserError("data hold NaN or infinity; leave such rows out")
    return Dataset(rows, rows[:0], rows.shape[1:], "a matrix")


def check_parts(model: Variational, num_features: int) -> None:
    """Looks whether encoder, posterior and generator fit one another and the data, by shapes alone.

    Raises:
      UserError: if the encoder lacks a head of the posterior or gives it another shape, or the
        generator makes other data than are given.
    """
    names = model.posterior.heads

    def check(key: Key[Array, ""], data: Float[Array, "B D"]) -> None:
        variables = initial_variables(key, model)
        heads, _ = model.heads(*variables, data)
        missing = [name for name in names if name not in heads]
        if missing:
            raise UserError(
                f"the encoder gives the heads {', '.join(heads) or 'none'}, but the posterior also "
                f"reads {', '.join(missing)}; let the encoder give {', '.join(names)}"
            )
        shapes = {name: heads[name].shape for name in names}
        if len(set(shapes.values())) > 1 or any(len(x) != 2 or x[0] != 2 for x in shapes.values()):
            raise UserError(
                f"of 2 data the encoder's heads have the shapes {shapes}; give [2, K] each"
            )
        generated, _ = model.generate(*variables, jnp.zeros_like(heads[names[0]]))
        if generated.shape != data.shape:
            raise UserError(
                f"of 2 codes the generator makes data of shape {generated.shape}, but the data "
                f"have {num_features} columns; let it make [2, {num_features}]"
            )

    example = jax.ShapeDtypeStruct((2, num_features), jnp.float32)
    jax.eval_shape(check, jax.random.key(0), example)


def _open(stack: ExitStack, workdir: Path) -> Checkpoints:
    """The checkpoints of a training, which this process holds alone."""
    if (workdir / CONFIG_FILE).exists():
        raise UserError(
            f"{workdir} holds a run of the jvsc command; give another folder", "workdir"
        )
    make_workdir(workdir)
    stack.enter_context(locked_workdir(workdir))
    return stack.enter_context(open_checkpoints(workdir))
