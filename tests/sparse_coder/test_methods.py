"""Methods and encoders of SparseCoder: each holds its share, and devices change nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import jvsc
from jvsc import SparseCoder, UserError
from jvsc.model.autoencoders import AUTOENCODERS

DIGITS = load_digits().data
SMALL = {"n_components": 48, "n_samples": 5, "random_state": 0}


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.1, 0.3])
@pytest.mark.parametrize("method", AUTOENCODERS)
def test_an_autoencoder_holds_its_share_and_explains_the_data(method, sparsity, tmp_path):
    coder = SparseCoder(**SMALL, method=method, sparsity=sparsity, max_iter=100).fit(DIGITS)
    codes = coder.transform(DIGITS)
    assert np.mean(codes != 0) == pytest.approx(sparsity, rel=0.1)
    assert codes.min() == 0
    assert coder.score(DIGITS) > (0.6 if sparsity == 0.1 else 0.8)
    error = np.sum((coder.inverse_transform(codes) - DIGITS) ** 2)
    total = np.sum((DIGITS - DIGITS.mean(axis=0)) ** 2)
    assert coder.score(DIGITS) == pytest.approx(1 - error / total, abs=1e-5)
    assert not hasattr(coder, "predict_support_proba")
    coder.save(tmp_path / "model")
    np.testing.assert_array_equal(
        jvsc.load(tmp_path / "model").inverse_transform(codes[:5]),
        coder.inverse_transform(codes[:5]),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "encoder", "least"),
    [
        ("inferred_threshold", "mlp", 0.7),
        ("inferred_threshold", "linear", 0.7),
        ("inferred_threshold", "message_passing", 0.7),
        ("thresholded_laplacian", "linear", 0.4),
        ("thresholded_laplacian", "unrolled", 0.4),
        ("spike_and_slab", "unrolled", 0.3),
    ],
)
def test_an_encoder_holds_its_share_and_explains_the_data(method, encoder, least):
    coder = SparseCoder(**SMALL, method=method, encoder=encoder, max_iter=150).fit(DIGITS)
    assert 0.08 < np.mean(coder.transform(DIGITS) != 0) < 0.125
    assert coder.score(DIGITS) > least


def test_the_usual_encoder_can_be_named():
    usual, named = (
        SparseCoder(**SMALL, max_iter=1, encoder=encoder).fit(DIGITS).components_
        for encoder in (None, "unrolled")
    )
    np.testing.assert_array_equal(usual, named)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positive_code": True}, "positive_code does not apply to inferred_threshold"),
        ({"encoder": "conv"}, "encoder is 'conv'"),
        ({"encoder": "mlp", "method": "fista"}, "encoder does not apply to fista"),
        ({"encoder": "mlp", "method": "topk"}, "encoder does not apply to topk"),
        (
            {"encoder": "message_passing", "method": "gaussian"},
            "encoder='message_passing' does not apply to gaussian; give another, or method=",
        ),
        ({"refine_steps": 2, "method": "topk"}, "refine_steps does not apply to topk"),
        ({"sparsity": None, "method": "topk"}, "sparsity=None does not apply to topk"),
    ],
)
def test_what_does_not_apply_is_refused_in_one_line(given, message, without_type_checks):
    with pytest.raises(UserError, match=message) as refused:
        SparseCoder(**given).fit(DIGITS)
    assert "\n" not in str(refused.value)


def test_the_lassos_codes_may_not_be_negative_where_that_is_asked_for(tmp_path):
    given = {"method": "fista", "sparsity": 0.2, "max_iter": 20}
    coder = SparseCoder(**SMALL, **given, positive_code=True).fit(DIGITS)
    codes = coder.transform(DIGITS)
    assert codes.min() == 0
    assert np.mean(codes != 0) == pytest.approx(0.2, abs=0.01)
    assert SparseCoder(**SMALL, **given).fit_transform(DIGITS).min() < 0
    assert coder.score(DIGITS) > 0.3
    coder.save(tmp_path / "model")
    np.testing.assert_array_equal(jvsc.load(tmp_path / "model").transform(DIGITS), codes)


SCRIPT = """
import sys
import jax
import numpy as np
from sklearn.datasets import load_digits
from jvsc import SparseCoder
from jvsc.sparse_coder.fitting import local_mesh
assert len(jax.devices()) == int(sys.argv[1])
assert local_mesh(64).size == int(sys.argv[1]) and local_mesh(60 + 1).size == 1
digits = load_digits().data[:192]
found = {}
for method in ("inferred_threshold", "thresholded_laplacian", "fista", "batch_topk", "relu_l1"):
    coder = SparseCoder(
        24, method, n_samples=2, max_iter=1, batch_size=64, random_state=0
    ).fit(digits)
    found[method] = coder.components_
    found[method + "_loss"] = np.asarray(coder.loss_curve_)
np.savez(sys.argv[2], **found)
"""


@pytest.mark.slow
def test_all_devices_share_a_fit_and_change_nothing(tmp_path):
    """Over three steps: rows are float32, and their rounding grows to 5e-4 within 16."""
    found = []
    for count in (1, 4):
        environment = {**os.environ, "JAX_ENABLE_X64": "1", "JAX_NUM_CPU_DEVICES": str(count)}
        environment["PYTHONPATH"] = str(Path(jvsc.__file__).parents[1])
        file = tmp_path / f"{count}.npz"
        command = [sys.executable, "-c", SCRIPT, str(count), str(file)]
        subprocess.run(command, env=environment, check=True, timeout=400)
        found.append(np.load(file))
    for name in found[0].files:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-4)
