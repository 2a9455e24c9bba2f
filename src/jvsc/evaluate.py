"""A trained state and data go in, measures come out."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jvsc.build import build_dataset, build_infer, build_model, build_optimizer, is_network
from jvsc.checkpoint import open_checkpoints, write_atomically
from jvsc.config import Config
from jvsc.data import Dataset
from jvsc.divergence import read_divergences
from jvsc.errors import UserError
from jvsc.inference import Inferred, inference_key, solve_lasso
from jvsc.metrics import feature_collapse, multi_information, posterior_collapse
from jvsc.model import Model, Parameters, Statistics
from jvsc.objective import data_term, l1_term
from jvsc.parallel import on_one_device
from jvsc.posteriors import METHODS
from jvsc.state import TrainState, init_states

EVALUATION_FILE = "evaluation.json"


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
      report: what evaluation.json holds.
      model: encoder, posterior and generator.
      parameters: of the first seed that did not diverge, or of the first.
      statistics: of the same seed.
      inferred: codes of the same seed; None if all seeds diverged.
      optimal_codes: FISTA's for the same dictionary, [M, K]; None where there is none.
    """

    report: dict[str, Any]
    model: Model
    parameters: Parameters
    statistics: Statistics
    inferred: Inferred | None
    optimal_codes: Float[np.ndarray, "M K"] | None


def objective_terms(
    data: Float[np.ndarray, "N D"],
    codes: Float[np.ndarray, "N K"],
    dictionary: Float[Array, "K D"],
    penalty: float,
) -> tuple[float, float]:
    """Mean data term and mean l1 term of objective (10)."""
    reconstruction = jnp.matmul(codes, dictionary, precision=jax.lax.Precision.HIGHEST)
    return (
        float(jnp.mean(data_term(jnp.asarray(data), reconstruction))),
        float(jnp.mean(l1_term(jnp.asarray(codes), penalty))),
    )


def measure_codes(inferred: Inferred, num_edges: int) -> dict[str, float | None]:
    """Measures of codes under any generator, means over the data.

    Args:
      inferred: codes and what was inferred with them.
      num_edges: of multi-information's bins.

    Returns:
      `mse` per pixel, `nonzero_fraction`, `kl` summed over latents, `multi_information` (bits),
      `posterior_collapse` and `feature_collapse` (shares of latents).
    """
    codes, kl, error = inferred
    return {
        "mse": float(np.mean(error)),
        "nonzero_fraction": float(np.mean(codes != 0)),
        "kl": None if kl is None else float(np.mean(np.sum(kl, axis=-1))),
        "multi_information": multi_information(codes, num_edges),
        "posterior_collapse": None if kl is None else posterior_collapse(kl),
        "feature_collapse": feature_collapse(codes),
    }


def measure_dictionary(
    data: Float[np.ndarray, "N D"],
    codes: Float[np.ndarray, "N K"],
    dictionary: Float[Array, "K D"],
    penalty: float,
    optimal_codes: Float[np.ndarray, "N K"],
) -> dict[str, float | None]:
    """Measures of a dictionary and its codes, means over the data.

    Args:
      data: x.
      codes: s.
      dictionary: A.
      penalty: lambda of objective (10).
      optimal_codes: FISTA's for the same dictionary.

    Returns:
      `validation_loss` (objective 10 without the dictionary's norm), its two parts
      `reconstruction` (0.5 ||x - s A||^2) and `l1` (lambda ||s||_1), `fista_optimum` (the least
      that codes can reach with this dictionary), and the all-zero code's loss.
    """
    reconstruction, l1 = objective_terms(data, codes, dictionary, penalty)
    return {
        "validation_loss": reconstruction + l1,
        "reconstruction": reconstruction,
        "l1": l1,
        "fista_optimum": sum(objective_terms(data, optimal_codes, dictionary, penalty)),
        "fista_nonzero_fraction": float(np.mean(optimal_codes != 0)),
        "zero_code_loss": 0.5 * float(np.mean(np.sum(data.astype(np.float64) ** 2, axis=-1))),
        "dictionary_norm": float(jnp.mean(jnp.linalg.norm(dictionary, axis=-1))),
    }


def validation_loss(config: Config, inferred: Inferred, num_features: int) -> float:
    """What a run is validated by: objective (10), or a network's loss (eq. 12).

    A dictionary, and FISTA's codes under any generator, are measured by 0.5 ||x - x_hat||^2 +
    lambda ||s||_1; a conv generator with an encoder by mean_d (x_d - x_hat_d)^2 + beta KL.
    """
    codes, kl, error = inferred
    if kl is None or not is_network(config):
        l1 = np.sum(np.abs(codes), axis=-1)
        return float(np.mean(num_features / 2 * error + config.fista.penalty * l1))
    return float(np.mean(error + config.kl_weight * np.sum(kl, axis=-1)))


def seed_variables(state: TrainState, index: int) -> tuple[Parameters, Statistics]:
    """Parameters and statistics of one seed out of a state that holds several."""
    return jax.tree.map(lambda leaf: leaf[index], (state.parameters, state.statistics))


def evaluate_state(
    config: Config, model: Model, state: TrainState, dataset: Dataset, diverged: dict[int, Any]
) -> Evaluation:
    """Computes every measure for every seed of a state.

    Args:
      config: the run's settings.
      model: the run's model.
      state: S states with a leading axis.
      dataset: its validation part is measured.
      diverged: seeds whose training ended in a loss that is not finite; their measures are null.
    """
    settings = config.eval
    limits = {
        "tolerance": settings.fista_tolerance,
        "max_iterations": settings.fista_max_iterations,
    }
    if is_network(config):
        limits = {
            "tolerance": config.fista.tolerance,
            "max_iterations": config.fista.max_iterations,
        }
    infer = build_infer(config, model, **limits)
    data = dataset.validation
    penalty = config.fista.penalty
    rows: list[dict[str, float | None]] = []
    shown, inferred, optimal_codes = 0, None, None
    for index, seed in enumerate(config.seeds):
        if seed in diverged:
            rows.append({})
            continue
        parameters, statistics = seed_variables(state, index)
        found = infer(parameters, statistics, data, inference_key(settings.seed))
        measures = {"validation_loss": validation_loss(config, found, data.shape[1])}
        measures |= measure_codes(found, settings.num_edges)
        optimal = None
        if not is_network(config):
            dictionary = parameters.generator
            optimal, gap, iterations = solve_lasso(
                data, dictionary, penalty, chunk=settings.chunk, **limits
            )
            measures["fista_gap"] = float(np.mean(gap))
            measures["fista_iterations"] = float(np.mean(iterations))
            measures |= measure_dictionary(data, found.codes, dictionary, penalty, optimal)
        rows.append(measures)
        if inferred is None:
            shown, inferred, optimal_codes = index, found, optimal
    report = describe_run(config, state, dataset, diverged) | {"metrics": by_name(rows)}
    return Evaluation(report, model, *seed_variables(state, shown), inferred, optimal_codes)


def by_name(rows: list[dict[str, float | None]]) -> dict[str, list[float | None]]:
    """One list a measure with an entry a seed; null where a seed has none."""
    names = max(rows, key=len) or {"validation_loss": None}
    return {name: [row.get(name) for row in rows] for name in names}


def describe_run(
    config: Config, state: TrainState, dataset: Dataset, diverged: dict[int, Any]
) -> dict[str, Any]:
    """What was trained, on what and how far: evaluation.json without its measures."""
    constants = config.hyperparameters()
    return {
        "method": config.method,
        "seeds": list(config.seeds),
        "num_samples": config.num_samples,
        "sampling": config.sampling,
        "estimator": config.estimator,
        "threshold": constants.threshold if METHODS[config.method].threshold_of else None,
        "sparsity": constants.sparsity if METHODS[config.method].has_sparsity else None,
        "epochs": [int(step) // config.steps_per_epoch for step in np.asarray(state.step)],
        "data": dataset.description,
        "diverged": {str(seed): record for seed, record in diverged.items()},
    }


def evaluate_run(config: Config, workdir: Path, dataset: Dataset | None = None) -> Evaluation:
    """Evaluates the newest checkpoint of a run and writes evaluation.json.

    Raises:
      UserError: if the run has no checkpoint yet.
    """
    dataset = dataset or build_dataset(config)
    model = build_model(config, dataset.train.shape[1])
    optimizer = build_optimizer(config, config.steps_per_epoch)
    template = jax.eval_shape(lambda: init_states(config.seeds, model, optimizer))
    with open_checkpoints(workdir) as checkpoints:
        if checkpoints.latest is None:
            raise UserError(f"--workdir={workdir} has no checkpoint yet; train the run first")
        state = checkpoints.restore(on_one_device(template), checkpoints.latest)
    evaluation = evaluate_state(config, model, state, dataset, read_divergences(workdir))
    text = json.dumps(evaluation.report, indent=2, allow_nan=False)
    write_atomically(workdir / EVALUATION_FILE, text + "\n")
    return evaluation
