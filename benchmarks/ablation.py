"""What of the inferred threshold matters: one choice changed at a time, on patches.

    JVSC_IMAGES=IMAGES.mat python -m benchmarks.ablation [--epochs=2]

Each row is a run of configs/patches.py:inferred_threshold with the settings named, one seed. R^2 is
of held-out patches; as rows differ in their non-zeros, compare both columns.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from rich.console import Console
from rich.table import Table

from configs import patches
from jvsc.evaluation.inference import make_infer
from jvsc.runs.config import make_config
from jvsc.runs.factories import build_model
from jvsc.runs.restore import seed_variables
from jvsc.runs.train import train

# A posterior as wide as its prior would close all gates before an encoder of layers has learned
# where to open them: these begin narrow, and dense layers' prior stays so.
MLP = {
    "encoder.name": "mlp",
    "encoder.hidden": (512,),
    "encoder.learning_rate": 1e-3,
    "encoder.start_at_prior": True,
    "prior.scale": 0.1,
    "prior.learns_scale": False,
    "prior.learns_sparsity": False,
}
LINEAR = {"encoder.name": "linear", "encoder.learning_rate": 1e-3, "prior.scale": 0.5}
# Where nothing finds noise and prior: the divergence's weight that the noise would give.
FIXED = {"method": "thresholded_laplacian", "kl_weight": 2e-3, "prior.scale": 0.5}
ROWS: dict[str, dict[str, Any]] = {
    "as configured": {},
    "one draw in place of the exact bound": {"sampling": "max"},
    "the best of five draws": {"sampling": "max", "num_samples": 5},
    "six steps": {"encoder.steps": 6},
    "three steps": {"encoder.steps": 3},
    "three steps, each with a matrix": {
        "encoder.steps": 3,
        "encoder.corrects": True,
        "encoder.learning_rate": 1e-3,
    },
    "a linear encoder": LINEAR,
    "dense layers": MLP,
    "no least squares on the support": {"encoder.support_steps": 0},
    "a fixed threshold, exact bound, the same encoder": FIXED,
    "a fixed threshold, exact bound, dense layers": FIXED | MLP,
}


def measure(changes: dict[str, Any], epochs: int) -> tuple[float, float, float]:
    """Non-zeros of a held-out datum, R^2, and the share of latents that are never used."""
    settings: ml_collections.ConfigDict = patches.get_config("inferred_threshold")
    common = {"seeds": (0,), "num_epochs": epochs, "data.path": os.environ.get("JVSC_IMAGES", "")}
    with settings.ignore_type():
        settings.update_from_flattened_dict(common | changes)
    config = make_config(settings.to_dict())
    with tempfile.TemporaryDirectory() as folder:
        trained = train(config, Path(folder), Console(quiet=True))
    data = trained.dataset.validation
    model = build_model(config, data.shape[1])
    infer = make_infer(model, config.eval.chunk)
    found = infer(*seed_variables(trained.state, 0), data, jax.random.key(0))
    variance = np.mean((data - data.mean(axis=0)) ** 2, dtype=np.float64)
    used = np.count_nonzero(found.codes, axis=0)
    nonzeros = float(np.mean(np.count_nonzero(found.codes, axis=1)))
    return nonzeros, float(1 - found.squared_error.mean() / variance), float(np.mean(used == 0))


def main() -> None:
    """Prints a table, a row as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation")
    parser.add_argument("--epochs", type=int, default=2)
    epochs = parser.parse_args().epochs
    table = Table("changed", "non-zeros", "R2", "never used")
    for name, changes in ROWS.items():
        nonzeros, r2, dead = measure(changes, epochs)
        row = (name, f"{nonzeros:.1f}", f"{r2:.3f}", f"{dead:.1%}")
        print(f"| {' | '.join(row)} |", flush=True)
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
