"""jvsc: amortised variational sparse coding in JAX."""

from typing import TYPE_CHECKING, Any

from jvsc.errors import UserError

if TYPE_CHECKING:
    from jvsc.estimator import SparseCoder

__all__ = ["SparseCoder", "UserError"]


def __getattr__(name: str) -> Any:
    # Imported when first used: most of the house does not need the estimator.
    if name == "SparseCoder":
        from jvsc.estimator import SparseCoder

        return SparseCoder
    raise AttributeError(f"module 'jvsc' has no attribute {name!r}")
