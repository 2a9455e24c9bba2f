"""Data sources; each gives the same small `Dataset`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jvsc.data.activations import load_activations
from jvsc.data.dataset import Dataset, Labels
from jvsc.errors import require_extra

if TYPE_CHECKING:
    from jvsc.data.celeba import load_celeba
    from jvsc.data.fashion_mnist import load_fashion_mnist
    from jvsc.data.images import load_images
    from jvsc.data.patches import load_patches

__all__ = [
    "Dataset",
    "Labels",
    "load_activations",
    "load_celeba",
    "load_fashion_mnist",
    "load_images",
    "load_patches",
]

# What reads pictures is imported when it is asked for: Pillow and scikit-image are an extra.
_PICTURES = {
    "load_celeba": "jvsc.data.celeba",
    "load_fashion_mnist": "jvsc.data.fashion_mnist",
    "load_images": "jvsc.data.images",
    "load_patches": "jvsc.data.patches",
}


def __getattr__(name: str) -> Any:
    if name not in _PICTURES:
        raise AttributeError(f"module 'jvsc.data' has no attribute {name!r}")
    require_extra("command", f"jvsc.data.{name}", ("PIL", "skimage"))
    return getattr(import_module(_PICTURES[name]), name)
