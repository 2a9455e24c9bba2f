"""Files of a run that something damaged: one line names the file, or it is put aside."""

import json
import os

import numpy as np
import pytest
from models import small_config
from PIL import Image
from rich.console import Console
from safetensors.numpy import save

from jvsc.errors import UserError
from jvsc.runs.divergence import read_divergences, write_divergences
from jvsc.runs.evaluation_store import EvaluationStore, read_evaluation, read_evaluation_seconds
from jvsc.runs.logs import open_log, read_log, read_metrics
from jvsc.runs.report.gallery import SPRITES
from jvsc.runs.report.record import read_record
from jvsc.runs.trained_model import NORMALISATION_FILE, _stored_normalisation
from jvsc.runs.workdir import claim_workdir, locked_workdir, read_config

CONFIG = small_config()
ROW = {"epoch": 1, "loss": [2.0], "nonzero_fraction": [0.5], "steps_per_second": 3.0}
REPORT = {
    "method": "gaussian",
    "seeds": [0],
    "num_samples": 1,
    "sampling": "max",
    "epochs": [2],
    "data": "patches",
    "diverged": {},
    "num_validation": 10,
    "metrics": {"validation_loss": [1.5], "active_latents": [[0, 3]], "top_latents": [{"a": 1}]},
}


def nothing(path):
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


def folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def holding(content):
    return lambda path: path.write_bytes(content)


DAMAGES = {
    "empty": holding(b""),
    "binary": holding(bytes(range(256))),
    "Latin-1": holding('{"0": "é"}'.encode("latin-1")),
    "nested lists": holding(b"[" * 100_000),
    "nested objects": holding(b'{"0":' * 3000 + b"1" + b"}" * 3000),
    "a list": holding(b"[1, 2]"),
    "a number": holding(b"3"),
    "null": holding(b"null"),
    "another object": holding(b'{"0": 3, "metrics": 5, "identity": 1}'),
    "a number too long": holding(b'{"0": ' + b"9" * 6000 + b"}"),
    "a link to nothing": nothing,
    "a folder": folder,
    "a pipe": pipe,
}
damaged = pytest.mark.parametrize("damage", DAMAGES)
TILES = {"columns": 1, "rows": 1, "aspect": 1.0}
GALLERY = {
    "num_latents": 1,
    "num_data": 2,
    "is_estimated": False,
    "has_probabilities": True,
    "latents": [
        {"number": 0, "use": 0.5, "size": 1, "histogram": [1, 1], "strongest": [[1, -1.5]]},
    ],
    "data": [1],
    "tiles": {"atoms": TILES, "data": TILES},
}


@pytest.fixture
def workdir(tmp_path):
    """What a run of one epoch leaves, without its checkpoints."""
    claim_workdir(tmp_path, small_config())
    (tmp_path / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "evaluation.json").write_text(json.dumps(REPORT))
    (tmp_path / "evaluation_seconds.json").write_text('{"codes": [1.5, null]}')
    write_divergences(tmp_path, {0: {"step": 3, "terms": ["KL"]}})
    Image.new("L", (4, 4)).save(tmp_path / "dictionary.png")
    (tmp_path / "latents.json").write_text(json.dumps(GALLERY))
    for name in SPRITES.values():
        Image.new("L", (4, 4)).save(tmp_path / name)
    return tmp_path


def test_whole_files_read_as_they_were_written(workdir):
    assert read_metrics(workdir) == [ROW]
    assert read_divergences(workdir) == {0: {"step": 3, "terms": ["KL"]}}
    assert read_evaluation(workdir) == REPORT
    assert read_evaluation_seconds(workdir) == 1.5
    assert read_record(workdir).report == REPORT
    assert read_record(workdir).gallery == GALLERY


@damaged
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", read_config),
        ("config.json", read_record),
        ("divergence.json", read_divergences),
        ("evaluation.json", read_evaluation),
        ("evaluation.json", read_record),
        ("dictionary.png", read_record),
        ("latents.json", read_record),
        ("latents_atoms.png", read_record),
    ],
)
def test_what_a_run_needs_is_named_in_one_line(name, read, damage, workdir):
    DAMAGES[damage](workdir / name)
    with pytest.raises(UserError, match=name) as told:
        read(workdir)
    assert "\n" not in str(told.value)


@damaged
def test_a_log_that_cannot_be_read_is_named_and_put_aside(damage, workdir, capsys):
    (workdir / "metrics.jsonl").unlink()
    DAMAGES[damage](workdir / "metrics.jsonl")
    with open_log(workdir, 1, CONFIG, Console(width=500)) as log:
        log.write(ROW | {"epoch": 2})
    assert [row["epoch"] for row in read_metrics(workdir)] == [2]
    # Without an end of its line it is what a kill leaves, of which nothing is told.
    torn = damage not in ("empty", "a folder", "a pipe", "a link to nothing")
    torn = torn and damage not in ("binary", "Latin-1")
    told = capsys.readouterr().out
    assert ("metrics.jsonl cannot be read" in told) == (damage != "empty" and not torn)
    assert (workdir / "damaged").exists() == ("cannot be read" in told)


def test_rows_around_a_damaged_one_are_kept(workdir):
    lines = [json.dumps(ROW), '{"epoch": "x"}', json.dumps(ROW | {"epoch": 3}), '{"epo']
    (workdir / "metrics.jsonl").write_text("\n".join(lines))
    rows, damage = read_log(workdir)
    assert [row["epoch"] for row in rows] == [1, 3]
    assert damage.startswith("line 2: epoch")
    assert read_record(workdir).damage == damage
    with open_log(workdir, 3, CONFIG, Console(quiet=True)):
        pass
    assert read_log(workdir) == (rows, "")
    (aside,) = (workdir / "damaged").iterdir()
    assert aside.read_text() == "\n".join(lines)


def test_a_file_in_the_place_of_tensorboards_folder_is_put_aside(workdir):
    (workdir / "tensorboard").write_text("kept")
    with open_log(workdir, 1, CONFIG, Console(quiet=True)) as log:
        log.write(ROW | {"epoch": 2})
    (aside,) = (workdir / "damaged").iterdir()
    assert aside.read_text() == "kept"


@damaged
def test_an_evaluation_does_without_what_another_left_damaged(damage, workdir):
    for name in ("evaluation.partial.json", "evaluation_seconds.json"):
        (workdir / name).unlink(missing_ok=True)
        DAMAGES[damage](workdir / name)
    store = EvaluationStore(workdir, {"method": "gaussian"})
    assert store.get("0/codes") is None
    store.put("0/codes", {"mse": 1.0}, 0.5)
    again = EvaluationStore(workdir, {"method": "gaussian"})
    assert again.get("0/codes") == {"values": {"mse": 1.0}, "seconds": 0.5}
    assert read_evaluation_seconds(workdir) == 0


@pytest.mark.parametrize(
    "metrics", [{"mse": 3}, {"mse": ["x"]}, {"active_latents": [3.0]}, {"frechet_features": [[1]]}]
)
def test_measures_of_another_kind_are_refused(metrics, workdir):
    (workdir / "evaluation.json").write_text(json.dumps(REPORT | {"metrics": metrics}))
    with pytest.raises(UserError, match=r"evaluation.json cannot be read \(metrics.*evaluate"):
        read_evaluation(workdir)


ONES = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("mean", "scale"),
    [
        (np.zeros((), np.float32), np.ones((), np.float32)),
        (np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)),
        (ONES, np.ones(5, np.float32)),
        (ONES.astype(np.float64), ONES.astype(np.float64)),
        (ONES.astype(np.int32), ONES),
        (ONES * np.float32(np.nan), ONES),
        (ONES, ONES * 0),
    ],
)
def test_a_normalisation_that_is_none_is_not_used(mean, scale, tmp_path):
    file = tmp_path / NORMALISATION_FILE
    file.write_bytes(save({"mean": mean, "scale": scale}))
    assert _stored_normalisation(file) is None
    file.write_bytes(save({"mean": ONES, "scale": ONES}))
    assert _stored_normalisation(file) is not None


@pytest.mark.parametrize("damage", ["a folder", "a pipe"])
def test_a_lock_that_is_no_file_is_one_line(damage, workdir):
    (workdir / ".lock").unlink(missing_ok=True)
    DAMAGES[damage](workdir / ".lock")
    with pytest.raises(UserError, match=r"\.lock"), locked_workdir(workdir):
        pass
