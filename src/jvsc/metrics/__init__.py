"""Measures of codes: arrays in, numbers out."""

from jvsc.metrics.collapse import feature_collapse, posterior_collapse
from jvsc.metrics.multi_information import multi_information

__all__ = ["feature_collapse", "multi_information", "posterior_collapse"]
