"""Collapse of latents: cases with a known answer."""

import numpy as np

from jvsc.metrics import feature_collapse, posterior_collapse


def test_a_latent_is_collapsed_when_it_is_negligible_on_95_percent_of_the_data():
    values = np.zeros((100, 4))
    values[:6, 0] = 1.0  # negligible on 94%
    values[:5, 1] = 1.0  # on 95%
    values[:, 2] = 0.01  # at the limit
    values[:, 3] = 0.0101
    assert posterior_collapse(values) == 0.5
    assert feature_collapse(-values) == 0.5


def test_what_is_no_number_is_not_said_to_be_in_use():
    values = np.zeros((10, 3))
    values[4, 1] = np.nan
    assert np.isnan(posterior_collapse(values))
    assert np.isnan(feature_collapse(values))


def test_all_or_none_collapsed():
    assert feature_collapse(np.zeros((10, 3))) == 1.0
    assert posterior_collapse(np.ones((10, 3))) == 0.0
