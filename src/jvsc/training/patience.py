"""When a loss has stopped falling."""

import math
from typing import NamedTuple


class Patience(NamedTuple):
    """How long a loss has not decreased, by scikit-learn's rule (`SGDClassifier`'s `tol`).

    Attributes:
      best: the lowest finite loss so far; None before the first.
      waited: losses in a row that were not lower than the lowest before them by `min_delta`.
    """

    best: float | None = None
    waited: int = 0

    def after(self, loss: float, min_delta: float) -> "Patience":
        """With one more loss."""
        if not math.isfinite(loss):
            return Patience(self.best, self.waited + 1)
        if self.best is None:
            return Patience(loss, 0)
        fell = loss <= self.best - min_delta and loss < self.best
        return Patience(min(self.best, loss), 0 if fell else self.waited + 1)
