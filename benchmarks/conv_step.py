"""One Fashion-MNIST training step of the conv model against PyTorch's."""

from functools import partial
from typing import Any

import torch

from benchmarks.pytorch_conv import make_step
from benchmarks.steps import compare_steps
from benchmarks.workload import Comparison, pytorch_device, training_steps

CONFIG, SHAPE = "fmnist.py:thresholded_gaussian", (28, 28, 1)
NUM_LATENTS, THRESHOLD = 64, 0.52
# A training is one program an epoch: many steps a call, as in use.
OUR_STEPS, THEIR_STEPS = 16, 2


def measure() -> list[Comparison]:
    """Batch 128 with one sample, and batch 64 with the best of twenty."""
    return [
        *_compare(batch_size=128, num_samples=1, target=1.2),
        *_compare(batch_size=64, num_samples=20, target=4.0),
    ]


def settings_of(batch_size: int, num_samples: int) -> dict[str, Any]:
    """What differs from the config file."""
    return {
        "batch_size": batch_size,
        "num_samples": num_samples,
        "num_latents": NUM_LATENTS,
        "threshold": THRESHOLD,
    }


def _compare(batch_size: int, num_samples: int, target: float) -> list[Comparison]:
    images = torch.rand(2048, 1, 28, 28, device=pytorch_device())
    build = partial(
        make_step,
        num_latents=NUM_LATENTS,
        batch_size=batch_size,
        num_samples=num_samples,
        threshold=THRESHOLD,
    )
    overrides = settings_of(batch_size, num_samples)
    peers = {
        "PyTorch": build(images),
        "PyTorch, channels last": build(images.to(memory_format=torch.channels_last)),
    }
    if num_samples > 1:
        peers["PyTorch, differentiates all J"] = build(images, select=False)
    return compare_steps(
        f"Fashion-MNIST conv step, batch {batch_size}, J={num_samples}",
        training_steps(CONFIG, overrides, SHAPE, OUR_STEPS),
        OUR_STEPS,
        peers,
        THEIR_STEPS,
        target,
    )
