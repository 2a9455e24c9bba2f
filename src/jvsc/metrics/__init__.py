"""Measures of codes: arrays in, numbers out."""

from jvsc.metrics.multi_information import multi_information

__all__ = ["multi_information"]
