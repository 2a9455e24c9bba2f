"""Codes of a data set under a trained model, in chunks of one compiled size."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, Shaped

from jvsc.data.pixels import as_float
from jvsc.model.model import Inference, Model
from jvsc.model.objective import squared_error
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.sampling import datum_keys

# Apart from the tags that make a training's keys, so that evaluation shares no draw with it.
_INFERENCE = 2


def inference_key(seed: int) -> Key[Array, ""]:
    """The key of all samples that an evaluation draws."""
    return jax.random.fold_in(jax.random.key(seed), _INFERENCE)


def in_chunks(
    function: Callable,
    data: Shaped[np.ndarray, "N D"],
    chunk: int,
    first: int = 0,
    filled_to: int | None = None,
) -> tuple[np.ndarray, ...]:
    """Applies `function(chunk of data, place of its first datum)` and joins the results.

    The last chunk is filled up with its first datum, so that one compilation serves all, and the
    results of the filling are cut off.

    Args:
      function: returns a tuple of arrays, each with one row a datum.
      data: N rows.
      chunk: rows at once.
      first: place of the data's first row in the whole data set.
      filled_to: rows that each call gets; by default a chunk, or N if that is less.

    Returns:
      The tuple's arrays on the host, N rows each.
    """
    parts = []
    size = filled_to or min(chunk, len(data))
    for start in range(0, len(data), chunk):
        rows = data[start : start + chunk]
        filled = np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])
        outputs = function(jnp.asarray(filled), first + start)
        parts.append([np.asarray(output)[: len(rows)] for output in outputs])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


class Inferred(NamedTuple):
    """Codes and losses of data, on the host.

    Attributes:
      codes: [N, K].
      kl: of each datum's posterior, latent by latent, [N, K]; None without a posterior.
      squared_error: mean over the pixels, [N].
      validation_loss: per-datum terms of the validation loss, [N].
    """

    codes: Float[np.ndarray, "N K"]
    kl: Float[np.ndarray, "N K"] | None
    squared_error: Float[np.ndarray, " N"]
    validation_loss: Float[np.ndarray, " N"]


# (parameters, statistics, data, key) -> codes and losses of all data
Infer = Callable[[Parameters, Statistics, Shaped[np.ndarray, "N D"], Key[Array, ""]], Inferred]
# (parameters, statistics, data, key, place of the first datum) -> what is inferred of some
InferChunk = Callable[
    [Parameters, Statistics, Shaped[Array, "B D"], Key[Array, ""], ArrayLike], Inference
]


def make_infer_chunk(model: Model) -> InferChunk:
    """The inference of one chunk of a data set, not compiled; bytes become floats.

    A datum's draws follow from the data set's key and the datum's place alone.
    """

    def infer_chunk(
        parameters: Parameters,
        statistics: Statistics,
        data: Shaped[Array, "B D"],
        key: Key[Array, ""],
        first: ArrayLike,
    ) -> Inference:
        keys = datum_keys(key, data.shape[0], first)
        return model.infer(parameters, statistics, as_float(data), keys)

    return infer_chunk


def make_infer(model: Model, chunk: int, infer_chunk: InferChunk | None = None) -> Infer:
    """Compiles the inference of a method.

    Args:
      model: the method.
      chunk: data at once.
      infer_chunk: its codes by a program of one's own; by default `make_infer_chunk`'s, compiled.
    """
    infer_chunk = infer_chunk or jax.jit(make_infer_chunk(model))
    measure = jax.jit(partial(_measure, model))

    def of_chunk(parameters, statistics, data, key, first):
        inferred = infer_chunk(parameters, statistics, data, key, first)
        measured = measure(parameters, statistics, data, inferred)
        return inferred.codes, *measured, *(() if inferred.kl is None else (inferred.kl,))

    infer_all = over_data(of_chunk, chunk)

    def infer(*data: Any) -> Inferred:
        codes, error, loss, *kl = infer_all(*data)
        return Inferred(codes, kl[0] if kl else None, error, loss)

    return infer


def make_validate(
    model: Model, chunk: int, infer_chunk: InferChunk | None = None
) -> Callable[..., Float[np.ndarray, " N"]]:
    """Compiles the validation loss of each datum; codes are inferred on the device and stay there.

    Args:
      model: the method.
      chunk: data at once.
      infer_chunk: its codes by a program of one's own; by default compiled with the loss.

    Returns:
      `(parameters, statistics, data [N, D], key) -> losses [N]`.
    """
    infer = infer_chunk or make_infer_chunk(model)
    measure = jax.jit(partial(_measure, model))

    def of_chunk(parameters, statistics, data, key, first):
        inferred = infer(parameters, statistics, data, key, first)
        return measure(parameters, statistics, data, inferred)[1:]

    losses_of_all = over_data(of_chunk if infer_chunk else jax.jit(of_chunk), chunk)
    return lambda *data: losses_of_all(*data)[0]


def _measure(
    model: Model,
    parameters: Parameters,
    statistics: Statistics,
    data: Shaped[Array, "B D"],
    inferred: Inference,
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Squared error per pixel and validation loss of each datum, to full precision."""
    data = as_float(data)
    with jax.default_matmul_precision("highest"):
        reconstruction, _ = model.generator.apply(
            parameters.generator, statistics.generator, inferred.codes, False
        )
    losses = model.validation_loss(statistics, data, reconstruction, inferred)
    return squared_error(data, reconstruction), losses


def over_data(
    infer_chunk: Callable[..., tuple[Any, ...]], chunk: int
) -> Callable[..., tuple[np.ndarray, ...]]:
    """`(parameters, statistics, data [N, D], key)` -> what `infer_chunk` gives, of all data.

    Args:
      infer_chunk: of parameters, statistics, some data, key and the place of the first of them.
      chunk: data at once.
    """

    def infer(
        parameters: Parameters,
        statistics: Statistics,
        data: Shaped[np.ndarray, "N D"],
        key: Key[Array, ""],
    ) -> tuple[np.ndarray, ...]:
        return in_chunks(
            lambda rows, first: infer_chunk(parameters, statistics, rows, key, first), data, chunk
        )

    return infer
