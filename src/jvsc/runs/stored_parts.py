"""What `jvsc.train` made of a model, as one file beside which the model's parts are given again."""

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
from jaxtyping import Float
from safetensors.numpy import save

from jvsc.data.atomic import replacing
from jvsc.errors import UserError
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics
from jvsc.runs.model_files import leaves_like, name_leaves, read_arrays, short_reason
from jvsc.training.state import initial_variables

SUFFIX = ".safetensors"
_METRICS = pydantic.TypeAdapter(dict[str, list[float]])
Variables = tuple[Parameters, Statistics]


def write_parts(
    variables: Variables, metrics: dict[str, Float[np.ndarray, " E"]], num_features: int, file: Path
) -> None:
    """Writes parameters and statistics, whole or not at all.

    Args:
      variables: both.
      metrics: of each epoch.
      num_features: D.
      file: a .safetensors file that is not there yet.

    Raises:
      UserError: if it is there, has another ending, or cannot be written.
    """
    if file.suffix != SUFFIX:
        raise UserError(f"{file}: give a {SUFFIX} file", "file")
    if file.exists() or file.is_symlink():
        raise UserError(f"{file} is there already; give another", "file")
    arrays = name_leaves(dict(zip(("parameters", "statistics"), variables, strict=True)))
    metadata = {
        "num_features": str(num_features),
        "metrics": json.dumps({name: values.tolist() for name, values in metrics.items()}),
        "jvsc": version("jvsc"),
    }
    content = save({name: np.asarray(leaf) for name, leaf in arrays.items()}, metadata)
    try:
        with replacing(file) as out:
            out.write(content)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}); give another") from None


def read_parts(
    model: Model, file: Path
) -> tuple[Variables, dict[str, Float[np.ndarray, " E"]], int]:
    """What `write_parts` wrote: parameters and statistics, metrics and D.

    Raises:
      UserError: if the file cannot be read, or its arrays are not the model's.
    """
    try:
        metadata, arrays = read_arrays(file)
        num_features = int(metadata["num_features"])
        metrics = _METRICS.validate_json(metadata["metrics"])
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = short_reason(error)
        raise UserError(f"{file} cannot be read ({reason}); give what save wrote") from None
    shapes = jax.eval_shape(partial(initial_variables, model=model), jax.random.key(0))
    like: dict[str, Any] = dict(zip(("parameters", "statistics"), shapes, strict=True))
    tree = leaves_like(arrays, like, file, "the model", "give the parts that were trained")
    variables = jax.tree.map(jnp.asarray, (tree["parameters"], tree["statistics"]))
    return variables, {name: np.array(values) for name, values in metrics.items()}, num_features
