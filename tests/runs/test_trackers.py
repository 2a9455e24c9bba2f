"""Trackers of a run's numbers: each is told every epoch once, and a run that goes on is one run."""

import json
from typing import ClassVar

import pytest
from models import small_config
from rich.console import Console

import jvsc.errors
from jvsc.errors import UserError
from jvsc.runs import trackers
from jvsc.runs.logs import open_log
from jvsc.runs.trackers import TrackerKind
from jvsc.runs.train import train

ROW = {"loss": [2.0, 3.0], "nonzero_fraction": [0.5, 0.25], "steps_per_second": 3.0}


class Recorder:
    """Keeps what it is told."""

    opened: ClassVar[list["Recorder"]] = []

    def __init__(self, opening):
        self.opening = opening
        self.run_id = opening.run_id or "first"
        self.epochs, self.closed = {}, False
        self.opened.append(self)

    def add(self, numbers, epoch):
        self.epochs[epoch] = dict(numbers)

    def close(self):
        self.closed = True


def unreachable(opening):
    raise RuntimeError("no account;\nlog in")


@pytest.fixture
def recorded(monkeypatch):
    kind = TrackerKind("wandb", "json", (__name__, "Recorder"))
    monkeypatch.setitem(trackers.TRACKERS, "wandb", kind)
    monkeypatch.setattr(Recorder, "opened", [])
    return Recorder.opened


def tracked(*names):
    return small_config(seeds=(0, 4), output__trackers=names)


def write_epochs(workdir, config, epochs):
    with open_log(workdir, epochs[0] - 1, config, Console(quiet=True)) as log:
        for epoch in epochs:
            log.write(ROW | {"epoch": epoch})


def test_a_tracker_is_told_each_epoch_and_a_run_that_goes_on_is_the_same_one(recorded, tmp_path):
    config = tracked("wandb")
    write_epochs(tmp_path, config, [1, 2])
    write_epochs(tmp_path, config, [3])
    first, second = recorded
    assert first.opening.run_id == ""
    assert second.opening.run_id == "first"
    assert [first.opening.first_epoch, second.opening.first_epoch] == [1, 3]
    assert first.opening.settings["data.patch_size"] == 8
    assert list(first.epochs) == [1, 2]
    assert list(second.epochs) == [3]
    assert first.epochs[1] == {
        "loss/seed_0": 2.0, "loss/seed_4": 3.0,
        "nonzero_fraction/seed_0": 0.5, "nonzero_fraction/seed_4": 0.25,
    }  # fmt: skip
    assert first.closed
    assert second.closed
    assert not (tmp_path / "tensorboard").exists()


def test_a_training_tells_its_trackers(recorded, tmp_path):
    train(small_config(num_epochs=2, output__trackers=("wandb", "tensorboard")), tmp_path)
    (tracker,) = recorded
    assert list(tracker.epochs) == [1, 2]
    assert {"loss/seed_0", "validation_loss/seed_0"} <= tracker.epochs[2].keys()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_damaged_list_of_runs_is_put_aside(recorded, tmp_path):
    (tmp_path / trackers.RUNS_FILE).write_text("[1]")
    write_epochs(tmp_path, tracked("wandb"), [1])
    assert json.loads((tmp_path / trackers.RUNS_FILE).read_text()) == {"wandb": "first"}
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_a_tracker_that_cannot_be_opened_is_one_line(monkeypatch, tmp_path):
    kind = TrackerKind("wandb", "json", (__name__, "unreachable"))
    monkeypatch.setitem(trackers.TRACKERS, "wandb", kind)
    with pytest.raises(UserError, match=r"^output.trackers=wandb .*\(no account; log in\)"):
        write_epochs(tmp_path, tracked("wandb"), [1])


def test_a_tracker_that_is_not_installed_is_refused_before_the_run_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(jvsc.errors, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"trackers=mlflow needs mlflow: .*'jvsc\[mlflow\]'"):
        train(tracked("mlflow"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_offline(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = tracked("wandb")
    write_epochs(tmp_path, config, [1, 2])
    write_epochs(tmp_path, config, [3])
    identity = json.loads((tmp_path / trackers.RUNS_FILE).read_text())["wandb"]
    files = sorted((tmp_path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    assert len(files) == 2
    for file in files:
        assert b"nonzero_fraction/seed_4" in file.read_bytes()


def test_mlflow_in_a_database_of_its_own(monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    config = tracked("mlflow")
    write_epochs(tmp_path, config, [1, 2])
    write_epochs(tmp_path, config, [3])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("jvsc")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss/seed_4")
    assert [(metric.step, metric.value) for metric in history] == [(1, 3.0), (2, 3.0), (3, 3.0)]
    assert run.data.params["data.patch_size"] == "8"
    assert run.info.status == "FINISHED"
    client.delete_run(run.info.run_id)
    write_epochs(tmp_path, config, [4])
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.info.run_id != run.info.run_id
