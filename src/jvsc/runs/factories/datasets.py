"""Data of a run, found by their name."""

from collections.abc import Callable

from jvsc import data as sources
from jvsc.data import Dataset
from jvsc.runs.config import Config, DataConfig

DATASETS: dict[str, Callable[[DataConfig], Dataset]] = {
    "patches": lambda data: sources.load_patches(
        data.path,
        patch_size=data.patch_size,
        num_train=data.num_train,
        num_validation=data.num_validation,
        validation_fraction=data.validation_fraction,
        seed=data.seed,
    ),
    "fashion_mnist": lambda data: sources.load_fashion_mnist(
        data.path,
        tfds_dir=data.tfds_dir,
        num_train=data.num_train,
        num_validation=data.num_validation,
        seed=data.seed,
    ),
    "celeba": lambda data: sources.load_celeba(
        data.path,
        tfds_dir=data.tfds_dir,
        cache_dir=data.cache_dir,
        num_train=data.num_train,
        num_validation=data.num_validation,
    ),
    # Of the size that their networks are made for.
    "images": lambda data: sources.load_images(
        data.path,
        num_train=data.num_train,
        num_validation=data.num_validation,
        seed=data.seed,
        cache_dir=data.cache_dir,
    ),
    "activations": lambda data: sources.load_activations(
        data.path, num_train=data.num_train, num_validation=data.num_validation
    ),
}


def build_dataset(config: Config) -> Dataset:
    """Loads the run's data."""
    return DATASETS[config.data.name](config.data)
