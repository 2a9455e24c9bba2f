"""What a workload reports, and jvsc's own training step as one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jvsc.batches import make_prepare
from jvsc.build import build_loss, build_model, build_optimizer
from jvsc.commandline import bundled_config, parse
from jvsc.feed import resident_feed
from jvsc.parallel import DATA_AXIS, make_mesh, replicate
from jvsc.state import init_states


class Comparison(NamedTuple):
    """jvsc against one opponent in one workload.

    Attributes:
      workload: what was computed.
      opponent: by what else.
      ours: jvsc's median, in `unit`.
      theirs: the opponent's.
      unit: of both.
      ours_first: jvsc's first call in seconds, compiling included.
      target: the ratio theirs / ours that is asked for; None where none is.
      note: what a reader must know to judge it.
    """

    workload: str
    opponent: str
    ours: float
    theirs: float
    unit: str
    ours_first: float
    target: float | None
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times the opponent's figure is jvsc's."""
        return self.theirs / self.ours


def training_steps(
    config_file: str, overrides: dict[str, Any], shape: tuple[int, ...], num_steps: int
) -> Callable[[], Any]:
    """An epoch of `num_steps` training steps on random data that live on the device.

    Args:
      config_file: of configs/, with its method, such as "fmnist.py:thresholded_gaussian".
      overrides: dotted settings that differ from it.
      shape: of one datum; three dimensions are images stored as bytes.
      num_steps: steps of one call.

    Returns:
      A call that trains on from where the last one ended and returns the steps' metrics.
    """
    name, _, method = config_file.partition(":")
    settings = {"seeds": "(0,)", **overrides}
    settings["data.num_train"] = int(settings["batch_size"]) * num_steps
    config = parse(
        [
            f"--config={bundled_config(name)}:{method}",
            "--workdir=unused",
            *(f"--config.{key}={value}" for key, value in settings.items()),
        ]
    ).config
    size = int(np.prod(shape))
    random = np.random.default_rng(0)
    if len(shape) == 3:
        data = random.integers(0, 256, (config.data.num_train, size), dtype=np.uint8)
    else:
        data = random.normal(size=(config.data.num_train, size)).astype(np.float32)
    mesh = make_mesh()
    model = build_model(config, size, DATA_AXIS)
    optimizer = build_optimizer(config, num_steps)
    feed = resident_feed(
        data,
        build_loss(config, model),
        optimizer,
        config.batch_size,
        make_prepare(shape, mirrored=False),
        mesh,
    )
    state = replicate(init_states(config.seeds, model, optimizer), mesh)

    def run() -> Any:
        nonlocal state
        state, metrics = feed.run_epoch(state)
        return jax.block_until_ready(metrics)

    return run
