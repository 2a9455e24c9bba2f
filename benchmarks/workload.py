"""What a workload reports, and jvsc's own training step as one."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.datasets import load_digits

from jvsc.runs.commandline import bundled_config, parse
from jvsc.runs.config import Config
from jvsc.runs.factories import build_dataset, build_model, build_optimizer
from jvsc.training.batches import make_prepare
from jvsc.training.feed import Feed, resident_feed
from jvsc.training.mesh import DATA_AXIS, make_mesh, replicate
from jvsc.training.state import TrainState, init_states


class Comparison(NamedTuple):
    """jvsc against one opponent in one workload.

    Attributes:
      workload: what was computed.
      opponent: by what else.
      ours: jvsc's median, in `unit`.
      theirs: the opponent's.
      unit: of both.
      ours_first: jvsc's first call in seconds, compiling included; None where nothing is called.
      target: the ratio that is asked for; None where none is.
      note: what a reader must know to judge it.
      ceiling_share: jvsc's share of the device's rate of large matrix products, from counted
        operations; None where it was not counted.
      at_most: whether the target is a limit to ours / theirs, and not a factor theirs / ours to
        reach.
    """

    workload: str
    opponent: str
    ours: float
    theirs: float
    unit: str
    ours_first: float | None
    target: float | None
    note: str = ""
    ceiling_share: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float:
        """How many times jvsc's figure the opponent's is; the other way where there is a limit."""
        return self.ours / self.theirs if self.at_most else self.theirs / self.ours

    @property
    def reached(self) -> bool | None:
        """Whether the ratio is what the target asks for; None where there is none."""
        if self.target is None:
            return None
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


def patches() -> tuple[np.ndarray, np.ndarray]:
    """Training and validation patches [N, 256]: of JVSC_IMAGES, else of the bundled photographs."""
    images = os.environ.get("JVSC_IMAGES", "")
    dataset = build_dataset(settings("patches.py:fista", {"data.path": images}))
    return np.asarray(dataset.train), dataset.validation


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits [N, 64] in an order of chance: 1,400 to learn from, 397 held out."""
    rows = np.random.default_rng(0).permutation(np.asarray(load_digits(return_X_y=True)[0]))
    return rows[:1400], rows[1400:]


def settings(config_file: str, overrides: dict[str, Any]) -> Config:
    """The settings of a config file, such as "patches.py:fista", but for dotted `overrides`."""
    name, _, method = config_file.partition(":")
    return parse(
        [
            f"--config={bundled_config(name)}:{method}",
            "--workdir=unused",
            *(f"--config.{key}={value}" for key, value in overrides.items() if value != ""),
        ]
    ).config


def linear_config(**overrides: Any) -> Config:
    """The paper's Thresholded Laplacian on patches, but for `overrides`."""
    return settings("patches.py:thresholded_laplacian", {"seeds": "(0,)", **overrides})


def pytorch_device() -> str:
    """PyTorch's name of the kind of device that JAX computes on, with JAX's precision there."""
    if jax.default_backend() != "gpu":
        return "cpu"
    import torch  # which the page of results does not need

    torch.set_float32_matmul_precision("high")  # TensorFloat-32
    return "cuda"


def training_program(
    config_file: str,
    overrides: dict[str, Any],
    shape: tuple[int, ...],
    num_steps: int,
    mirrored: bool = False,
) -> tuple[Feed, TrainState]:
    """Epochs of `num_steps` training steps on random data that live on the device, and a state.

    Args:
      config_file: of configs/, with its method, such as "fmnist.py:thresholded_gaussian".
      overrides: dotted settings that differ from it.
      shape: of one datum; three dimensions are images stored as bytes.
      num_steps: steps of one call.
      mirrored: whether images are mirrored at random.
    """
    num_train = int(overrides["batch_size"]) * num_steps
    config = settings(config_file, {"seeds": "(0,)", **overrides, "data.num_train": num_train})
    size = int(np.prod(shape))
    random = np.random.default_rng(0)
    if len(shape) == 3:
        data = random.integers(0, 256, (num_train, size), dtype=np.uint8)
    else:
        data = random.normal(size=(num_train, size)).astype(np.float32)
    mesh = make_mesh()
    model = build_model(config, size, DATA_AXIS)
    optimizer = build_optimizer(config, num_steps)
    feed = resident_feed(
        data,
        model.loss,
        optimizer,
        config.batch_size,
        make_prepare(shape, mirrored),
        mesh,
    )
    state = replicate(init_states(config.seeds, model, optimizer), mesh)
    return feed, state


def training_steps(
    config_file: str,
    overrides: dict[str, Any],
    shape: tuple[int, ...],
    num_steps: int,
    mirrored: bool = False,
) -> Callable[[], Any]:
    """An epoch of `training_program` as a call.

    Returns:
      A call that trains on from where the last one ended and returns the steps' metrics.
    """
    feed, state = training_program(config_file, overrides, shape, num_steps, mirrored)

    def run() -> Any:
        nonlocal state
        state, metrics = feed.run_epoch(state)
        return jax.block_until_ready(metrics)

    return run
