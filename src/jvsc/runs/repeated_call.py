"""Whether `jvsc.train` goes on with what its workdir was made by."""

import hashlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from jvsc.data.dataset import Dataset
from jvsc.errors import UserError
from jvsc.model.model import Model


def call_record(
    model: Model, dataset: Dataset, batch_size: int, key: Key[Array, ""]
) -> dict[str, Any]:
    """What a training is known again by, as JSON holds it.

    Functions are not compared: of a model its numbers, names and families are, and the optimizer,
    which is made of functions, is not.

    Args:
      model: what is trained.
      dataset: what by; of data that are in memory every number counts.
      batch_size: B.
      key: of the training.
    """
    record: dict[str, Any] = {"model": type(model).__name__}
    if is_dataclass(model):
        values = {field.name: getattr(model, field.name) for field in fields(model)}
        record |= {name: _described(value) for name, value in values.items()}
    record["batch_size"] = batch_size
    record["data"] = str(list(dataset.train.shape))
    if type(dataset.train) is np.ndarray:
        contents = np.ascontiguousarray(dataset.train)
        record["digest of data"] = hashlib.sha256(contents.data).hexdigest()[:16]
    record["key"] = str(np.asarray(jax.random.key_data(key)).tolist())
    return {name: value for name, value in record.items() if value is not None}


def _described(value: Any) -> bool | int | float | str | None:
    """A number or a name as it is, a family of constants by its text; None of all else."""
    if isinstance(value, bool | int | float | str):
        return value
    text = repr(value) if is_dataclass(value) else None
    return None if text is None or " at 0x" in text else text


def check_repeated(
    stored: dict[str, Any], given: dict[str, Any], done: int, num_epochs: int, workdir: Path
) -> None:
    """Refuses to go on with another call's training.

    Args:
      stored: record of the call that the checkpoint is of; empty of an earlier version's.
      given: record of this one.
      done: epochs of the checkpoint.
      num_epochs: wanted ones.
      workdir: where it is.

    Raises:
      UserError: saying what differs.
    """
    remedy = "repeat that call, or give another workdir"
    for name in {**stored, **given} if stored else ():
        before, now = stored.get(name, "nothing"), given.get(name, "nothing")
        if before != now:
            raise UserError(
                f"{workdir} holds a training whose {name} is {before}, not {now}; {remedy}",
                "workdir",
            )
    if done > num_epochs:
        raise UserError(
            f"{workdir} holds {done} epochs, but num_epochs is {num_epochs}; {remedy}", "workdir"
        )
