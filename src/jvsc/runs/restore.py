"""A finished run's model and parameters, out of its newest checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from jvsc.errors import UserError
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics
from jvsc.runs.checkpoint import open_checkpoints
from jvsc.runs.config import Config
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.training.mesh import on_one_device
from jvsc.training.state import TrainState, init_states


def seed_variables(state: TrainState, index: int) -> tuple[Parameters, Statistics]:
    """Parameters and statistics of one seed out of a state that holds several.

    Of a state that several processes share, each gets them on its own device.
    """
    variables = (state.parameters, state.statistics)
    return jax.tree.map(lambda leaf: jnp.asarray(_on_one_process(leaf)[index]), variables)


def _on_one_process(leaf: jax.Array) -> Any:
    if leaf.is_fully_addressable:
        return leaf
    return np.asarray(leaf) if leaf.is_fully_replicated else process_allgather(leaf, tiled=True)


def restore_state(
    config: Config,
    workdir: Path,
    num_features: int,
    tell: Callable[[str], None] = print,
    reading: bool = False,
) -> tuple[Model, TrainState]:
    """A run's model and its newest checkpoint that is whole.

    Args:
      config: the run's settings.
      workdir: the run's.
      num_features: D.
      tell: is called with a message for each damaged checkpoint.
      reading: whether nothing in the workdir may change, not even for a damaged checkpoint.

    Raises:
      UserError: if the run has no checkpoint yet, or none that can be read.
    """
    model = build_model(config, num_features)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    template = jax.eval_shape(lambda: init_states(config.seeds, model, optimizer))
    with open_checkpoints(workdir, alone=True, reading=reading) as checkpoints:
        restored = checkpoints.restore_newest(on_one_device(template), tell)
        if restored is None:
            raise UserError(f"{workdir} has no checkpoint yet; train the run first", "workdir")
        return model, restored.state
