"""Tolerances of the statistical tests.

A mean is compared within `STANDARD_ERRORS` of its own standard errors, and a p-value with
`SMALLEST_P`: a right sampler fails one such comparison in a million keys, and the keys are fixed.
"""

import numpy as np

STANDARD_ERRORS = 4.9
SMALLEST_P = 1e-6


def assert_mean(samples: np.ndarray, expected: float) -> None:
    """The mean of independent samples is `expected`, within their standard error."""
    error = samples.std() / np.sqrt(samples.size)
    assert abs(samples.mean() - expected) <= STANDARD_ERRORS * error, (
        samples.mean(),
        expected,
        error,
    )
