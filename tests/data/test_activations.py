"""Activations from files and shards: their normalisation, training on them, and encoding."""

import gc
import json

import jax
import numpy as np
import pytest
from models import assert_trees_equal, small_config
from rich.console import Console
from safetensors.numpy import save_file

import jvsc.data.rows
from jvsc.data import load_activations
from jvsc.errors import UserError
from jvsc.evaluation.inference import inference_key
from jvsc.main import run
from jvsc.runs.factories.models import build_infer
from jvsc.runs.report.gallery import read_gallery
from jvsc.runs.train import train
from jvsc.runs.trained_model import load

D = 12
QUIET = Console(quiet=True)


@pytest.fixture
def array():
    """Rows whose dimensions differ in mean and size."""
    random = np.random.default_rng(0)
    mixed = random.laplace(size=(700, 20)) @ random.normal(size=(20, D)) * np.linspace(0.5, 3, D)
    return (mixed + 100).astype(np.float32)


@pytest.fixture
def shards(array, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    np.save(folder / "0.npy", array[:300])
    save_file({"activations": array[300:]}, folder / "1.safetensors")
    return folder


def test_activations_are_centred_and_their_mean_squared_norm_is_d(array, shards):
    dataset = load_activations(str(shards), num_train=500, num_validation=150)
    train_rows = np.asarray(dataset.train)
    np.testing.assert_allclose(train_rows.mean(axis=0), 0, atol=1e-4)
    assert np.mean(np.sum(train_rows.astype(np.float64) ** 2, axis=1)) == pytest.approx(D, rel=1e-4)
    centred = array[:500] - array[:500].mean(axis=0, dtype=np.float64)
    factor = np.sqrt(np.mean(np.sum(centred**2, axis=1)) / D)
    np.testing.assert_allclose(train_rows, centred / factor, atol=1e-4)
    # The training's factor, on the last rows.
    expected = (array[550:] - array[:500].mean(axis=0, dtype=np.float64)) / factor
    np.testing.assert_allclose(dataset.validation, expected, atol=1e-4)
    assert dataset.shape == (D,)


def config_for(path, **changes):
    settings = {
        "data__name": "activations",
        "data__path": str(path),
        "data__num_train": 500,
        "data__num_validation": 150,
        "num_epochs": 2,
        "encoder__hidden": (16,),
        "eval__mutual_information": False,
    }
    return small_config(**(settings | changes))


@pytest.mark.slow
def test_streamed_training_is_that_on_the_device(shards, tmp_path):
    """The same numbers, whether or not the data are said to fit."""
    states = []
    for fraction in (0.5, 0.0):
        config = config_for(shards, data__device_memory_fraction=fraction)
        states.append(train(config, tmp_path / str(fraction), QUIET).state)
    for one, other in zip(*map(jax.tree.leaves, [s.parameters for s in states]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_run_on_activations_is_evaluated_and_encodes_without_its_data(shards, tmp_path, capsys):
    workdir = tmp_path / "run"
    write_tokens(shards / "tokens.jsonl", 700)
    config = config_for(shards, method="topk", threshold=None, autoencoder__active=5)
    validation = train(config, workdir, QUIET).dataset.validation
    assert run(["--mode=evaluate", f"--workdir={workdir}"]) == 0
    assert "explained variance" in capsys.readouterr().out
    gallery = read_gallery(workdir)
    assert gallery is not None
    assert not gallery["has_probabilities"]
    # Validation rows are the last 150 of the matrix; a latent's largest datum has its own token.
    for latent in gallery["latents"]:
        for datum, _ in latent["strongest"]:
            assert gallery["contexts"][str(datum)][1] == f" {550 + datum}"
    assert " 549" not in {token for _, token, _ in gallery["contexts"].values()}
    assert "<mark>" not in (workdir / "report.html").read_text()
    raw = np.concatenate([np.load(shards / "0.npy")])
    trained = load(workdir)
    infer = build_infer(config, trained.model)
    key = inference_key(config.eval.seed)
    expected = infer(trained.parameters, trained.statistics, validation, key).codes
    np.testing.assert_array_equal(trained.encode_normalised(validation), expected)
    for file in shards.iterdir():
        file.unlink()
    codes = load(workdir).encode(raw)
    assert codes.shape == (300, 24)
    assert np.count_nonzero(codes, axis=1).max() <= 5
    assert_trees_equal(codes, trained.encode(raw))


def write_tokens(file, count):
    """Texts of 7 tokens, each the number of its row."""
    tokens = [f" {row}" for row in range(count)]
    lines = [json.dumps(tokens[first : first + 7]) for first in range(0, count, 7)]
    file.write_text("\n".join(lines) + "\n")


def test_tokens_beside_a_matrix_are_those_of_its_rows(array, tmp_path):
    np.save(tmp_path / "x.npy", array)
    assert load_activations(str(tmp_path / "x.npy"), num_train=9, num_validation=9).read_tokens is (
        None
    )
    write_tokens(tmp_path / "x.tokens.jsonl", 700)
    dataset = load_activations(str(tmp_path / "x.npy"), num_train=500, num_validation=150)
    assert dataset.read_tokens is not None
    tokens = dataset.read_tokens()
    # Row 550 is the fifth token of its text, 553 the first of the next; 699 the last of all.
    assert tokens.context(0, 2) == (" 548 549", " 550", " 551 552")
    assert tokens.context(3, 2) == ("", " 553", " 554 555")
    assert tokens.context(149, 2) == (" 697 698", " 699", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a"]\n', "has 1 tokens, but there are 700 rows"),
        ('["a"]\n["b", 3]\n', r"x.tokens.jsonl, line 2: give a text a line, as a JSON array"),
        ("a b c\n", "line 1: give a text a line"),
    ],
)
def test_tokens_that_do_not_fit_are_named(text, message, array, tmp_path):
    np.save(tmp_path / "x.npy", array)
    (tmp_path / "x.tokens.jsonl").write_text(text)
    dataset = load_activations(str(tmp_path / "x.npy"), num_train=500, num_validation=150)
    assert dataset.read_tokens is not None
    with pytest.raises(UserError, match=message):
        dataset.read_tokens()


def test_more_files_than_are_held_open_are_read(array, tmp_path, monkeypatch):
    monkeypatch.setattr(jvsc.data.rows, "MOST_OPEN", len(jvsc.data.rows._OPEN) + 2)
    for number, part in enumerate(np.array_split(array, 7)):
        np.save(tmp_path / f"{number}.npy", part)
    rows, _ = jvsc.data.rows.open_rows(tmp_path, "data.path")
    chosen = np.random.default_rng(0).permutation(len(array))
    np.testing.assert_array_equal(rows[chosen], array[chosen])
    del rows
    gc.collect()
    assert len(jvsc.data.rows._OPEN) == jvsc.data.rows.MOST_OPEN - 2


def test_all_rows_are_read_in_parts(array, shards, monkeypatch):
    rows = load_activations(str(shards), num_train=500, num_validation=150).train
    assert isinstance(rows, jvsc.data.rows.Rows)
    whole = rows[:]
    monkeypatch.setattr(jvsc.data.rows, "PART_BYTES", 4 * D * 33)
    np.testing.assert_array_equal(np.asarray(rows), whole)
    assert np.asarray(rows, np.float64).dtype == np.float64


MISTAKES = [
    ({}, "data.path is missing"),
    ({"path": "nowhere"}, "there is no such file or folder"),
    ({"num_train": 600}, "has 700 rows, fewer than"),
    ({"nan": 3}, "row 3 holds a number that is not finite"),
    ({"nan": 650}, "the validation rows hold numbers"),
    ({"constant": True}, "all rows are the same"),
    ({"width": 0}, "rows without numbers"),
    (
        {"axes": (7, 100, -1)},
        r"an array \[7, 100, \d+\]; give one \[N, D\], which reshape",
    ),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_a_mistake_in_activations_is_told(change, message, array, tmp_path):
    if "nan" in change:
        array[change["nan"], 2] = np.nan
    if "constant" in change:
        array[:] = 1
    if "width" in change:
        array = array[:, : change["width"]]
    np.save(tmp_path / "x.npy", array.reshape(change.get("axes", array.shape)))
    path = change.get("path", str(tmp_path / "x.npy")) if change else ""
    with pytest.raises(UserError, match=message):
        load_activations(path, num_train=change.get("num_train", 500), num_validation=150)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.float32])
@pytest.mark.parametrize("offset", [0, 1e5, -1e8, 1e12])
def test_activations_far_from_zero_keep_their_digits(offset, dtype, array, tmp_path):
    """As far as the file's own type has them: the mean goes off before they become float32."""
    near = np.round(1000 * array.astype(np.float64))
    stored = (near + offset).astype(dtype)
    near = stored.astype(np.float64) - offset
    for parts in (1, 3):
        folder = tmp_path / str(parts)
        folder.mkdir()
        for index, part in enumerate(np.array_split(stored, parts)):
            np.save(folder / f"{index}.npy", part)
        dataset = load_activations(str(folder), num_train=500, num_validation=150)
        train = near[:500]
        scale = np.sqrt(np.mean((train - train.mean(axis=0)) ** 2))
        expected = (near - train.mean(axis=0)) / scale
        np.testing.assert_allclose(dataset.train[:], expected[:500], atol=1e-4)
        np.testing.assert_allclose(dataset.validation, expected[-150:], atol=1e-4)
        assert dataset.validation.dtype == np.float32
        assert dataset.normalisation is not None
        assert (dataset.normalisation.mean.dtype == np.float64) == (abs(offset) >= 1e8)
        back = dataset.normalisation.undo(dataset.validation)
        np.testing.assert_allclose(back - offset, near[-150:], atol=1.0)
