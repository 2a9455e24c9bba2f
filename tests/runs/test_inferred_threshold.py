"""The inferred threshold through a run: training, continuation, evaluation, export."""

import json

import jax
import numpy as np
import pytest
from models import EXPLAINING, assert_trees_equal, image_config, random_images, small_config

import jvsc
import jvsc.runs.train
from jvsc.errors import UserError
from jvsc.runs.evaluate import evaluate_run
from jvsc.runs.factories import build_dataset
from jvsc.runs.logs import read_metrics
from jvsc.runs.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds, and its folder."""
    workdir = tmp_path_factory.mktemp("explaining")
    config = small_config(**EXPLAINING, seeds=(0, 1), num_epochs=8)
    return config, workdir, train(config, workdir).state


def test_the_controller_holds_the_share_and_the_loss_falls(trained):
    _, workdir, state = trained
    rows = read_metrics(workdir)
    for seed in range(2):
        assert 0.05 < rows[-1]["nonzero_fraction"][seed] < 0.2
        assert rows[-1]["validation_loss"][seed] < 0.8 * rows[0]["validation_loss"][seed]
    norms = np.linalg.norm(np.asarray(state.parameters.generator), axis=-1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_a_run_stopped_and_continued_is_the_run_to_the_bit(trained, tmp_path, monkeypatch):
    config, _, whole = trained
    epochs = jvsc.runs.train.Loop.run_epoch

    def stopping(loop, *arguments):
        if loop.epoch == 3:
            raise KeyboardInterrupt
        return epochs(loop, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(jvsc.runs.train.Loop, "run_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    assert_trees_equal(train(config, tmp_path).state, whole)


def test_an_evaluation_has_a_bound_in_nats_and_no_objective_of_another_method(trained):
    config, workdir, _ = trained
    evaluate_run(config, workdir)
    metrics = json.loads((workdir / "evaluation.json").read_text())["metrics"]
    logged = read_metrics(workdir)[-1]["validation_loss"]
    np.testing.assert_allclose(metrics["validation_loss"], logged, rtol=1e-5)
    for seed in range(2):
        assert metrics["iwae"][seed] > metrics["elbo"][seed]
        assert metrics["validation_loss"][seed] < metrics["zero_code_loss"][seed]
    assert "fista_optimum" not in metrics


def test_the_exported_encoder_draws_nothing(trained, tmp_path, without_type_checks):
    config, workdir, _ = trained
    model = jvsc.load(workdir)
    data = model.normalisation.undo(build_dataset(config).validation[:50])
    codes = model.encode(data)
    # Another place in the data set has other keys, and the same code.
    np.testing.assert_array_equal(model.encode(data, first=1000), codes)
    model.save(tmp_path / "model")
    loaded = jvsc.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(data), codes)
    exported = jax.export.deserialize((tmp_path / "model" / "encoder.stablehlo").read_bytes())
    found = np.asarray(exported.call(np.asarray(data, np.float32), np.int32(0)))
    np.testing.assert_array_equal(found != 0, codes != 0)
    np.testing.assert_allclose(found, codes, atol=1e-4)
    assert "rng" not in exported.mlir_module()


@pytest.mark.parametrize("sampling", ["max", "avg", "iwae"])
def test_it_is_trained_by_draws_too(tmp_path, sampling):
    changes = {"sampling": sampling, "num_samples": 3, "num_epochs": 2}
    config = small_config(**(EXPLAINING | changes))
    state = train(config, tmp_path).state
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.parameters))


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["max", "moments"])
def test_a_conv_generator_is_trained_by_draws_and_by_moments(
    tmp_path, monkeypatch, sampling, without_type_checks
):
    monkeypatch.setattr(jvsc.runs.train, "build_dataset", random_images)
    config = image_config(
        method="inferred_threshold", threshold=None, sampling=sampling, seeds=(0, 1),
        num_samples=2 if sampling == "max" else 1,
        encoder__lifetime_sparsity=sampling == "moments", noise__rule="learned",
    )  # fmt: skip
    train(config, tmp_path)
    dataset = random_images(config)
    metrics = evaluate_run(config, tmp_path, dataset).report["metrics"]
    assert np.isfinite(metrics["mse"]).all()
    model = jvsc.load(tmp_path)
    codes = model.encode(dataset.validation)
    model.save(tmp_path / "exported")
    np.testing.assert_array_equal(
        jvsc.load(tmp_path / "exported").encode(dataset.validation), codes
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"encoder__name": "unrolled", "data__name": "fashion_mnist"}, "encoder.name=unrolled"),
        ({"sampling": "exact", "data__name": "fashion_mnist"}, "sampling=exact.*give moments"),
        ({"sampling": "moments"}, "sampling=moments.*give exact"),
        ({"encoder__lifetime_sparsity": True}, "lifetime_sparsity is for"),
        ({"sampling": "exact", "num_samples": 5}, "num_samples is 5, but sampling=exact draws no"),
        (
            {
                "encoder__lifetime_sparsity": True,
                "data__name": "fashion_mnist",
                "method": "inferred_threshold",
                "threshold": None,
            },
            "has nothing to hold; give learned or fixed",
        ),
        (
            {"sampling": "exact", "method": "thresholded_laplacian_gamma", "threshold": 0.2},
            "sampling=exact",
        ),
        ({"sampling": "exact", "method": "fista", "threshold": None}, "sampling=exact"),
    ],
)
def test_what_needs_a_dictionary_or_moments_is_refused_in_one_line(changes, told):
    with pytest.raises(UserError, match=told):
        small_config(**changes)


@pytest.mark.parametrize("encoder", ["linear", pytest.param("unrolled", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["gaussian", "spike_and_slab", "thresholded_laplacian_gamma"])
def test_the_papers_methods_take_the_other_encoders(tmp_path, method, encoder):
    config = small_config(
        method=method, encoder__name=encoder, encoder__steps=3, num_epochs=1,
        encoder__optimizer="adam", encoder__learning_rate=1e-3,
        threshold=0.25 if "thresholded" in method else None,
    )  # fmt: skip
    state = train(config, tmp_path).state
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.parameters))
