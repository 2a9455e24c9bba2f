"""Fashion-MNIST, conv generator: Figure 7 and the tables of appendix E.

    python -m jvsc.main --config=configs/fmnist.py:METHOD --workdir=DIR

METHOD is as in configs/patches.py, but lasso and best; sparsity is 10% and K is 64 unless given.
`METHOD,small` is a short training that ends within ten minutes on two cores; `METHOD,cpu`, which
`python -m jvsc.reproduce --scale=cpu` takes, is shorter still.
"""

from ml_collections import ConfigDict

from jvsc.runs.config import experiment_config

SETTINGS = {
    "data.name": "fashion_mnist",
    "data.num_train": 60_000,
    "data.num_validation": 10_000,
    "num_latents": 64,
    "batch_size": 512,
    "num_samples": 20,
    "sampling_chunk": 1,
    "encoder.optimizer": "adam",
    "encoder.learning_rate": 3e-4,
    "encoder.momentum": 0.5,
    "encoder.weight_decay": 1e-5,
    "annealing.warmup_begin": 500,
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
# A twenty-second of the paper's steps: warm-ups and temperature go faster too.
SMALL = {
    "seeds": (0,),
    "num_epochs": 10,
    "batch_size": 128,
    "num_samples": 5,
    "data.num_train": 20_000,
    "data.num_validation": 2_000,
    "annealing.warmup_begin": 100,
    "annealing.warmup_increment": 2e-3,
    "annealing.temperature_decay": 0.995,
    "eval.snr_draws": 20,
}
# Twenty-four of them are a panel of Figure 7, to end within two hours on two cores.
CPU = {**SMALL, "num_epochs": 4}


def get_config(arguments: str = "") -> ConfigDict:
    """The paper's settings for a method, or short ones."""
    sizes = {"small": SMALL, "cpu": CPU}
    if arguments.startswith("fista"):
        sizes = {name: size | {"fista.warmup_increment": 2e-3} for name, size in sizes.items()}
    return experiment_config(arguments, SETTINGS, METHOD_SETTINGS, sizes)
