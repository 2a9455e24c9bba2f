"""A training step of the linear model, against PyTorch's, and of three seeds against one."""

import itertools

import torch

from benchmarks.ceiling import dense_flops
from benchmarks.pytorch_linear import make_model, make_step
from benchmarks.steps import compare_steps
from benchmarks.timing import compare
from benchmarks.workload import Comparison, pytorch_device, training_steps

BATCH_SIZE, NUM_FEATURES, NUM_LATENTS = 100, 256, 256
OUR_STEPS, THEIR_STEPS = 64, 16
CONFIG = "patches.py:thresholded_laplacian"
HIDDEN = (256, 512, 1024, 512, 256)


def flops(num_samples: int) -> float:
    """Operations of a step's matrix products: encoder and dictionary, forward and back."""
    pairs = [*itertools.pairwise(HIDDEN), (HIDDEN[-1], 2 * NUM_LATENTS)]
    forward = sum(dense_flops(BATCH_SIZE, *pair) for pair in pairs)
    first = dense_flops(BATCH_SIZE, *pairs[0])  # the data need no gradient
    draw = dense_flops(BATCH_SIZE, NUM_LATENTS, NUM_FEATURES)
    scoring = num_samples * draw if num_samples > 1 else 0
    return 3 * forward - first + 3 * draw + scoring


def measure() -> list[Comparison]:
    """J = 1 and J = 20 against PyTorch, and three seeds in one program against one."""
    return [
        *_against_pytorch(num_samples=1, target=2.4),
        *_against_pytorch(num_samples=20, target=3.3),
        _three_seeds(),
    ]


def _against_pytorch(num_samples: int, target: float) -> list[Comparison]:
    data = torch.randn(4096, NUM_FEATURES, device=pytorch_device())
    overrides = {"batch_size": BATCH_SIZE, "num_samples": num_samples}
    peers = {}
    for name, compiled in (("PyTorch", False), ("PyTorch, compiled", True)):
        model = make_model(num_latents=NUM_LATENTS, num_samples=num_samples)
        peers[name] = make_step(data, BATCH_SIZE, model, compiled)
    return compare_steps(
        f"linear step, batch {BATCH_SIZE}, J={num_samples}",
        training_steps(CONFIG, overrides, (NUM_FEATURES,), OUR_STEPS),
        OUR_STEPS,
        peers,
        THEIR_STEPS,
        target,
        flops(num_samples),
    )


def _three_seeds() -> Comparison:
    overrides = {"batch_size": BATCH_SIZE, "num_samples": 1}
    times = compare(
        {
            seeds: training_steps(CONFIG, overrides | {"seeds": seeds}, (NUM_FEATURES,), OUR_STEPS)
            for seeds in ("(0,1,2)", "(0,)")
        }
    )
    three, one = times["(0,1,2)"], times["(0,)"]
    return Comparison(
        workload="linear step, J=1, three seeds at once",
        opponent="one seed",
        ours=1e3 * three.median / OUR_STEPS,
        theirs=1e3 * one.median / OUR_STEPS,
        unit="ms",
        ours_first=three.first,
        # A GPU has room for three.
        target=2.6 if pytorch_device() == "cpu" else 1.2,
        at_most=True,
    )
