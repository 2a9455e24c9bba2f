"""jvsc: amortised variational sparse coding in JAX."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jvsc.errors import UserError

if TYPE_CHECKING:
    from jvsc.runs.own_parts import load_parts, train
    from jvsc.sparse_coder.estimator import SparseCoder
    from jvsc.sparse_coder.stored import load

__all__ = ["SparseCoder", "UserError", "load", "load_parts", "train"]

# What brings in JAX and the networks is imported when it is asked for.
_HOMES = {
    "SparseCoder": "jvsc.sparse_coder.estimator",
    "load": "jvsc.sparse_coder.stored",
    "load_parts": "jvsc.runs.own_parts",
    "train": "jvsc.runs.own_parts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jvsc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
