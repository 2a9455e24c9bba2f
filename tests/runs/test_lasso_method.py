"""method=lasso through a run: training, interruption, evaluation, codes of files, export."""

import io
import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from models import assert_trees_equal, small_config
from rich.console import Console
from scipy import sparse

import jvsc
import jvsc.runs.train
from jvsc.errors import InterruptedRunError, UserError
from jvsc.main import run
from jvsc.metrics import explained_variance
from jvsc.runs.evaluate import evaluate_run
from jvsc.runs.factories import build_dataset
from jvsc.runs.factories.models import build_online_step
from jvsc.runs.logs import read_metrics
from jvsc.runs.needs import check_needs
from jvsc.runs.train import train
from jvsc.solvers.online_dictionary import DictionaryMoments

CONFIG = Path(__file__).parents[2] / "configs" / "patches.py"
QUIET = Console(quiet=True)
LASSO = {
    "method": "lasso", "threshold": None, "fista__penalty": 1.5, "generator__start": "data"
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds, and its folder."""
    workdir = tmp_path_factory.mktemp("lasso")
    config = small_config(**LASSO, seeds=(0, 1))
    return config, workdir, train(config, workdir, QUIET).state


def test_the_objective_falls_and_atoms_have_norm_1(trained):
    config, workdir, state = trained
    rows = read_metrics(workdir)
    assert (np.asarray(state.step) == 4 * config.steps_per_epoch).all()
    for seed in range(2):
        assert 0.05 < rows[-1]["nonzero_fraction"][seed] < 0.5
        assert rows[-1]["loss"][seed] < rows[0]["loss"][seed]
        assert rows[-1]["validation_loss"][seed] < rows[0]["validation_loss"][seed]
    norms = np.linalg.norm(np.asarray(state.parameters.generator), axis=-1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert (np.asarray(state.optimizer.num_batches) == np.asarray(state.step)).all()


def test_a_run_ended_within_an_epoch_goes_on_to_the_bit(trained, tmp_path, monkeypatch):
    config, whole, state = trained
    calls = []

    def signalling(config):
        step = build_online_step(config)

        def signalling_step(*arguments):
            calls.append(1)
            if len(calls) == 50:  # of two seeds, so in the second epoch
                os.kill(os.getpid(), signal.SIGTERM)
            return step(*arguments)

        return signalling_step

    with monkeypatch.context() as patch:
        patch.setattr(jvsc.runs.train, "build_online_step", signalling)
        with pytest.raises(InterruptedRunError, match=r"after step \d+, which is kept"):
            train(config, tmp_path, QUIET)
    assert (tmp_path / "unfinished_epoch").is_dir()
    assert 0 < len(read_metrics(tmp_path)) < 4
    assert_trees_equal(train(config, tmp_path, QUIET).state, state)
    for mine, theirs in zip(read_metrics(tmp_path), read_metrics(whole), strict=True):
        for name in mine.keys() - {"seconds", "steps_per_second"}:
            assert mine[name] == theirs[name]


def test_an_evaluation_has_fistas_measures_at_the_optimum(trained):
    config, workdir, _ = trained
    evaluate_run(config, workdir)
    metrics = json.loads((workdir / "evaluation.json").read_text())["metrics"]
    logged = read_metrics(workdir)[-1]["validation_loss"]
    np.testing.assert_allclose(metrics["validation_loss"], logged, rtol=2e-3)
    for seed in range(2):
        of = {name: values[seed] for name, values in metrics.items()}
        assert of["fista_optimum"] == pytest.approx(of["validation_loss"])
        assert of["fista_gap"] < 1e-3
        assert of["validation_loss"] == pytest.approx(of["reconstruction"] + of["l1"])
        assert of["validation_loss"] < of["zero_code_loss"]
        assert 0.2 < of["explained_variance"] < 1
        assert of["kl"] is None
    assert "iwae" not in metrics


def test_a_trained_run_is_read_exported_and_codes_as_it_is_evaluated(
    trained, tmp_path, without_type_checks
):
    config, workdir, _ = trained
    model, validation = jvsc.load(workdir, seed=1), build_dataset(config).validation
    data = model.normalisation.undo(validation)
    codes = model.encode(data)
    inferred = json.loads((workdir / "evaluation.json").read_text())["metrics"]
    left = np.mean((validation - codes @ np.asarray(model.parameters.generator)) ** 2, axis=1)
    assert explained_variance(validation, left) == pytest.approx(
        inferred["explained_variance"][1], rel=1e-4
    )
    model.save(tmp_path / "model")
    loaded = jvsc.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(data), codes)
    exported = jax.export.deserialize((tmp_path / "model" / "encoder.stablehlo").read_bytes())
    found = np.asarray(exported.call(np.asarray(data, np.float32), np.int32(0)))
    np.testing.assert_allclose(found, codes, atol=0.05)  # two solvers, to a gap of 1e-5


def test_the_command_trains_reports_encodes_decodes_and_exports(tmp_path, capsys):
    workdir, data = tmp_path / "run", np.random.default_rng(0).normal(size=(70, 64))
    np.save(tmp_path / "data.npy", data.astype(np.float32))
    settings = {
        "num_epochs": 2, "batch_size": 50, "num_latents": 24, "seeds": "(0,)", "lasso.forgetting":
        2.0, "data.patch_size": 8, "data.num_train": 500, "data.num_validation": 100,
        "early_stopping.patience": 5,
    }  # fmt: skip
    given = [f"--config.{key}={value}" for key, value in settings.items()]
    assert run([f"--config={CONFIG}:lasso", f"--workdir={workdir}", *given]) == 0
    assert "FISTA's optimum, same dictionary" in capsys.readouterr().out
    assert "lasso" in (workdir / "report.html").read_text()
    assert (workdir / "dictionary.png").is_file()
    for mode, source, target in (
        ("encode", "data.npy", "codes.npz"),
        ("decode", "codes.npz", "again.npy"),
    ):
        files = [f"--input={tmp_path / source}", f"--output={tmp_path / target}"]
        assert run([f"--mode={mode}", f"--workdir={workdir}", *files]) == 0
    codes = sparse.load_npz(tmp_path / "codes.npz").toarray()
    np.testing.assert_array_equal(codes, jvsc.load(workdir).encode(data.astype(np.float32)))
    assert np.load(tmp_path / "again.npy").shape == data.shape
    assert run(["--help"]) == 0
    assert "lasso.positive_codes" in capsys.readouterr().out


def test_codes_and_atoms_that_are_not_negative(tmp_path):
    positive = {"lasso__positive_codes": True, "lasso__positive_atoms": True}
    config = small_config(**LASSO, **positive, lasso__bounded_atoms=True, num_epochs=2)
    state = train(config, tmp_path, QUIET).state
    atoms = np.asarray(state.parameters.generator[0])
    assert (atoms >= 0).all()
    assert np.linalg.norm(atoms, axis=1).max() < 1 + 1e-5
    evaluate_run(config, tmp_path)
    metrics = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    assert metrics["fista_optimum"] == pytest.approx(metrics["validation_loss"])
    codes = jvsc.load(tmp_path).encode_normalised(build_dataset(config).validation)
    assert (codes >= 0).all()
    assert (codes > 0).any()


def test_forgetting_nothing_sums_all_batches():
    step = build_online_step(small_config(**LASSO, lasso__forgetting=0.0))
    data = np.random.default_rng(0).normal(size=(2, 50, 64)).astype(np.float32)
    atoms, moments = np.eye(24, 64, dtype=np.float32), DictionaryMoments.empty(24, 64)
    expected = np.zeros((24, 24))
    for batch in data:
        atoms, moments, codes = step(atoms, moments, batch, 0.5)
        expected += codes.T @ codes
    np.testing.assert_allclose(moments.codes, expected, rtol=1e-5, atol=1e-5)


def test_a_penalty_that_leaves_no_code_is_named_at_the_end(tmp_path):
    for penalty, told in ((1e4, True), (1.5, False)):
        config = small_config(**LASSO | {"fista__penalty": penalty}, num_epochs=1)
        console = Console(file=io.StringIO())
        train(config, tmp_path / str(penalty), console)
        said = "no code of the last epoch had a non-zero; lower fista.penalty, which is 10000"
        assert (said in console.file.getvalue()) == told


def test_early_stopping_ends_a_run(tmp_path):
    config = small_config(
        **LASSO, num_epochs=9, early_stopping__patience=2, early_stopping__min_delta=1e9
    )
    train(config, tmp_path, QUIET)
    assert len(read_metrics(tmp_path)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 0.1}, "sparsity does not apply to lasso; leave it out"),
        ({"data__name": "fashion_mnist"}, "lasso is for patches or activations, not for"),
        ({"generator__initial_norm": 2.0}, "initial_norm is 2.0, but lasso's atoms have norm 1"),
        ({"method": "fista", "lasso__positive_codes": True}, "lasso does not apply to fista"),
        ({"lasso__forgetting": -1.0}, r"lasso.forgetting is -1.0: must be a number >= 0"),
        ({"lasso__positive": True}, "unknown key 'lasso.positive'; did you mean"),
        ({"lasso__bounded_atoms": 1}, "lasso.bounded_atoms is 1: must be True or False"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as told:
        small_config(**(LASSO | changes))
    assert "\n" not in str(told.value)


def test_moments_count_among_what_a_run_needs():
    check_needs(small_config(method="fista", threshold=None, num_latents=10**6))
    with pytest.raises(UserError, match="num_latents: would take"):
        check_needs(small_config(**LASSO, num_latents=10**6))


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="method=lasso learns on one host"):
        train(small_config(**LASSO), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()
