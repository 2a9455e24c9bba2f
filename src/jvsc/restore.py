"""A finished run's model and parameters, out of its newest checkpoint."""

from pathlib import Path

import jax

from jvsc.build import build_model, build_optimizer
from jvsc.checkpoint import open_checkpoints
from jvsc.config import Config
from jvsc.errors import UserError
from jvsc.model import Model, Parameters, Statistics
from jvsc.parallel import on_one_device
from jvsc.state import TrainState, init_states


def seed_variables(state: TrainState, index: int) -> tuple[Parameters, Statistics]:
    """Parameters and statistics of one seed out of a state that holds several."""
    return jax.tree.map(lambda leaf: leaf[index], (state.parameters, state.statistics))


def restore_state(config: Config, workdir: Path, num_features: int) -> tuple[Model, TrainState]:
    """A run's model and its newest checkpoint.

    Raises:
      UserError: if the run has no checkpoint yet.
    """
    model = build_model(config, num_features)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    template = jax.eval_shape(lambda: init_states(config.seeds, model, optimizer))
    with open_checkpoints(workdir) as checkpoints:
        if checkpoints.latest is None:
            raise UserError(f"--workdir={workdir} has no checkpoint yet; train the run first")
        return model, checkpoints.restore(on_one_device(template), checkpoints.latest)
