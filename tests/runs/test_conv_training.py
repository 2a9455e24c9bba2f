"""Conv runs through the one trainer: selection, memory, bfloat16, evaluation, continuing."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import assert_trees_equal, image_config, random_images
from test_labels import write_labelled

import jvsc.runs.pictures
import jvsc.runs.train
from jvsc.data import load_fashion_mnist
from jvsc.data.fashion_mnist import CLASSES
from jvsc.evaluation.features import classifier
from jvsc.evaluation.posterior_draws import prior_codes
from jvsc.main import run
from jvsc.model.methods import METHODS
from jvsc.model.networks import ARCHITECTURES
from jvsc.model.posteriors import Annealing, InferredThreshold
from jvsc.runs.evaluate import evaluate_run
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.runs.logs import read_metrics
from jvsc.runs.pictures import draw_run
from jvsc.runs.train import feed_arguments, train
from jvsc.runs.workdir import claim_workdir
from jvsc.training.feed import resident_feed
from jvsc.training.mesh import DATA_AXIS, make_mesh, replicate
from jvsc.training.state import init_states


@pytest.fixture
def made_up_images(monkeypatch):
    """Random images in place of Fashion-MNIST."""
    monkeypatch.setattr(jvsc.runs.train, "build_dataset", random_images)


def method_config(method, **changes):
    threshold = 0.1 if METHODS[method].rule else None
    return image_config(method=method, threshold=threshold, **changes)


@pytest.mark.parametrize(
    "method",
    [
        "fista",
        pytest.param("spike_and_slab", marks=pytest.mark.slow),
        pytest.param("thresholded_gaussian_gamma", marks=pytest.mark.slow),
    ],
)
def test_methods_train_evaluate_and_draw(method, tmp_path, made_up_images):
    config = method_config(method, seeds=(0, 1), num_samples=2, output__draw_epochs=(1,))
    train(config, tmp_path)
    dataset = random_images(config)
    evaluation = evaluate_run(config, tmp_path, dataset)
    metrics = evaluation.report["metrics"]
    assert all(np.isfinite(metrics["mse"]))
    assert metrics["validation_loss"] == pytest.approx(
        read_metrics(tmp_path)[-1]["validation_loss"], rel=1e-4
    )
    names = {path.name for path in draw_run(config, tmp_path, dataset, evaluation)}
    expected = {"reconstructions.png", "traversals.png", "estimated_dictionary.png"}
    assert names == expected | ({"prior_samples.png"} if method != "fista" else set())
    assert (tmp_path / "prior_samples_epoch_0001.png").exists() == (method != "fista")


@pytest.mark.slow
def test_labelled_images_are_probed_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classifier, "STEPS", 2)
    write_labelled(tmp_path / "idx")
    counts = {"data__num_train": 40, "data__num_validation": 20, "num_epochs": 1}
    folders = {"data__path": str(tmp_path / "idx"), "fid__cache_dir": str(tmp_path / "cache")}
    for method in ("gaussian", "thresholded_laplacian"):
        train(method_config(method, **counts, **folders), tmp_path / method)
    workdir = tmp_path / "thresholded_laplacian"
    baseline = f"--config.eval.baseline={tmp_path / 'gaussian'}"
    assert run([f"--workdir={workdir}", "--mode=evaluate", baseline]) == 0
    metrics = json.loads((workdir / "evaluation.json").read_text())["metrics"]
    tops = metrics["top_latents"][0]
    assert list(tops) == list(CLASSES)
    sizes = [[abs(r) for _, r in top] for top in tops.values()]
    assert all(size == sorted(size, reverse=True) and len(size) == 4 for size in sizes)
    for name in ("probe_accuracy", "baseline_probe_accuracy"):
        assert 0 <= metrics[name][0] <= 1
    assert "not FID" in metrics["frechet_features"][0]
    assert metrics["frechet_reconstructions"][0] > 0
    assert metrics["frechet_prior"][0] > 0
    report = (workdir / "report.html").read_text()
    for words in ("not FID", "correlated with each attribute", "the same of the baseline"):
        assert words in report
    assert (workdir / "attributes.png").stat().st_size > 1000

    other = method_config("gaussian", **counts, **folders | {"data__seed": 1})
    claim_workdir(tmp_path / "other", other)
    capsys.readouterr()
    mistaken = f"--config.eval.baseline={tmp_path / 'other'}"
    assert run([f"--workdir={workdir}", "--mode=evaluate", mistaken]) == 2
    assert "is a run on other data" in capsys.readouterr().err


@pytest.mark.slow
def test_a_conv_run_continues_where_it_stopped(tmp_path, made_up_images, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    config = method_config("thresholded_laplacian", num_samples=2, output__draw_epochs=(1,))
    whole = train(config, tmp_path / "whole").state
    with monkeypatch.context() as patch:
        patch.setattr(jvsc.runs.pictures, "draw_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts")
    assert_trees_equal(train(config, tmp_path / "parts").state, whole)
    assert [row["epoch"] for row in read_metrics(tmp_path / "parts")] == [1, 2]


def step_memory(config, num_samples, chunk):
    """Bytes of working memory of one compiled gradient step."""
    architecture = ARCHITECTURES.get(config.data.name)
    num_features = 784 if architecture else 256
    model = build_model(config, num_features)
    loss = replace(model, num_samples=num_samples, sampling_chunk=chunk).bound
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    data = jax.ShapeDtypeStruct((config.batch_size, num_features), jnp.float32)
    step = jax.jit(
        lambda variables, data: jax.grad(loss, has_aux=True)(
            *variables, data, jax.random.key(0), Annealing()
        )
    )
    return step.lower(variables, data).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", [pytest.param("fashion_mnist", marks=pytest.mark.slow), "patches"])
def test_memory_at_20_samples_is_at_most_1_3_times_that_at_one(name):
    config = image_config(data__name=name, batch_size=64, num_latents=64)
    one, twenty = step_memory(config, 1, None), step_memory(config, 20, 1)
    assert twenty <= 1.3 * one
    assert step_memory(config, 200, None) > 1.3 * one  # what the chunks are for


def test_prior_codes_are_of_the_prior_that_training_found():
    """Five standard errors of two means: fails for one key in 800,000 were they normal."""
    found = {"prior_log_scale": jnp.log(3.0), "prior_log_odds": jnp.log(0.2 / 0.8)}
    codes = np.asarray(prior_codes(InferredThreshold(0.5, 0.05), 2000, 10, found))
    sizes = np.abs(codes[codes != 0])
    assert abs((codes != 0).mean() - 0.2) < 5 * (0.2 * 0.8 / codes.size) ** 0.5
    assert abs(sizes.mean() - 3.0) < 5 * 3.0 / sizes.size**0.5


def test_prior_codes_are_sparse_as_the_prior_says():
    config = method_config("thresholded_laplacian")
    model = build_model(config, 784)
    codes = np.asarray(prior_codes(model.posterior, 2000, 10))
    expected = np.exp(-0.1 / 0.1)
    error = np.sqrt(expected * (1 - expected) / codes.size)
    assert abs((codes != 0).mean() - expected) < 5 * error


@pytest.mark.slow
def test_bfloat16_trains_as_float32_does_on_real_images(fashion_mnist):
    """200 steps of the best of two samples; the last hundred's mean loss within 3%."""
    dataset = load_fashion_mnist(str(fashion_mnist), num_train=3200, num_validation=100)
    means = {}
    for dtype in ("float32", "bfloat16"):
        config = image_config(
            compute_dtype=dtype, batch_size=32, num_samples=2, num_epochs=2, data__num_train=3200
        )
        mesh = make_mesh()
        model = build_model(config, 784, DATA_AXIS)
        optimizer = build_optimizer(config, config.steps_per_epoch)
        state = replicate(init_states(config.seeds, model, optimizer), mesh)
        arguments = feed_arguments(config, model, optimizer, dataset, mesh)
        feed = resident_feed(dataset.train, **arguments)
        for _ in range(2):
            state, metrics = feed.run_epoch(state)
        means[dtype] = float(np.mean(metrics.loss))
        assert {leaf.dtype for leaf in jax.tree.leaves(state.parameters)} == {jnp.dtype("float32")}
    assert means["bfloat16"] != means["float32"]
    assert means["bfloat16"] == pytest.approx(means["float32"], rel=0.03)


def test_the_loss_of_a_conv_model_reaches_encoder_and_generator():
    config = method_config("thresholded_laplacian", num_samples=3)
    dataset = random_images(config)
    model = build_model(config, 784)
    parameters, statistics = model.init(jax.random.key(0))
    data = jnp.asarray(dataset.train[:16] / 255, jnp.float32)
    gradient, (_, moved) = jax.jit(jax.grad(model.loss, has_aux=True))(
        parameters, statistics, data, jax.random.key(1), jnp.int32(0), 0
    )
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    for part in (gradient.encoder, gradient.generator):
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part)) > 1e-5
    changed = jax.tree.map(lambda one, other: bool((one != other).any()), moved, statistics)
    assert all(jax.tree.leaves(changed))
