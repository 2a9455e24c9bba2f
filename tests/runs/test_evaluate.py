"""Measures of a run: what is written, and that it is right."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import CODED_METHODS, EXPLAINING, small_config, small_model

from jvsc.evaluation.code_measures import measure_dictionary
from jvsc.evaluation.inference import in_chunks, make_infer, make_validate
from jvsc.main import run
from jvsc.metrics import multi_information
from jvsc.metrics.multi_information import bin_edges
from jvsc.model.methods import METHODS
from jvsc.runs.evaluate import evaluate_run
from jvsc.runs.factories import build_dataset
from jvsc.runs.train import train
from jvsc.solvers import fista
from jvsc.solvers.fista import refine, spectral_norm_bound


def test_objective_10_and_its_parts_are_those_of_the_formula():
    random = np.random.default_rng(0)
    data, codes = random.normal(size=(50, 9)), random.normal(size=(50, 7))
    codes[codes < 0.5] = 0
    dictionary = random.normal(size=(7, 9))
    data32, codes32 = data.astype(np.float32), codes.astype(np.float32)
    measures = measure_dictionary(
        data32, codes32, jax.numpy.asarray(dictionary, np.float32), 20.0, 0 * codes32
    )
    reconstruction = 0.5 * ((data - codes @ dictionary) ** 2).sum(1).mean()
    l1 = 20 * np.abs(codes).sum(1).mean()
    assert measures["reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
    assert measures["l1"] == pytest.approx(l1, rel=1e-5)
    assert measures["validation_loss"] == pytest.approx(reconstruction + l1, rel=1e-5)
    for zero in ("fista_optimum", "zero_code_loss"):  # the optimum given here is all zero
        assert measures[zero] == pytest.approx(0.5 * (data**2).sum(1).mean(), rel=1e-5)


def test_refinement_takes_the_steps_of_proximal_gradient():
    random = np.random.default_rng(0)
    data, dictionary = random.normal(size=(7, 5)), random.normal(size=(4, 5))
    codes = random.normal(size=(7, 4))
    arrays = [np.float32(array) for array in (data, dictionary, codes)]
    found = refine(arrays[0], arrays[1], 0.3, arrays[2], 1)
    # The solver's step length is an upper bound's of the Lipschitz constant, so it is read off
    # `spectral_norm_bound`; a first step has no momentum.
    step = 1 / float(spectral_norm_bound(jnp.asarray(dictionary @ dictionary.T)))
    moved = codes + step * (data - codes @ dictionary) @ dictionary.T
    expected = np.sign(moved) * np.maximum(np.abs(moved) - 0.3 * step, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    many = refine(arrays[0], arrays[1], 0.3, arrays[2], 500)
    optimum = fista(arrays[0], arrays[1], 0.3, tolerance=1e-6).codes
    np.testing.assert_allclose(many, optimum, atol=1e-3)


@pytest.mark.parametrize("count", [1, 99, 100, 101, 230])
def test_chunks_drop_and_double_nothing(count):
    data = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    doubled, places = in_chunks(
        lambda rows, first: (2 * rows, first + np.arange(len(rows))), data, 100
    )
    np.testing.assert_array_equal(doubled, 2 * data)
    np.testing.assert_array_equal(places, np.arange(count))


def test_inferred_codes_do_not_depend_on_the_chunk():
    model = replace(small_model(), num_samples=5)
    variables = model.init(jax.random.key(0))
    data = np.random.default_rng(0).normal(size=(37, 16)).astype(np.float32)

    whole, parts = (
        make_infer(model, chunk)(*variables, data, jax.random.key(1)) for chunk in (37, 10)
    )
    np.testing.assert_allclose(whole.codes, parts.codes, atol=1e-5)
    # What a training is validated by is computed where the codes are.
    losses = make_validate(model, 10)(*variables, data, jax.random.key(1))
    np.testing.assert_allclose(losses, parts.validation_loss, rtol=1e-5)
    expected = 8 * parts.squared_error + model.penalty * np.abs(parts.codes).sum(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


# `make test-slow` tries every method.
TRIED = ("thresholded_laplacian",)


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in TRIED else pytest.mark.slow) for name in CODED_METHODS],
)
def test_every_method_trains_and_evaluates(method, tmp_path):
    threshold = 0.25 if METHODS[method].rule else None
    config = small_config(method=method, threshold=threshold, num_epochs=2, seeds=(0, 4))
    train(config, tmp_path)
    evaluate_run(config, tmp_path)
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["seeds"] == [0, 4]
    assert report["method"] == method
    assert report["num_samples"] == 1
    metrics = report["metrics"]
    for name, values in metrics.items():
        assert len(values) == 2, name
    assert ("iwae" in metrics) == (method != "fista")
    for index in range(2):
        of = {name: values[index] for name, values in metrics.items()}
        assert of["validation_loss"] == pytest.approx(of["reconstruction"] + of["l1"])
        assert of["fista_optimum"] <= of["validation_loss"] * (1 + 1e-4)
        assert of["fista_optimum"] <= of["zero_code_loss"] * (1 + 1e-4)
        assert (of["kl"] is None) == (method == "fista")
        if method == "fista":
            assert of["fista_optimum"] == pytest.approx(of["validation_loss"])


@pytest.mark.parametrize(
    "given",
    [
        {"sampling": "exact"},
        pytest.param(
            {"method": "inferred_threshold", "threshold": None, "sparsity": 0.1},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            EXPLAINING | {"encoder__name": "mlp", "encoder__learning_rate": 1e-4},
            marks=pytest.mark.slow,
            id="inferred, exact",
        ),
    ],
)
def test_a_dense_encoder_is_evaluated_whatever_its_bound(given, tmp_path):
    """What nothing is drawn for has no noise in its gradient."""
    config = small_config(num_epochs=1, **given)
    train(config, tmp_path)
    evaluate_run(config, tmp_path)
    metrics = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    assert np.isfinite(metrics["iwae"]).all()
    assert ("encoder_snr" in metrics) == (config.sampling == "max")
    assert max(metrics.get("encoder_snr", [0])) < 100


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ("max", "the best of 3 draws"),
        pytest.param("avg", "one draw", marks=pytest.mark.slow),
        pytest.param("iwae", "weight", marks=pytest.mark.slow),
    ],
)
def test_an_evaluation_says_how_its_codes_were_inferred(sampling, words, tmp_path, capsys):
    config = small_config(num_epochs=1, num_samples=3, sampling=sampling)
    train(config, tmp_path)
    capsys.readouterr()
    assert run([f"--workdir={tmp_path}", "--mode=evaluate"]) == 0
    assert words in " ".join(capsys.readouterr().out.split())
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert words in report["codes"]
    assert words in (tmp_path / "report.html").read_text()
    assert ("best_draw_loss" in report["metrics"]) == (sampling != "max")


def test_the_zero_code_scores_half_the_datas_energy(tmp_path):
    config = small_config(num_epochs=1)
    train(config, tmp_path)
    validation = build_dataset(config).validation
    value = evaluate_run(config, tmp_path).report["metrics"]["zero_code_loss"][0]
    assert value == pytest.approx(0.5 * (validation.astype(float) ** 2).sum(1).mean(), rel=1e-6)


@pytest.mark.slow
def test_an_evaluation_repeats_itself(tmp_path):
    config = small_config(num_samples=4)
    train(config, tmp_path)
    assert evaluate_run(config, tmp_path).report == evaluate_run(config, tmp_path).report


def test_the_command_ends_with_a_table_and_the_pictures_it_drew(tmp_path, capsys):
    config = small_config(num_epochs=2)
    train(config, tmp_path)
    capsys.readouterr()
    assert run([f"--workdir={tmp_path}", "--mode=evaluate"]) == 0
    told = capsys.readouterr().out
    for words in ("validation loss", "non-zeros", "reconstruction term", "FISTA's optimum"):
        assert words in told
    for name in ("training.png", "dictionary.png", "reconstructions.png", "evaluation.json"):
        assert str(tmp_path / name) in told.splitlines()
        assert (tmp_path / name).stat().st_size > 500


# Multi-information


def test_bins_are_those_of_the_specification():
    edges = bin_edges(20)
    assert len(edges) == 22
    np.testing.assert_allclose(edges[:10], np.linspace(-2, 2, 20)[:10])
    assert np.digitize([-1e-30, 0.0, 1e-30], edges).tolist() == [10, 11, 12]


def test_independent_codes_have_no_multi_information():
    codes = np.random.default_rng(0).choice([0.0, 0.5], size=(200_000, 3))
    # The plug-in's bias is about (states - 1) / (2 N ln 2): here 2e-5 bits.
    assert multi_information(codes) == pytest.approx(0.0, abs=2e-4)


def test_a_duplicated_latent_adds_its_whole_entropy():
    codes = np.random.default_rng(1).choice([0.0, 0.5, -1.0, 1.0], size=(100_000, 1))
    twice = np.concatenate([codes, codes], axis=1)
    assert multi_information(twice) == pytest.approx(2.0, abs=1e-3)


def test_permuting_one_latent_destroys_dependence():
    random = np.random.default_rng(2)
    codes = np.repeat(random.choice([0.0, 0.5], size=(50_000, 1)), 2, axis=1)
    permuted = codes.copy()
    permuted[:, 1] = random.permutation(permuted[:, 1])
    assert multi_information(codes) == pytest.approx(1.0, abs=1e-3)
    assert multi_information(permuted) == pytest.approx(0.0, abs=1e-3)


def test_multi_information_agrees_with_a_second_computation():
    random = np.random.default_rng(3)
    codes = random.normal(size=(3000, 4)) * (random.uniform(size=(3000, 4)) < 0.3)
    digits = np.digitize(codes, bin_edges(20))

    def entropy_of(rows):
        from collections import Counter

        counts = np.array(list(Counter(map(tuple, rows)).values())) / len(rows)
        return -(counts * np.log2(counts)).sum()

    expected = sum(entropy_of(digits[:, [k]]) for k in range(4)) - entropy_of(digits)
    assert multi_information(codes) == pytest.approx(expected)
