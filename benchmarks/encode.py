"""Codes of many data by the encoder against SPAMS, which solves for each datum."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import spams

from benchmarks.lasso import penalty_of
from benchmarks.timing import THREADS, compare
from benchmarks.workload import Comparison, linear_config
from jvsc.evaluation.inference import in_chunks, inference_key, make_infer_chunk
from jvsc.evaluation.nonzero_draws import make_nonzero_infer_chunk
from jvsc.model.thresholds import laplacian_threshold
from jvsc.model.variational import Variational
from jvsc.runs.factories import build_model

CHUNK = 1000


def measure() -> list[Comparison]:
    """Both sizes."""
    return [_compare(setting) for setting in SETTINGS]


class Setting(NamedTuple):
    """Sizes of a problem.

    Attributes:
      num_data: encoded.
      width: D.
      num_latents: K.
      num_samples: J.
      share: of non-zeros.
      few: data that SPAMS solves.
      target: the ratio that is asked for.
      nonzeros: whether non-zeros alone are drawn.
    """

    num_data: int
    width: int
    num_latents: int
    num_samples: int
    share: float
    few: int
    target: float
    nonzeros: bool


SETTINGS = (
    Setting(100_000, 256, 256, 1, 0.1, 16_000, 1.5, False),
    Setting(2_000, 768, 4096, 20, 100 / 4096, 1_000, 20.0, False),
    Setting(10_000, 768, 4096, 20, 100 / 4096, 1_000, 20.0, True),
)


class Problem(NamedTuple):
    """Data of sparse codes with noise, their dictionary, and an encoder near its prior."""

    data: np.ndarray
    dictionary: np.ndarray
    encode: Callable[[np.ndarray], Any]


def random_problem(setting: Setting) -> Problem:
    """Random atoms of norm 1, Laplacian codes, and noise of deviation 0.05."""
    num_data, width, num_latents, _, share, *_ = setting
    random = np.random.default_rng(0)
    dictionary = random.normal(size=(num_latents, width)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    chosen = random.random((num_data, num_latents)) < share
    codes = chosen * random.laplace(size=chosen.shape).astype(np.float32)
    data = codes @ dictionary + 0.05 * random.normal(size=(num_data, width)).astype(np.float32)
    return Problem(data, dictionary, _encoder(setting))


def _compare(setting: Setting) -> Comparison:
    num_data, width, num_latents, num_samples, share, few, target, nonzeros = setting
    data, dictionary, encode = random_problem(setting)
    penalty = penalty_of(share, data[:200], dictionary)
    columns, atoms = np.asfortranarray(data[:few].T), np.asfortranarray(dictionary.T)
    nonzero = np.mean(encode(data[:CHUNK])[0] != 0)
    times = compare(
        {
            "jvsc": partial(encode, data),
            "spams": lambda: spams.lasso(
                columns, atoms, lambda1=penalty, mode=2, numThreads=THREADS
            ),
        }
    )
    ours, theirs = times["jvsc"].median / num_data, times["spams"].median / few
    return Comparison(
        workload=f"encode, D={width}, K={num_latents}, J={num_samples}"
        + (", by non-zeros" if nonzeros else ""),
        opponent="spams.lasso, float32",
        ours=1e6 * ours,
        theirs=1e6 * theirs,
        unit="us a datum",
        ours_first=times["jvsc"].first,
        target=target,
        note=f"{1 / ours:,.0f} data per second, {nonzero:.1%} non-zeros; SPAMS {1 / theirs:,.0f}",
    )


def _encoder(setting: Setting) -> Callable[[np.ndarray], Any]:
    """Inference as evaluation does it, of an encoder that has learned nothing but its prior."""
    config = linear_config(
        num_samples=setting.num_samples,
        num_latents=setting.num_latents,
        threshold=laplacian_threshold(setting.share, 0.1),
        # So that a draw has about as many non-zeros as after a training.
        **{"encoder.start_at_prior": True},
    )
    model = build_model(config, setting.width)
    parameters, statistics = model.init(jax.random.key(0))
    key = inference_key(0)
    assert isinstance(model, Variational)
    encode: Any = (
        make_nonzero_infer_chunk(model, config.hyperparameters().threshold)
        if setting.nonzeros
        else jax.jit(make_infer_chunk(replace(model, sampling_chunk=1)))
    )
    return lambda data: in_chunks(
        lambda rows, first: (encode(parameters, statistics, rows, key, first)[0],), data, CHUNK
    )
