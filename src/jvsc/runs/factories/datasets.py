"""Data of a run, found by their name."""

from jvsc import data as sources
from jvsc.data import Dataset
from jvsc.runs.config import Config

# The settings that each source reads beside the path and the two numbers of data.
OPTIONS: dict[str, tuple[str, ...]] = {
    "patches": ("patch_size", "validation_fraction", "seed"),
    "fashion_mnist": ("tfds_dir", "seed"),
    "celeba": ("tfds_dir", "cache_dir"),
    # Of the size that their networks are made for.
    "images": ("seed", "cache_dir"),
    "activations": (),
}


def build_dataset(config: Config) -> Dataset:
    """Loads the run's data."""
    data = config.data
    load = getattr(sources, f"load_{data.name}")
    options = {name: getattr(data, name) for name in OPTIONS[data.name]}
    return load(data.path, num_train=data.num_train, num_validation=data.num_validation, **options)
