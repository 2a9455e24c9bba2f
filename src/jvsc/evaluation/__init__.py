"""Codes of data by a trained model, and measures of them by many draws."""
