"""Images per second of a CelebA training step in bfloat16, against PyTorch's mixed precision.

For a GPU, where all draws are scored at once; on a CPU a batch of 512 takes minutes.
"""

from functools import partial

import torch

from benchmarks.pytorch_conv import CELEBA, make_step
from benchmarks.steps import compare_steps
from benchmarks.workload import Comparison, pytorch_device, training_steps

CONFIG, SHAPE = "celeba.py:thresholded_gaussian", (64, 64, 3)
NUM_LATENTS, NUM_SAMPLES, BATCH_SIZE, NUM_IMAGES = 512, 10, 512, 4096
THRESHOLD, KL_WEIGHT = 0.52, 1e-3
STEPS = 16
TARGET = 1.5


def measure() -> list[Comparison]:
    """The best of ten draws of each of 512 images, mirrored at random."""
    shape = (NUM_IMAGES, *SHAPE[::-1])
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=pytorch_device())
    build = partial(
        make_step,
        images.to(memory_format=torch.channels_last),
        num_latents=NUM_LATENTS,
        batch_size=BATCH_SIZE,
        num_samples=NUM_SAMPLES,
        threshold=THRESHOLD,
        kl_weight=KL_WEIGHT,
        architecture=CELEBA,
        mirrored=True,
        mixed=True,
    )
    overrides = {
        "num_latents": NUM_LATENTS,
        "batch_size": BATCH_SIZE,
        "num_samples": NUM_SAMPLES,
        "sampling_chunk": NUM_SAMPLES,
        "threshold": THRESHOLD,
        "kl_weight": KL_WEIGHT,
        "compute_dtype": "bfloat16",
    }
    peers = {
        "PyTorch, AMP": build(compiled=False),
        "PyTorch, AMP, compiled": build(compiled=True),
    }
    return compare_steps(
        f"CelebA step, bfloat16, batch {BATCH_SIZE}, J={NUM_SAMPLES}",
        training_steps(CONFIG, overrides, SHAPE, STEPS, mirrored=True),
        STEPS,
        peers,
        STEPS,
        TARGET,
        images=BATCH_SIZE,
    )
