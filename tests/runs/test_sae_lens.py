"""Sparse autoencoders in SAELens' layout: the same codes and reconstructions of original data."""

import json

import numpy as np
import pytest
from models import small_config
from rich.console import Console
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from jvsc import SparseCoder
from jvsc.errors import UserError
from jvsc.main import EXIT_USER_ERROR, run
from jvsc.runs.sae_lens import ARCHITECTURES, SETTINGS_FILE, WEIGHTS_FILE, save_sae_lens
from jvsc.runs.train import train
from jvsc.runs.trained_model import TrainedModel, load

ACTIVE = 4


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def workdir(request, tmp_path_factory):
    """A run of each method on data of means and scales of their own."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    changes = {"autoencoder__active": ACTIVE, "autoencoder__initial_threshold": 0.02}
    config = small_config(method=request.param, num_epochs=2, threshold=None, **changes)
    train(config, folder, Console(quiet=True))
    return folder


@pytest.fixture
def exported(workdir, tmp_path):
    arguments = [f"--workdir={workdir}", f"--output={tmp_path / 'sae'}", "--layout=sae_lens"]
    assert run(["--mode=export", *arguments]) == 0
    return tmp_path / "sae"


def original_data(trained: TrainedModel):
    data = np.random.default_rng(0).normal(size=(200, trained.num_features))
    return trained.normalisation.undo(data.astype(np.float32))


def codes_and_data(folder, data, method):
    """Codes and reconstructions by the layout's formulas."""
    settings = json.loads((folder / SETTINGS_FILE).read_text())
    assert settings["architecture"] == ARCHITECTURES[method]
    assert (settings["d_in"], settings["d_sae"]) == (64, 24)
    weights = load_file(folder / WEIGHTS_FILE)
    codes = (data - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    codes = np.where(codes > weights.get("threshold", 0), codes, 0)
    if method == "topk":
        assert settings["k"] == ACTIVE
        codes[codes < np.sort(codes)[:, [-ACTIVE]]] = 0
    return codes, codes @ weights["W_dec"] + weights["b_dec"]


def test_the_layouts_formulas_give_the_models_codes(workdir, exported):
    trained = load(workdir)
    data = original_data(trained)
    codes, found = codes_and_data(exported, data, trained.config.method)
    expected = trained.encode(data)
    assert 0 < np.mean(expected != 0) < 1
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, trained.decode(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", sorted(ARCHITECTURES))
def test_an_estimator_is_written_too(method, tmp_path):
    data = load_digits().data + 100
    coder = SparseCoder(24, method, sparsity=ACTIVE / 24, random_state=0, max_iter=3).fit(data)
    coder.save(tmp_path / "sae", layout="sae_lens")
    codes, found = codes_and_data(tmp_path / "sae", data, method)
    expected = coder.transform(data)
    assert 0 < np.mean(expected != 0) < 1
    np.testing.assert_allclose(codes, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found, coder.inverse_transform(expected), rtol=1e-3, atol=1e-2)
    with pytest.raises(UserError, match="sae is there already"):
        coder.save(tmp_path / "sae", layout="sae_lens")


def test_an_estimator_that_the_layout_has_no_place_for_is_refused(tmp_path):
    data = load_digits().data[:100]
    coder = SparseCoder(24, "lasso", max_iter=1, random_state=0).fit(data)
    with pytest.raises(UserError, match="not for lasso; leave it out"):
        coder.save(tmp_path / "sae", layout="sae_lens")
    with pytest.raises(UserError, match="layout is 'saelens'; give one of jvsc, sae_lens"):
        coder.save(tmp_path / "sae", layout="saelens")
    huge = SparseCoder(24, "topk", max_iter=1, random_state=0).fit(data * 1e200)
    with pytest.raises(UserError, match="float32 has no room"):
        huge.save(tmp_path / "sae", layout="sae_lens")
    assert not (tmp_path / "sae").exists()


def test_saelens_reads_it(workdir, exported):
    sae_lens, torch = pytest.importorskip("sae_lens"), pytest.importorskip("torch")
    trained = load(workdir)
    sae = sae_lens.SAE.load_from_disk(str(exported), device="cpu")
    data = original_data(trained)
    with torch.no_grad():
        codes = sae.encode(torch.from_numpy(data))
        found = sae.decode(codes).numpy()
    expected = trained.encode(data)
    np.testing.assert_allclose(codes.numpy(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, trained.decode(expected), rtol=1e-4, atol=1e-4)


def test_other_methods_are_refused(tmp_path, capsys):
    config = small_config(num_epochs=1)
    train(config, tmp_path / "run", Console(quiet=True))
    with pytest.raises(UserError, match="relu_l1, topk, not for thresh"):
        save_sae_lens(load(tmp_path / "run"), tmp_path / "sae")
    assert not (tmp_path / "sae").exists()
    arguments = [f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'sae'}", "--layout=other"]
    assert run(["--mode=export", *arguments]) == EXIT_USER_ERROR
    assert "jvsc|sae_lens" in capsys.readouterr().err
