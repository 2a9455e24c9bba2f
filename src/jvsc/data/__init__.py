"""Data sources; each gives the same small `Dataset`."""

from jvsc.data.activations import load_activations
from jvsc.data.celeba import load_celeba
from jvsc.data.dataset import Dataset, Labels
from jvsc.data.fashion_mnist import load_fashion_mnist
from jvsc.data.patches import load_patches

__all__ = [
    "Dataset",
    "Labels",
    "load_activations",
    "load_celeba",
    "load_fashion_mnist",
    "load_patches",
]
