"""Measures of 16,000 codes against what users have: pyitlib, a loop of backward passes, SciPy."""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from pyitlib import discrete_random_variable
from scipy.spatial.distance import jaccard

from benchmarks.pytorch_linear import make_model
from benchmarks.timing import compare, seconds_of
from benchmarks.workload import Comparison, linear_config
from jvsc.evaluation.dense_gradients import dense_gradient_snr
from jvsc.metrics import jaccard_consistency, multi_information
from jvsc.metrics.multi_information import digitise
from jvsc.model.variational import Variational
from jvsc.runs.factories import build_model

NUM_DATA, NUM_LATENTS, SHARE = 16_000, 256, 0.1
BATCH_SIZE, NUM_DRAWS, THEIR_DRAWS = 100, 1000, 100
NUM_CODES, THEIR_DATA, THEIR_CODES = 20, 50, 1000


def measure() -> list[Comparison]:
    """One row a measure."""
    random = np.random.default_rng(0)
    shape = (NUM_DATA, NUM_LATENTS)
    codes = random.laplace(0, 0.3, shape).astype(np.float32) * (random.random(shape) < SHARE)
    supports = random.random((NUM_CODES, *shape)) < SHARE
    return [_multi_information(codes), _gradient_snr(), _jaccard(supports)]


def _multi_information(codes: np.ndarray) -> Comparison:
    few = codes[:THEIR_CODES]
    digits = digitise(few)[0].T.astype(int)
    start = time.perf_counter()
    theirs = float(discrete_random_variable.information_multi(digits))
    seconds = NUM_DATA / THEIR_CODES * (time.perf_counter() - start)
    ours = compare({"jvsc": partial(multi_information, codes)})["jvsc"]
    return Comparison(
        "multi-information, 16,000 codes", "pyitlib", ours.median, seconds, "s", ours.first, 50.0,
        note=f"theirs from {THEIR_CODES} codes, once: {theirs:.4f} bits; ours of them "
        f"{multi_information(few):.4f}",
    )  # fmt: skip


def snr_of_draws() -> Callable[[], Any]:
    """The ratios of the linear model's parameters over `NUM_DRAWS` draws, as a call."""
    config = linear_config(num_samples=1)
    model = build_model(config, 256)
    parameters, _ = model.init(jax.random.key(0))
    data = jax.random.normal(jax.random.key(1), (BATCH_SIZE, 256))
    assert isinstance(model, Variational)
    keys = jax.random.split(jax.random.key(2), NUM_DRAWS)
    annealing = model.final_annealing
    ratios = jax.jit(lambda keys: dense_gradient_snr(model, parameters, data, keys, annealing))
    return lambda: ratios(keys)


def _gradient_snr() -> Comparison:
    opponent = make_model(num_latents=NUM_LATENTS, num_samples=1)
    batch = torch.randn(BATCH_SIZE, 256)
    ours = compare({"jvsc": snr_of_draws()})["jvsc"]
    theirs = NUM_DRAWS / THEIR_DRAWS * seconds_of(partial(_pytorch_snr, opponent, batch))
    return Comparison(
        f"gradient SNR, {NUM_DRAWS} draws", "a loop of PyTorch's backward passes",
        ours.median, theirs, "s", ours.first, 10.0, note=f"theirs from {THEIR_DRAWS} draws, once",
    )  # fmt: skip


def _pytorch_snr(model: torch.nn.Module, batch: torch.Tensor) -> list[torch.Tensor]:
    parameters = list(model.parameters())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(THEIR_DRAWS):
        for total, square, part in zip(
            sums, squares, torch.autograd.grad(model(batch), parameters), strict=True
        ):
            total += part
            square += part**2
    return [
        (total / THEIR_DRAWS).abs()
        / ((square / THEIR_DRAWS - (total / THEIR_DRAWS) ** 2).clamp_min(0).sqrt() + 1e-9)
        for total, square in zip(sums, squares, strict=True)
    ]


def _jaccard(supports: np.ndarray) -> Comparison:
    consistency = jax.jit(jaccard_consistency)
    on_device = jnp.asarray(supports)

    def chunked() -> list[jax.Array]:
        parts = np.split(np.arange(NUM_DATA), 16)
        return [consistency(on_device[:, part[0] : part[-1] + 1]) for part in parts]

    ours = compare({"jvsc": chunked})["jvsc"]
    few = supports[:, :THEIR_DATA]
    start = time.perf_counter()
    theirs = [
        np.mean([1 - jaccard(one, other) for one, other in itertools.combinations(datum, 2)])
        for datum in np.moveaxis(few, 1, 0)
    ]
    seconds = NUM_DATA / THEIR_DATA * (time.perf_counter() - start)
    agree = np.abs(np.asarray(consistency(jnp.asarray(few))) - theirs).max()
    return Comparison(
        f"Jaccard consistency, 16,000 data, {NUM_CODES} codes", "scipy.spatial.distance.jaccard",
        ours.median, seconds, "s", ours.first, 50.0,
        note=f"theirs from {THEIR_DATA} data, once; largest difference {agree:.0e}",
    )  # fmt: skip
