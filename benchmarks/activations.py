"""Sparse codes of activations at equal L0: thresholded posteriors beside sparse autoencoders.

    python -m benchmarks.make_activations --output=activations.npy
    python -m benchmarks.activations --data=activations.npy

All are trained by jvsc's trainer on the same rows for the same steps, K = 4 D. TopK meets L0
exactly; the others' settings were searched, so that L0 on the validation rows comes near it.
`--method=METHOD` runs one of them, and `--config.KEY=VALUE` tries another setting.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from rich.console import Console
from rich.table import Table

from configs import activations
from jvsc.metrics import explained_variance, support_statistics
from jvsc.runs.config import make_config
from jvsc.runs.factories import build_dataset
from jvsc.runs.logs import read_metrics
from jvsc.runs.train import train
from jvsc.runs.trained_model import load_with

SHORT = {
    "data.num_train": 50_000,
    "data.num_validation": 5_000,
    "num_epochs": 2,
    "output.validate_every": 1_000,
}
# JumpReLU's bandwidth and first threshold are far above the published 0.001: so few steps could not
# move the thresholds otherwise.
METHODS: dict[str, dict[str, Any]] = {
    "topk": {"autoencoder.active": 32, "autoencoder.dead_after": 10_000},
    "relu_l1": {"autoencoder.penalty": 2.55, "encoder.learning_rate": 4e-3},
    "jump_relu": {
        "autoencoder.penalty": 1.2,
        "autoencoder.penalty_warmup_steps": 100,
        "autoencoder.bandwidth": 0.05,
        "autoencoder.initial_threshold": 0.08,
    },
    "thresholded_laplacian": {
        "kl_weight": 2e-4,
        "prior.scale": 0.02,
        "threshold": 0.175,
        "annealing.warmup_start": 1.0,
    },
    "thresholded_gaussian_gamma": {
        "kl_weight": 1e-3,
        "prior.variance": 0.01,
        "threshold": 0.7,
        "annealing.warmup_start": 1.0,
    },
}


def measure(method: str, data: Path, workdir: Path, changes: dict[str, Any]) -> dict[str, float]:
    """Trains a method, or takes what an earlier call trained, and measures its validation codes."""
    settings: ml_collections.ConfigDict = activations.get_config(method)
    given = {"data.path": str(data), **SHORT, **METHODS[method], **changes}
    with settings.ignore_type():
        settings.update_from_flattened_dict(given)
    config = make_config(settings.to_dict())
    train(config, workdir, Console())
    trained = load_with(config, workdir)
    validation = build_dataset(config).validation
    codes = trained.encode_normalised(validation)
    assert trained.normalisation is not None
    found = trained.normalisation.apply(trained.decode(codes))
    error = np.mean((found - validation) ** 2, axis=1)
    frequency = support_statistics(codes).frequency
    return {
        "explained_variance": explained_variance(validation, error),
        "l0": float(np.mean(np.sum(codes != 0, axis=1))),
        "dead_latents": float(np.mean(frequency == 0)),
        "seconds": sum(row["seconds"] for row in read_metrics(workdir)),
    }


def main() -> None:
    """Prints one table and writes activations.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/activations"))
    parser.add_argument("--method", choices=METHODS)
    arguments, rest = parser.parse_known_args()
    changes = dict(argument.removeprefix("--config.").split("=", 1) for argument in rest)
    changes = {key: json.loads(value) for key, value in changes.items()}
    methods = [arguments.method] if arguments.method else list(METHODS)
    results = {}
    for method in methods:
        workdir = arguments.output / method
        results[method] = measure(method, arguments.data, workdir, changes)
        # After each, since the next one may be killed.
        (arguments.output / "activations.json").write_text(json.dumps(results, indent=2) + "\n")
    table = Table("method", "explained variance", "L0", "dead latents", "training")
    for method, row in results.items():
        table.add_row(
            method,
            f"{100 * row['explained_variance']:.1f}%",
            f"{row['l0']:.1f}",
            f"{100 * row['dead_latents']:.1f}%",
            f"{row['seconds']:.0f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
