"""Accuracy with which a linear classifier predicts labels from codes."""

import numpy as np
from jaxtyping import Bool, Float

MAX_ITERATIONS = 1000


def linear_probe(
    train_codes: Float[np.ndarray, "N K"],
    train_labels: Bool[np.ndarray, "N A"],
    codes: Float[np.ndarray, "M K"],
    labels: Bool[np.ndarray, "M A"],
    exclusive: bool,
) -> float:
    """Accuracy of logistic regression from standardised codes (Alain & Bengio 2017).

    Args:
      train_codes: codes to fit on.
      train_labels: which attributes each of them has.
      codes: codes to measure on.
      labels: which attributes each of them has.
      exclusive: whether each datum has exactly one attribute, so that they are classes.

    Returns:
      Share of `codes` whose class is right, in [0, 1]; for attributes that are not exclusive, the
      mean over those that both occur and are absent in `train_labels` (NaN if none does) of the
      share that is right.

    Raises:
      ValueError: if `exclusive` and `train_labels` have one class only.
    """
    if exclusive:
        probe = _probe().fit(train_codes, train_labels.argmax(axis=1))
        return float(np.mean(probe.predict(codes) == labels.argmax(axis=1)))
    shares = []
    for index in range(labels.shape[1]):
        target = train_labels[:, index]
        if target.all() or not target.any():
            continue
        probe = _probe().fit(train_codes, target)
        shares.append(np.mean(probe.predict(codes) == labels[:, index]))
    return float(np.mean(shares)) if shares else float("nan")


def _probe():
    # Slow to import, and most runs have no labels.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
