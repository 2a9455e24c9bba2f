"""A saved estimator is the same one; damaged folders are one line."""

import json
import os

import numpy as np
import pytest
from models import small_config
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

import jvsc
from jvsc import SparseCoder, UserError
from jvsc.runs.train import train
from jvsc.runs.trained_model import TrainedModel
from jvsc.sparse_coder.stored import ARRAYS_FILE, CODER_FILE

DIGITS = load_digits().data
SMALL = {"n_components": 48, "n_samples": 5, "max_iter": 2}
CASES = [
    {},
    pytest.param({"sparsity": None, "refine_steps": 2}, marks=pytest.mark.slow),
    {"method": "fista"},
    pytest.param({"method": "thresholded_laplacian", "refine_steps": 2}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("given", CASES, ids=str)
def test_a_saved_estimator_is_the_same_one(given, tmp_path):
    coder = SparseCoder(**SMALL, **given, random_state=np.random.RandomState(3))
    coder.set_params(callback=lambda state: False)
    coder.fit(DIGITS.astype(np.float32))
    coder.save(tmp_path / "model")
    for load in (SparseCoder.load, jvsc.load):
        found = load(str(tmp_path / "model"))
        assert type(found) is SparseCoder
        np.testing.assert_array_equal(found.transform(DIGITS), coder.transform(DIGITS))
        np.testing.assert_array_equal(found.components_, coder.components_)
        assert found.components_.dtype == np.float32
        assert found.score(DIGITS) == coder.score(DIGITS)
        for name in ("scale_", "n_iter_", "n_steps_", "n_features_in_", "loss_curve_"):
            assert getattr(found, name) == getattr(coder, name)
        assert getattr(found, "penalty_", None) == getattr(coder, "penalty_", None)
        kept = coder.get_params() | {"callback": None, "random_state": None}
        assert found.get_params() == kept
    found.partial_fit(DIGITS)
    coder.partial_fit(DIGITS)
    np.testing.assert_array_equal(found.components_, coder.components_)


ATOMS = np.random.default_rng(0).normal(size=(48, 64))


@pytest.mark.parametrize(
    ("given", "later"),
    [
        ({"dictionary": ATOMS}, {"dictionary": None}),
        ({}, {"dictionary": ATOMS}),
        ({}, {"method": "lasso"}),
        ({}, {"allow_nan": True}),
        ({"method": "lasso"}, {"positive_code": True}),
        ({"method": "lasso", "alpha": 0.1, "sparsity": None}, {"alpha": None, "sparsity": 0.2}),
    ],
)
def test_parameters_set_after_a_fit_change_no_saved_code(given, later, tmp_path):
    coder = SparseCoder(**SMALL | given, random_state=0).fit(DIGITS)
    codes = coder.transform(DIGITS)
    coder.set_params(**later).save(tmp_path / "model")
    found = SparseCoder.load(tmp_path / "model")
    np.testing.assert_array_equal(found.transform(DIGITS), codes)
    for name, value in later.items():
        np.testing.assert_array_equal(getattr(found, name), value)


def test_names_of_columns_are_kept(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DIGITS, columns=[f"pixel{n}" for n in range(64)])
    coder = SparseCoder(**SMALL, random_state=0).fit(frame)
    coder.save(tmp_path / "model")
    found = jvsc.load(tmp_path / "model")
    assert found.get_params() == coder.get_params()
    np.testing.assert_array_equal(found.feature_names_in_, coder.feature_names_in_)
    np.testing.assert_array_equal(found.transform(frame), coder.transform(frame))
    coder.set_output(transform="pandas").save(tmp_path / "frames")
    found = jvsc.load(tmp_path / "frames")
    pandas.testing.assert_frame_equal(found.transform(frame), coder.transform(frame))


def test_nothing_is_overwritten_and_nothing_left_half(tmp_path, monkeypatch):
    coder = SparseCoder(**SMALL)
    with pytest.raises(NotFittedError):
        coder.save(tmp_path / "model")
    coder.fit(DIGITS)
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there is there already; remove it or give another"):
        coder.save(tmp_path / "there")
    with pytest.raises(UserError, match="cannot be written"):
        coder.save(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="give a path"):
        coder.save("a\0b")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        coder.save(tmp_path / "file" / "model")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jvsc.sparse_coder.stored.save", full)
    with pytest.raises(OSError, match="No space"):
        coder.save(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_a_parameter_that_cannot_be_loaded_is_refused_before_it_is_saved(tmp_path):
    coder = SparseCoder(8, random_state=0, max_iter=1).fit(DIGITS[:200])
    coder.set_params(sparsity=2.0)
    with pytest.raises(UserError, match=r"sparsity is 2\.0"):
        coder.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_both_kinds_of_folders_are_told_apart(tmp_path):
    train(small_config(num_epochs=1), tmp_path / "run")
    assert isinstance(jvsc.load(tmp_path / "run"), TrainedModel)
    with pytest.raises(UserError, match="holds no SparseCoder"):
        SparseCoder.load(tmp_path / "run")
    SparseCoder(**SMALL).fit(DIGITS).save(tmp_path / "model")
    with pytest.raises(UserError, match="holds a SparseCoder, which has one seed; leave it out"):
        jvsc.load(tmp_path / "model", seed=0)


def change(file, **changes):
    record = json.loads(file.read_text())
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (record[section] if section else record)[key] = value
    file.write_text(json.dumps(record))


DAMAGES = [
    lambda coder, arrays: coder.write_text("{"),
    lambda coder, arrays: coder.write_bytes(b"\xff\xfe"),
    lambda coder, arrays: coder.write_text("[" * 100_000),
    lambda coder, arrays: coder.write_text("{}"),
    lambda coder, arrays: (coder.unlink(), coder.mkdir()),
    lambda coder, arrays: (coder.unlink(), coder.symlink_to("nowhere")),
    lambda coder, arrays: change(coder, scale_="large"),
    lambda coder, arrays: change(coder, n_features_in_=-3),
    lambda coder, arrays: change(coder, n_features_in_=63),
    lambda coder, arrays: change(coder, scale_=0.0),
    lambda coder, arrays: change(coder, _seed=2**70),
    lambda coder, arrays: change(coder, plan__sparsity=5.0),
    lambda coder, arrays: change(coder, plan__positive="no"),
    lambda coder, arrays: change(coder, plan__keeps_dictionary=True),
    lambda coder, arrays: change(coder, penalty_=-1.0),
    lambda coder, arrays: change(coder, feature_names_in_=["one"]),
    lambda coder, arrays: change(coder, parameters__method="topk", config__method="topk"),
    lambda coder, arrays: (arrays.unlink(), os.mkfifo(arrays)),
    lambda coder, arrays: save_file(
        {
            name: array * np.float32(np.nan) if "parameters/generator" in name else array
            for name, array in load_file(arrays).items()
        },
        arrays,
    ),
    lambda coder, arrays: change(coder, parameters__n_components=-1),
    lambda coder, arrays: change(coder, parameters__unknown=1),
    lambda coder, arrays: change(coder, config__method="nothing"),
    lambda coder, arrays: change(coder, config__num_latents=49),
    lambda coder, arrays: change(coder, config__unknown=1),
    lambda coder, arrays: arrays.unlink(),
    lambda coder, arrays: arrays.write_bytes(b""),
    lambda coder, arrays: arrays.write_bytes(arrays.read_bytes()[:-9]),
    lambda coder, arrays: save_file({"mean_": np.zeros(64)}, arrays),
    lambda coder, arrays: save_file(load_file(arrays) | {"mean_": np.zeros(63)}, arrays),
    lambda coder, arrays: save_file(load_file(arrays) | {"mean_": np.full(64, np.nan)}, arrays),
    lambda coder, arrays: save_file(
        load_file(arrays) | {"components_": np.zeros((48, 64), np.int8)}, arrays
    ),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    SparseCoder(**SMALL).fit(DIGITS).save(folder)
    return folder


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damage_is_one_line(number, saved, tmp_path, without_type_checks):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    DAMAGES[number](folder / CODER_FILE, folder / ARRAYS_FILE)
    for load in (SparseCoder.load, jvsc.load):
        with pytest.raises(UserError, match="save the estimator again") as refused:
            load(folder)
        assert "\n" not in str(refused.value)
