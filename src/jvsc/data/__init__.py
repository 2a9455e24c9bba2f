"""Data sources; each gives the same small `Dataset`."""

from jvsc.data.dataset import Dataset
from jvsc.data.patches import load_patches

__all__ = ["Dataset", "load_patches"]
