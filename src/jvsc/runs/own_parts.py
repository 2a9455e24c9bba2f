"""Training from Python: parts of one's own and any matrix, without settings or a command."""

import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
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
from jvsc.runs.allowed import LARGEST_SEED
from jvsc.runs.checkpoint import Checkpoints, open_checkpoints
from jvsc.runs.divergence import find_divergence
from jvsc.runs.loop import epoch_row
from jvsc.runs.part_checks import check_arguments, check_parts, check_step
from jvsc.runs.repeated_call import call_record, check_repeated
from jvsc.runs.restore import seed_variables
from jvsc.runs.stored_parts import read_parts, write_parts
from jvsc.runs.workdir import CONFIG_FILE, locked_workdir, make_workdir
from jvsc.solvers.problem import as_real, whole_number
from jvsc.training.batches import make_prepare
from jvsc.training.feed import Feed, Matrix, fits_on_device, resident_feed, streamed_feed
from jvsc.training.mesh import make_mesh, replicate
from jvsc.training.schedules import one_cycle
from jvsc.training.state import TrainState, init_state

LEARNING_RATE = 1e-3
# Data inferred at once, and the share of a device's memory that training data may take.
CHUNK, MEMORY_SHARE = 1000, 0.5
# As many as int32 counts.
MOST_STEPS = 2**31 - 1


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
      num_features: D.
    """

    model: Model
    parameters: Parameters
    statistics: Statistics
    metrics: dict[str, Float[np.ndarray, " E"]]
    num_features: int

    def infer(self, data: Shaped[np.ndarray, "N D"], seed: int = 0) -> Inferred:
        """Codes of data, their divergence, squared error and validation loss, on the host.

        Args:
          data: as the model was trained on.
          seed: of the draws.

        Raises:
          UserError: for data or a seed that do not serve.
        """
        rows = as_matrix(data, self.num_features)
        if whole_number(seed, "seed") >= LARGEST_SEED:
            raise UserError(f"seed is {seed}; give one below 2^63")
        infer = make_infer(self.model, CHUNK)
        return infer(self.parameters, self.statistics, rows, inference_key(seed))

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes what was trained, not the model's functions; `jvsc.load_parts` reads it.

        Args:
          file: a .safetensors file that is not there yet.

        Raises:
          UserError: if it is there, has another ending, or cannot be written.
        """
        variables = self.parameters, self.statistics
        write_parts(variables, self.metrics, self.num_features, user_path(file, "file"))


def load_parts(model: Model, file: str | os.PathLike[str]) -> TrainedParts:
    """What `jvsc.train` gave and `TrainedParts.save` wrote.

    Args:
      model: of the parts that were trained.
      file: where.

    Raises:
      UserError: if the file cannot be read, or its arrays are not the model's.
    """
    variables, metrics, num_features = read_parts(model, user_path(file, "file"))
    return TrainedParts(model, *variables, metrics, num_features)


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
      callback: called after every epoch; a true answer ends the training there. It is no part of
        what a workdir holds: the same call again goes on after it.
      workdir: where a checkpoint is kept after every epoch. The same call goes on from the newest
        one, to the numbers that it would have given uninterrupted; one with more epochs goes on at
        the rate that its own optimizer has there.

    Returns:
      The model with its parameters and statistics, and the metrics of all epochs.

    Raises:
      UserError: for data that do not serve, parts that do not fit one another or the data, a batch
        that data or devices do not fill, or a workdir of another call.
      DivergenceError: if a loss becomes non-finite.
    """
    check_arguments(model, optimizer, callback, key)
    dataset = as_dataset(data)
    num_features = dataset.train.shape[1]
    num_epochs, batch_size, num_steps = _counts(num_epochs, batch_size, len(dataset.train))
    if isinstance(model, Variational):
        check_parts(model, num_features, batch_size)
    if optimizer is None:
        optimizer = optax.adam(one_cycle(LEARNING_RATE, num_epochs * num_steps))
    check_step(model, optimizer, batch_size, num_features)
    key = jax.random.key(0) if key is None else key
    state, feed = _start(model, dataset, optimizer, batch_size, key)
    rows: list[dict[str, float]] = []
    call: dict[str, Any] = {}
    with ExitStack() as stack:
        checkpoints = None
        if workdir is not None:
            folder = user_path(workdir, "workdir")
            checkpoints = _open(stack, folder)
            call = call_record(model, dataset, batch_size, key)
            restored = checkpoints.restore_newest(state, print)
            if restored is not None:
                stored = restored.position.get("call", {})
                check_repeated(stored, call, restored.epoch, num_epochs, folder)
                state, rows = restored.state, restored.position["metrics"]
                feed.seek(len(rows) * num_steps)
        validate = _make_validation_loss(model, dataset.validation)
        while len(rows) < num_epochs:
            state, row = _train_epoch(feed, state, len(rows))
            variables = seed_variables(state, 0)
            row |= validate(*variables)
            rows.append(row)
            if checkpoints is not None:
                position = {"metrics": rows, "call": call}
                checkpoints.save(len(rows), state, row.get("validation_loss"), position)
            if callback is not None and callback(Epoch(len(rows), dict(row), *variables)):
                break
    metrics = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return TrainedParts(model, *seed_variables(state, 0), metrics, num_features)


def _counts(num_epochs: Any, batch_size: Any, num_data: int) -> tuple[int, int, int]:
    """Epochs, data of a step, and steps of an epoch.

    Raises:
      UserError: if they are no such numbers.
    """
    num_epochs = whole_number(num_epochs, "num_epochs")
    batch_size = whole_number(batch_size, "batch_size", 1)
    if batch_size > num_data:
        raise UserError(
            f"batch_size is {batch_size}, but data are {num_data}; give 1 to {num_data}"
        )
    num_steps = num_data // batch_size
    if num_epochs > MOST_STEPS // num_steps:
        raise UserError(f"num_epochs is {num_epochs}; give at most {MOST_STEPS // num_steps}")
    return num_epochs, batch_size, num_steps


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
        step, terms = diverged[0]["step"], " and ".join(diverged[0]["terms"])
        remedy = "lower the optimizer's learning rate"
        if step == 0 and terms != "gradient":
            remedy = "look whether the model's parts give finite numbers at their start"
        raise DivergenceError(f"the loss is not finite at step {step}, in its {terms}; {remedy}")
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
      UserError: if it is no matrix of finite real numbers, or the data set's splits do not fit.
    """
    if isinstance(data, Dataset):
        train, validation = map(_in_native_order, (data.train, data.validation))
        data = data._replace(train=train, validation=validation)
        _check_split(data.train, "train")
        _check_split(data.validation, "validation", data.train.shape[1])
        is_image = len(data.shape) > 1 and math.prod(data.shape) == data.train.shape[1]
        if data.mirrored and not is_image:
            raise UserError(
                f"data are mirrored, but their shape {data.shape} is no image's of "
                f"{data.train.shape[1]} numbers; give (H, W), or mirrored=False"
            )
        return data
    rows = as_matrix(data)
    return Dataset(rows, rows[:0], rows.shape[1:], "a matrix")


def _in_native_order(rows: Any) -> Any:
    """An array in this machine's byte order, which JAX takes; others as they are."""
    if isinstance(rows, np.ndarray) and not rows.dtype.isnative:
        return rows.astype(rows.dtype.newbyteorder("="))
    return rows


def as_matrix(data: Any, num_features: int | None = None) -> Shaped[np.ndarray, "N D"]:
    """A matrix of float32, or of bytes that stand for [0, 1].

    Args:
      data: numbers of any type.
      num_features: D, where it is given.

    Raises:
      UserError: if it is no such matrix, or its numbers are not finite.
    """
    rows = np.asarray(as_real(data, "data"))
    if rows.ndim != 2 or 0 in rows.shape or num_features not in (None, rows.shape[1]):
        wanted = "[N, D]" if num_features is None else f"[N, {num_features}]"
        raise UserError(f"data has shape {rows.shape}; give real numbers {wanted}, one datum a row")
    if rows.dtype == np.uint8:
        return rows
    with np.errstate(over="ignore"):
        converted = rows.astype(np.float32)
    if not np.isfinite(converted).all():
        if np.isfinite(rows.astype(np.float64)).all():
            raise UserError("data hold numbers beyond float32's 3e38; scale them")
        raise UserError("data hold NaN or infinity; leave such rows out")
    if rows.any() and not converted.any():
        raise UserError("data hold only numbers below float32's 1e-45; scale them")
    return converted


def _check_split(rows: Any, name: str, num_features: int | None = None) -> None:
    """Refuses data of a data set that no training can take; those not in memory are not read."""
    shape = rows.shape if isinstance(rows, Matrix) else ()
    if len(shape) != 2 or num_features not in (None, shape[1]) or not shape[1]:
        wanted = "[N, D]" if num_features is None else f"[M, {num_features}]"
        raise UserError(f"the data set's {name} has shape {shape}; give an array {wanted}")
    kind = np.dtype(getattr(rows, "dtype", np.float32))
    if kind != np.uint8 and kind.kind != "f":
        raise UserError(
            f"the data set's {name} is of type {kind}; give float32, or uint8 that stands for "
            "[0, 1]"
        )
    if type(rows) is np.ndarray and kind.kind == "f" and not np.isfinite(rows).all():
        raise UserError(f"the data set's {name} holds NaN or infinity; leave such rows out")


def _open(stack: ExitStack, workdir: Path) -> Checkpoints:
    """The checkpoints of a training, which this process holds alone."""
    if (workdir / CONFIG_FILE).exists():
        raise UserError(
            f"{workdir} holds a run of the jvsc command; give another folder", "workdir"
        )
    make_workdir(workdir)
    stack.enter_context(locked_workdir(workdir))
    return stack.enter_context(open_checkpoints(workdir))
