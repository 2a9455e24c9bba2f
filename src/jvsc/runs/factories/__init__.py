"""A run's pieces, made from its settings: below this room functions take plain arguments."""

from jvsc.runs.factories.datasets import build_dataset
from jvsc.runs.factories.models import build_model
from jvsc.runs.factories.optimizers import build_optimizer

__all__ = ["build_dataset", "build_model", "build_optimizer"]
