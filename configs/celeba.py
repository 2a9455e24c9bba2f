"""CelebA at 64x64, conv generator: Figures 6 to 8.

    python -m jvsc.main --config=configs/celeba.py:METHOD --workdir=DIR --config.data.path=FOLDER

METHOD is as in configs/patches.py, but lasso and best; sparsity is 10% and K is 512 unless given.
FOLDER holds img_align_celeba/ and list_eval_partition.txt. `METHOD,small` is a short training on
1,600 images, and `METHOD,cpu` the same for `python -m jvsc.reproduce --scale=cpu`.
"""

from ml_collections import ConfigDict

from jvsc.runs.config import experiment_config

SETTINGS = {
    "data.name": "celeba",
    "data.num_train": 150_000,
    "data.num_validation": 19_000,
    "num_latents": 512,
    "batch_size": 512,
    "num_samples": 10,
    "sampling_chunk": 1,
    "kl_weight": 1e-3,
    "encoder.optimizer": "adam",
    "encoder.learning_rate": 3e-4,
    "encoder.momentum": 0.5,
    "encoder.weight_decay": 1e-5,
    "annealing.warmup_begin": 1500,
    "annealing.temperature_minimum": 0.005,
    "eval.num_edges": 30,
    "eval.iwae_samples": 20,
    "eval.snr_draws": 50,
    "eval.snr_batches": 2,
    "fista.penalty": 1.0,
    "fista.max_iterations": 50,
}
NO_WARMUP = {"annealing.warmup_start": 1.0}
# By mean and variance of the code; `sparsity` is the prior's probability of a non-zero, and the
# share of the data for which each latent is in use, about.
INFERRED_THRESHOLD = {
    "sampling": "moments",
    "sparsity": 0.1,
    "prior.scale": 1.0,
    "prior.learns_sparsity": False,
    "noise.rule": "learned",
    "noise.variance": 0.05,
    "encoder.lifetime_sparsity": True,
    "encoder.learning_rate": 1e-3,
    "annealing.kl_warmup_share": 0.1,
    **NO_WARMUP,
}
METHOD_SETTINGS = {
    "inferred_threshold": INFERRED_THRESHOLD,
    "laplacian": NO_WARMUP,
    "spike_and_slab": {"sparsity": 0.1},
    "thresholded_gaussian": {"sparsity": 0.1},
    "thresholded_gaussian_gamma": {"sparsity": 0.1},
    "thresholded_laplacian": {"sparsity": 0.1, **NO_WARMUP},
    "thresholded_laplacian_gamma": {"sparsity": 0.1, **NO_WARMUP},
}
SMALL = {
    "seeds": (0,),
    "num_epochs": 5,
    "batch_size": 64,
    "num_latents": 64,
    "num_samples": 2,
    "data.num_train": 1_600,
    "data.num_validation": 200,
    "annealing.warmup_begin": 10,
    "annealing.warmup_increment": 2e-2,
    "annealing.temperature_decay": 0.95,
    "eval.snr_draws": 10,
    "eval.snr_batches": 1,
}


def get_config(arguments: str = "") -> ConfigDict:
    """The paper's settings for a method, or short ones."""
    small = SMALL
    if arguments.startswith("fista"):
        small = SMALL | {"fista.warmup_increment": 2e-2}
    return experiment_config(arguments, SETTINGS, METHOD_SETTINGS, {"small": small, "cpu": small})
