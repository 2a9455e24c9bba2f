"""Signal-to-noise ratios of dense layers' gradients against a loop over whole gradients."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from models import small_config

from jvsc.evaluation.dense_gradients import dense_gradient_snr
from jvsc.metrics import gradient_snr
from jvsc.runs.factories import build_model

WIDTH = 9


def both(num_data, num_draws, **changes):
    """Ratios by data and by a loop over the same draws, as lists of arrays with their names."""
    changes = {"encoder": {"hidden": (20, 30, 16)}} | changes
    config = small_config(**changes)
    model = build_model(config, WIDTH)
    parameters, statistics = model.init(jax.random.key(0))
    data = jax.random.normal(jax.random.key(1), (num_data, WIDTH))
    annealing = model.final_annealing
    keys = jax.random.split(jax.random.key(2), num_draws)
    # The parameters are an argument, which sorts their names.
    ours = jax.jit(
        lambda parameters, keys: dense_gradient_snr(model, parameters, data, keys, annealing)
    )(parameters, keys)
    loss = lambda parameters, key: model.bound(parameters, statistics, data, key, annealing)[0]  # noqa: E731
    loop = jax.jit(partial(gradient_snr, partial(jax.grad(loss), parameters)))(keys)
    assert jax.tree.structure(ours) == jax.tree.structure(loop)
    return zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(loop), strict=True)


# Fewer draws than units, and more, which then stand for the draws by a root of their covariance.
@pytest.mark.parametrize(
    ("num_draws", "changes"),
    [
        (5, {"generator__frobenius": 0.5}),
        (60, {"num_samples": 3}),
        (60, {"encoder": {"hidden": (16,) * 11}}),
    ],
)
def test_ratios_of_a_single_datum_are_those_of_a_loop(num_draws, changes):
    for (path, found), expected in both(1, num_draws, **changes):
        # Where a gradient nearly never varies, so little is left of its variance as is rounded.
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-4, err_msg=str(path))


def test_variances_of_data_add_up_to_that_of_their_sum():
    """A deviation over 2,000 draws has a relative error of 2%, of heavy tails a few times that."""
    for (path, found), expected in both(7, 2000):
        there = np.asarray(expected) > 0.2
        ratio = np.asarray(found)[there] / np.asarray(expected)[there]
        assert np.abs(ratio - 1).max(initial=0) < 0.2, path
        assert np.mean(found) == pytest.approx(float(np.mean(expected)), rel=0.02), path


def test_layers_cut_down_to_what_is_active_lose_nothing(monkeypatch):
    """Of 80 outputs 48 are kept where no more than 45 are active, as for these data."""
    wide = {"encoder": {"hidden": (80, 64)}}
    cut = [found for (_, found), _ in both(3, 4, **wide)]
    monkeypatch.setattr("jvsc.evaluation.dense_gradients.SHARES", (1.0,))
    whole = [found for (_, found), _ in both(3, 4, **wide)]
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_several_codes_a_datum_are_refused():
    with pytest.raises(ValueError, match="of several codes"):
        list(both(1, 2, num_samples=3, sampling="avg"))


def test_an_encoder_of_other_layers_is_refused():
    config = small_config()
    model = build_model(config, WIDTH)
    other = replace(model, encoder=model.encoder._replace(layers=None))
    with pytest.raises(ValueError, match="not made of dense layers"):
        dense_gradient_snr(
            other, model.init(jax.random.key(0))[0],
            jax.numpy.ones((1, WIDTH)), jax.random.split(jax.random.key(0), 2),
            model.final_annealing,
        )  # fmt: skip
