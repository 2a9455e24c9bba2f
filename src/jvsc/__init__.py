"""jvsc: amortised variational sparse coding in JAX."""

from jvsc.errors import UserError

__all__ = ["UserError"]
