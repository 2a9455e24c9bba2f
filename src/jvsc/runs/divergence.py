"""Losses that became non-finite: detected, reported, and recorded as a run's result."""

import json
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
from jaxtyping import Array, Bool
from typing_extensions import TypedDict

from jvsc.data.atomic import write_atomically
from jvsc.errors import DivergenceError, UserError
from jvsc.model.methods import SolverMethod, VariationalMethod, finds_prior
from jvsc.model.model import StepMetrics
from jvsc.model.parameters import Parameters
from jvsc.model.thresholding import SUBGRADIENTS
from jvsc.runs.config import Config
from jvsc.runs.stored import UnreadableError, stored_json

DIVERGENCE_FILE = "divergence.json"


class _Divergence(TypedDict):
    step: int
    terms: list[str]


_Seed = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9]{1,20}$")]
_DIVERGENCES = pydantic.TypeAdapter(dict[_Seed, _Divergence])


def find_divergence(
    metrics: StepMetrics, parameters: Parameters, seeds: tuple[int, ...], first_step: int
) -> dict[int, Any]:
    """Where the loss of each seed first was not a number or infinite.

    No loss follows the epoch's last step, so the parameters after it are checked instead.

    Args:
      metrics: of each step of an epoch, [S, steps].
      parameters: after the epoch, with a leading axis S.
      seeds: the S seeds.
      first_step: the epoch's first step.

    Returns:
      For each seed that diverged, the step and the terms of the loss that were not finite in it.
    """
    terms = {"reconstruction (mse)": np.asarray(metrics.mse), "KL": np.asarray(metrics.kl)}
    finite = np.isfinite(np.asarray(metrics.loss))
    whole = np.asarray(_are_finite(parameters))
    diverged = {}
    for index, seed in enumerate(seeds):
        if not finite[index].all():
            step = int(np.argmin(finite[index]))
            bad = [name for name, values in terms.items() if not np.isfinite(values[index, step])]
            diverged[seed] = {"step": first_step + step, "terms": bad or ["loss"]}
        elif not whole[index]:
            diverged[seed] = {"step": first_step + finite.shape[1] - 1, "terms": ["gradient"]}
    return diverged


@jax.jit
def _are_finite(parameters: Parameters) -> Bool[Array, " S"]:
    """Whether all parameters of each seed are finite."""
    flags = [
        jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))
        for leaf in jax.tree.leaves(parameters)
    ]
    return jnp.stack(flags).all(axis=0)


def describe(diverged: dict[int, Any]) -> str:
    """One line that says which seed diverged, at which step and in which term."""
    return "; ".join(
        f"seed {seed}: the loss is not finite at step {record['step']}, in its "
        f"{' and '.join(record['terms'])}"
        for seed, record in diverged.items()
    )


def advice(diverged: dict[int, Any], epoch: int) -> str:
    """`describe`, and what to do about it."""
    return (
        f"{describe(diverged)}. The checkpoint of epoch {epoch} is kept. "
        "Lower encoder.learning_rate or generator.learning_rate, in another workdir"
    )


def advice_without_codes(config: Config) -> str:
    """What to do where all codes of an epoch were zero."""
    if isinstance(config.family, SolverMethod):
        remedy = f"lower fista.penalty, which is {config.fista.penalty:g}"
    elif finds_prior(config.family):
        remedy = "train longer, or raise sparsity"
    elif isinstance(config.family, VariationalMethod):
        remedy = f"lower kl_weight, which is {config.kl_weight:g}, or train longer"
    else:
        remedy = "lower autoencoder.penalty or the learning rates"
    return f"no code of the last epoch had a non-zero; {remedy}, in another workdir"


def check_not_lost(config: Config, diverged: dict[int, Any], epoch: int) -> None:
    """Refuses a run of which every seed has diverged, unless that is an expected result.

    Args:
      config: the run's settings.
      diverged: its seeds that diverged (`read_divergences`).
      epoch: of its newest checkpoint.

    Raises:
      DivergenceError: with the same line as when it diverged.
    """
    if len(diverged) == len(config.seeds) and config.estimator not in SUBGRADIENTS:
        raise DivergenceError(advice(diverged, epoch))


def write_divergences(workdir: Path, diverged: dict[int, Any]) -> None:
    """Records which seeds of a run diverged, and where."""
    write_atomically(workdir / DIVERGENCE_FILE, json.dumps(diverged, indent=2) + "\n")


def read_divergences(workdir: Path) -> dict[int, Any]:
    """The seeds of a run that diverged; empty where none did.

    Raises:
      UserError: if that cannot be read.
    """
    file = workdir / DIVERGENCE_FILE
    try:
        stored = stored_json(file, _DIVERGENCES) or {}
    except UnreadableError as error:
        raise UserError(
            f"{file} cannot be read ({error}); restore it, or remove it if no seed diverged"
        ) from None
    return {int(seed): dict(record) for seed, record in stored.items()}
