"""A trained state and data go in, measures come out."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jvsc.build import build_dataset, build_model, build_optimizer, final_annealing
from jvsc.checkpoint import open_checkpoints, write_atomically
from jvsc.config import Config
from jvsc.data import Dataset
from jvsc.divergence import read_divergences
from jvsc.errors import UserError
from jvsc.inference import inference_key, make_infer, solve_lasso
from jvsc.metrics import multi_information
from jvsc.model import Model, Parameters
from jvsc.objective import data_term, l1_term, nonzero_fraction
from jvsc.posteriors import METHODS
from jvsc.state import TrainState, init_states

EVALUATION_FILE = "evaluation.json"


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
      report: what evaluation.json holds.
      parameters: of every seed, with a leading axis S.
      codes: of the first seed that did not diverge, [M, K]; None if all did.
      optimal_codes: FISTA's for the same dictionary, [M, K].
      shown: index of that seed.
    """

    report: dict[str, Any]
    parameters: Parameters
    codes: Float[np.ndarray, "M K"] | None
    optimal_codes: Float[np.ndarray, "M K"] | None
    shown: int


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


def evaluate_codes(
    data: Float[np.ndarray, "N D"],
    codes: Float[np.ndarray, "N K"],
    kl: Float[np.ndarray, " N"] | None,
    dictionary: Float[Array, "K D"],
    penalty: float,
) -> dict[str, float | None]:
    """Measures of codes under a linear generator, means over the data.

    Args:
      data: x.
      codes: s.
      kl: of each datum's posterior, where there is one.
      dictionary: A.
      penalty: lambda of objective (10).

    Returns:
      `validation_loss` (objective 10 without the dictionary's norm), its two parts
      `reconstruction` (0.5 ||x - s A||^2) and `l1` (lambda ||s||_1), `mse` per pixel,
      `nonzero_fraction`, `kl` and `multi_information` (bits).
    """
    reconstruction, l1 = objective_terms(data, codes, dictionary, penalty)
    return {
        "validation_loss": reconstruction + l1,
        "reconstruction": reconstruction,
        "l1": l1,
        "mse": 2 * reconstruction / data.shape[1],
        "nonzero_fraction": float(np.mean(nonzero_fraction(jnp.asarray(codes)))),
        "kl": None if kl is None else float(np.mean(kl)),
        "multi_information": multi_information(codes),
    }


def seed_parameters(state: TrainState, index: int) -> Parameters:
    """Parameters of one seed out of a state that holds several."""
    return jax.tree.map(lambda leaf: leaf[index], state.parameters)


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
    solver = {
        "tolerance": settings.fista_tolerance,
        "max_iterations": settings.fista_max_iterations,
        "chunk": settings.chunk,
    }
    infer = make_infer(
        model,
        num_samples=config.num_samples,
        annealing=final_annealing(config),
        penalty=config.fista.penalty,
        sampling_chunk=config.sampling_chunk,
        **solver,
    )
    data = dataset.validation
    key = inference_key(settings.seed)
    rows: list[dict[str, float | None]] = []
    shown, shown_codes, shown_optimal = 0, None, None
    for index, seed in enumerate(config.seeds):
        if seed in diverged:
            rows.append({})
            continue
        parameters = seed_parameters(state, index)
        dictionary = parameters.generator
        codes, kl = infer(parameters, data, key)
        measures = evaluate_codes(data, codes, kl, dictionary, config.fista.penalty)
        optimal, gap, iterations = solve_lasso(data, dictionary, config.fista.penalty, **solver)
        optimum = sum(objective_terms(data, optimal, dictionary, config.fista.penalty))
        measures |= {
            "fista_optimum": optimum,
            "fista_gap": float(gap.mean()),
            "fista_iterations": float(iterations.mean()),
            "fista_nonzero_fraction": float(np.mean(optimal != 0)),
            "zero_code_loss": 0.5 * float(np.mean(np.sum(data.astype(np.float64) ** 2, axis=-1))),
            "dictionary_norm": float(jnp.mean(jnp.linalg.norm(dictionary, axis=-1))),
        }
        rows.append(measures)
        if shown_codes is None:
            shown, shown_codes, shown_optimal = index, codes, optimal
    constants = config.hyperparameters()
    names = max(rows, key=len) or {"validation_loss": None}
    report = {
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
        "metrics": {name: [row.get(name) for row in rows] for name in names},
    }
    return Evaluation(report, state.parameters, shown_codes, shown_optimal, shown)


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
        state = checkpoints.restore(template, checkpoints.latest)
    evaluation = evaluate_state(config, model, state, dataset, read_divergences(workdir))
    text = json.dumps(evaluation.report, indent=2, allow_nan=False)
    write_atomically(workdir / EVALUATION_FILE, text + "\n")
    return evaluation
