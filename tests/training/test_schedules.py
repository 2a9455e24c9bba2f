"""Schedules at their corners."""

import numpy as np
import pytest

from jvsc.training.schedules import exponential_decay, one_cycle, temperature, warmup


def test_one_cycle_rises_over_5_percent_and_falls_on_a_cosine():
    schedule = one_cycle(0.01, 1000)
    assert float(schedule(0)) == pytest.approx(0.01 / 25, rel=1e-5)
    assert float(schedule(25)) == pytest.approx((0.01 / 25 + 0.01) / 2, rel=1e-5)
    assert float(schedule(50)) == pytest.approx(0.01, rel=1e-6)
    assert float(schedule(50 + 475)) == pytest.approx((0.01 + 0.01 / 25e4) / 2, rel=1e-4)
    assert float(schedule(1000)) == pytest.approx(0.01 / 25e4, rel=1e-3)


def test_dictionary_rate_falls_by_a_factor_an_epoch():
    schedule = exponential_decay(0.5, 0.99, 800)
    np.testing.assert_allclose([schedule(0), schedule(799)], 0.5, rtol=1e-6)
    np.testing.assert_allclose(schedule(800), 0.495, rtol=1e-6)
    np.testing.assert_allclose(schedule(800 * 299), 0.5 * 0.99**299, rtol=1e-5)


def test_warmup_waits_then_grows_to_one():
    values = [float(warmup(step, 0.1, 1500, 2e-4)) for step in (0, 1500, 1501, 4000, 6000, 9000)]
    np.testing.assert_allclose(values, [0.1, 0.1, 0.1002, 0.6, 1.0, 1.0], rtol=1e-5)


def test_temperature_falls_to_its_minimum():
    assert float(temperature(0, 0.9995, 0.5)) == 1.0
    assert float(temperature(100, 0.9995, 0.5)) == pytest.approx(0.9995**100, rel=1e-5)
    assert float(temperature(5000, 0.9995, 0.5)) == 0.5
