"""A trained state and data to evaluation.json: the paper's measures, one value a seed."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jvsc.data import Dataset
from jvsc.data.atomic import write_atomically
from jvsc.evaluation.inference import Inferred, inference_key
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.variational import Variational
from jvsc.runs.config import Config
from jvsc.runs.divergence import check_not_lost, read_divergences
from jvsc.runs.evaluation_store import EVALUATION_FILE, SECONDS_FILE, EvaluationStore
from jvsc.runs.factories import build_dataset
from jvsc.runs.factories.models import build_infer
from jvsc.runs.measures import MEASURES, Compute, Subject
from jvsc.runs.needs import check_needs
from jvsc.runs.restore import restore_state, seed_variables
from jvsc.training.state import TrainState


class Evaluation(NamedTuple):
    """The result of an evaluation.

    Attributes:
      report: what evaluation.json holds.
      model: encoder, posterior and generator.
      parameters: of the first seed that did not diverge, or of the first.
      statistics: of the same seed.
      inferred: codes of the same seed; None if all seeds diverged.
    """

    report: dict[str, Any]
    model: Model
    parameters: Parameters
    statistics: Statistics
    inferred: Inferred | None


def evaluate_run(
    config: Config, workdir: Path, dataset: Dataset | None = None, console: Console | None = None
) -> Evaluation:
    """Evaluates the newest checkpoint of a run and writes evaluation.json.

    An evaluation that was killed goes on with the measures that it had not finished.

    Args:
      config: the run's settings.
      workdir: the run's.
      dataset: its data; loaded unless given.
      console: where each measure's time is printed; nowhere by default.

    Raises:
      UserError: if the run has no checkpoint yet.
      DivergenceError: if every seed has diverged where that is not an expected result.
    """
    dataset = dataset or build_dataset(config)
    check_needs(config, dataset.train.shape[1])
    model, state = restore_state(config, workdir, dataset.train.shape[1])
    diverged = read_divergences(workdir)
    check_not_lost(config, diverged, int(np.max(state.step)) // config.steps_per_epoch)
    report = describe_run(config, state, dataset, diverged)
    report["codes"] = model.code_in_words if isinstance(model, Variational) else None
    store = EvaluationStore(workdir, report)
    data = dataset.validation[: config.eval.num_validation]
    infer, key = build_infer(config, model), inference_key(config.eval.seed)
    computes = {name: make(config, model, dataset) for name, make in MEASURES.items()}
    measures = {name: compute for name, compute in computes.items() if compute is not None}
    rows: list[dict[str, Any]] = []
    seconds: list[dict[str, float]] = []
    shown, inferred = 0, None
    for index, seed in enumerate(config.seeds):
        if seed in diverged:
            rows.append({})
            seconds.append({})
            continue
        variables = seed_variables(state, index)
        inferred_here = infer(*variables, data, key)
        subject = Subject(*variables, data, inferred_here, key)
        values, times = measure_seed(subject, seed, measures, store, console)
        rows.append(values)
        seconds.append(times)
        if inferred is None:
            shown, inferred = index, inferred_here
    report |= {"num_validation": len(data), "metrics": by_name(rows)}
    # Apart, so that evaluation.json is the same however often it is made.
    for name, content in {EVALUATION_FILE: report, SECONDS_FILE: by_name(seconds)}.items():
        text = json.dumps(content, indent=2, allow_nan=False)
        write_atomically(workdir / name, text + "\n")
    store.clear()
    return Evaluation(report, model, *seed_variables(state, shown), inferred)


def measure_seed(
    subject: Subject,
    seed: int,
    measures: dict[str, Compute],
    store: EvaluationStore,
    console: Console | None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Every measure of one seed that is not in the store: their values, each group's seconds."""
    values: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, compute in measures.items():
        entry = store.get(f"{seed}/{name}")
        remark = "as a killed evaluation left it"
        if entry is None:
            start = time.perf_counter()
            seed_values = {key: _finite(value) for key, value in compute(subject).items()}
            entry = store.put(f"{seed}/{name}", seed_values, round(time.perf_counter() - start, 2))
            remark = f"{entry['seconds']:.1f} s"
        values |= entry["values"]
        seconds[name] = entry["seconds"]
        if console is not None:
            console.print(f"measured seed {seed}, {name}: {remark}", highlight=False)
    return values, seconds


def by_name(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """One list a measure with an entry a seed; null where a seed has none."""
    names = max(rows, key=len) or {"validation_loss": None}
    return {name: [row.get(name) for row in rows] for name in names}


def describe_run(
    config: Config, state: TrainState, dataset: Dataset, diverged: dict[int, Any]
) -> dict[str, Any]:
    """Description of the run and its data: evaluation.json without the measures."""
    constants = config.hyperparameters()
    return {
        "method": config.method,
        "seeds": list(config.seeds),
        "num_samples": config.num_samples,
        "sampling": config.sampling,
        "estimator": config.estimator,
        "threshold": constants.threshold if config.family.rule else None,
        "sparsity": constants.sparsity if config.family.has_sparsity else None,
        "epochs": [int(step) // config.steps_per_epoch for step in np.asarray(state.step)],
        "data": dataset.description,
        "diverged": {str(seed): record for seed, record in diverged.items()},
        "evaluated_with": evaluated_settings(config),
    }


def evaluated_settings(config: Config) -> dict[str, Any]:
    """The settings of an evaluation itself, as JSON gives them back."""
    settings = {"eval": config.eval.model_dump(), "fid": config.fid.model_dump()}
    return json.loads(json.dumps(settings))


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
