"""Activations of a deep network: sparse features of any [N, D] array.

    python -m jvsc.main --config=configs/activations.py:METHOD --workdir=DIR
        --config.data.path=FILE_OR_FOLDER --config.num_latents=K

METHOD is as in configs/patches.py, or one of the sparse autoencoders relu_l1, topk, batch_topk,
matryoshka and jump_relu.
The path is a .npy, .npz or .safetensors file, or a folder of such shards; the first
`data.num_train` rows train and the last `data.num_validation` validate. Give K from 4 D to 32 D.
`--config.parallel.latent_shards=N` divides the latents among N devices.
Data are normalised to mean 0 and a mean squared norm of D. `python -m benchmarks.activations`
compares the methods at equal L0.
"""

from ml_collections import ConfigDict

from jvsc.runs.config import experiment_config

SETTINGS = {
    "data.name": "activations",
    "data.num_train": 50_000,
    "data.num_validation": 5_000,
    "num_latents": 1536,
    "batch_size": 256,
    "num_epochs": 10,
    "num_samples": 20,
    "sampling_chunk": 5,
    "seeds": (0,),
    "encoder.optimizer": "adam",
    "encoder.learning_rate": 1e-3,
    "encoder.hidden": (1024,),
    "encoder.start_at_prior": True,
    "encoder.max_gradient_norm": 1.0,
    "generator.optimizer": "adam",
    "generator.learning_rate": 3e-3,
    "annealing.warmup_begin": 0,
    "annealing.warmup_increment": 2e-3,
    "eval.chunk": 500,
    # Pairs of thousands of latents are too many, and so are a solver's last digits.
    "eval.mutual_information": False,
    "eval.fista_tolerance": 1e-3,
    "eval.fista_max_iterations": 500,
    "eval.best_draws": 20,
    "eval.iwae_samples": 20,
    "eval.snr_draws": 10,
    "eval.snr_batches": 1,
}
AUTOENCODER = {"num_samples": 1, "encoder.max_gradient_norm": None}
# Latents are dead after 250 steps here: after the published 10 million data they never would be.
# Half of D dead ones model the error, as Gao et al. (2024) advise.
COUNTING = {
    **AUTOENCODER,
    "autoencoder.dead_after": 64_000,
    "autoencoder.auxiliary_active": 192,
}
# Exact bound, three steps of inference with a matrix each beside the dictionary; `sparsity` is the
# share of latents in use, of which data that were not seen take a tenth to a fifth more.
INFERRED_THRESHOLD = {
    "sampling": "exact",
    "sparsity": 0.01,
    "prior.scale": 2.5,
    "noise.variance": 0.1,
    "annealing.warmup_start": 1.0,
    "annealing.kl_warmup_share": 0.1,
    "encoder.name": "unrolled",
    "encoder.steps": 3,
    "encoder.corrects": True,
    "generator.learning_rate": 5e-3,
    "generator.schedule": "one_cycle",
    "generator.max_gradient_norm": 1.0,
    "generator.unit_norm": True,
    "generator.start": "data",
    "generator.frobenius": 0.0,
}
# Online dictionary learning, of atoms of norm 1: a penalty of about a seventh of a datum's norm at
# D = 768; it is to grow with the square root of D.
LASSO = {"batch_size": 1024, "fista.penalty": 4.0, "generator.start": "data"}
METHOD_SETTINGS = {
    "fista": {"fista.warmup_increment": 1e-3},
    "inferred_threshold": INFERRED_THRESHOLD,
    "lasso": LASSO,
    "relu_l1": AUTOENCODER,
    "topk": COUNTING,
    "batch_topk": COUNTING,
    "matryoshka": COUNTING,
    # Adam without momentum, as published.
    "jump_relu": {**AUTOENCODER, "encoder.momentum": 0.0},
}


def get_config(arguments: str = "") -> ConfigDict:
    """Settings for a method on activations."""
    return experiment_config(arguments, SETTINGS, METHOD_SETTINGS, {})
