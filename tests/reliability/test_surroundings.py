"""What surrounds a run: a full disk, a second process, another clock and another language."""

import gc
import itertools
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from models import assert_trees_equal, face_folder
from test_train import CONFIG, stored_state, without_times

import jvsc.runs.train
from jvsc.data import load_celeba
from jvsc.errors import UserError
from jvsc.main import EXIT_USER_ERROR, run
from jvsc.runs.commandline import parse
from jvsc.runs.logs import RunLog, read_metrics
from jvsc.runs.train import train
from jvsc.runs.workdir import claim_workdir, locked_workdir

SETTINGS = [
    "--config.seeds=(0,)",
    "--config.num_epochs=4",
    "--config.batch_size=50",
    "--config.num_latents=24",
    "--config.data.patch_size=8",
    "--config.data.num_train=1000",
    "--config.data.num_validation=100",
    "--config.eval.iwae_samples=2",
    "--config.eval.snr_draws=2",
    "--config.eval.snr_batches=1",
]


def arguments(workdir):
    return [f"--config={CONFIG}", f"--workdir={workdir}", *SETTINGS]


def state_of(workdir):
    return stored_state(parse(arguments(workdir)).config, workdir)


def files_of(workdir):
    return {path: path.read_bytes() for path in Path(workdir).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed, not evaluated."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(parse(arguments(workdir)).config, workdir)
    return workdir


# A full disk


@pytest.fixture
def disk(tmp_path):
    """A disk of 40 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    # What a writer without space had begun is thrown away here, and says so.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk, leaving=0):
    """Fills a disk but for some bytes."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leaving))


def full_at(monkeypatch, disk, owner, name, calls, leaving):
    """The disk is full from some call of a method on; returns the epochs kept then."""
    method, left, kept = getattr(owner, name), [calls], []

    def called(*arguments, **named):
        left[0] -= 1
        if left[0] == 0:
            fill(disk, leaving)
            whole = (disk / "run" / "checkpoints").glob("[0-9]*")
            kept.extend(int(path.name) for path in whole if path.name.isdigit())
        return method(*arguments, **named)

    monkeypatch.setattr(owner, name, called)
    return kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "calls", "leaving"),
    [
        (jvsc.runs.train.Checkpoints, "save", 3, 0),
        (jvsc.runs.train.Checkpoints, "save", 3, 100_000),
        (jvsc.runs.train.Checkpoints, "save", 3, 1_000_000),
        (RunLog, "write", 2, 0),
        (RunLog, "advance", 3, 0),
    ],
    ids=["checkpoint", "part of one", "most of one", "log", "checkpoint after the log"],
)
def test_a_disk_that_fills_loses_no_earlier_state(
    whole, disk, monkeypatch, capfd, owner, name, calls, leaving
):
    """What is kept before stays whole, one line says what to do, and then the run goes on."""
    kept = full_at(monkeypatch, disk, owner, name, calls, leaving)
    assert run(arguments(disk / "run")) == EXIT_USER_ERROR
    monkeypatch.undo()
    told = capfd.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("jvsc: ")]
    assert len(lines) == 1, told
    assert "the disk is full" in lines[0]
    assert "free some space" in lines[0]
    assert "Traceback" not in told
    assert kept
    assert state_of(disk / "run")[1] >= max(kept)
    (disk / "ballast").unlink()
    train(parse(arguments(disk / "run")).config, disk / "run")
    assert_trees_equal(state_of(disk / "run")[0], state_of(whole)[0])
    assert without_times(read_metrics(disk / "run")) == without_times(read_metrics(whole))


def test_a_disk_too_small_for_the_cache_is_told_with_what_it_needs(disk, tmp_path):
    folder = face_folder(tmp_path / "faces", 12, 5)
    fill(disk, leaving=70_000)
    load = {"num_train": 12, "num_validation": 5, "cache_dir": str(disk / "cache")}
    with pytest.raises(UserError, match=r"the cache needs 0\.00 GB: free them or set data\.cache"):
        load_celeba(str(folder), **load)
    assert not [file for file in (disk / "cache").iterdir() if file.suffix == ".tmp"]
    (disk / "ballast").unlink()
    assert load_celeba(str(folder), **load).train.shape == (12, 64 * 64 * 3)


# A second process


def test_a_second_process_on_a_workdir_is_refused_and_changes_nothing(tmp_path, capsys):
    config = parse(arguments(tmp_path)).config
    claim_workdir(tmp_path, config)
    with locked_workdir(tmp_path):
        before = files_of(tmp_path)
        told = subprocess.run(
            [sys.executable, "-m", "jvsc.main", *arguments(tmp_path), "--config.eval.chunk=7"],
            capture_output=True,
            text=True,
        )
        assert told.returncode == EXIT_USER_ERROR
        assert told.stderr.count("\n") == 1
        assert "is in use by another process; wait for it, stop it" in told.stderr
        assert run(["--mode=evaluate", f"--workdir={tmp_path}"]) == EXIT_USER_ERROR
        assert "is in use" in capsys.readouterr().err
        assert files_of(tmp_path) == before
    assert json.loads((tmp_path / "config.json").read_text())["eval"]["chunk"] == 1000


# What the environment asks of JAX


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_PLATFORMS", "cuda"),
        ("JAX_PLATFORMS", "none"),
        ("JAX_NUM_CPU_DEVICES", "x"),
        ("JAX_ENABLE_X64", "perhaps"),
        ("JAX_DISABLE_JIT", "1"),
    ],
)
def test_an_environment_that_jax_refuses_is_named_in_one_line(name, value, tmp_path):
    line = [sys.executable, "-m", "jvsc.main", *arguments(tmp_path)]
    given = {**os.environ, name: value}
    told = subprocess.run(line, env=given, capture_output=True, text=True)
    assert told.returncode == EXIT_USER_ERROR
    assert told.stderr.startswith("jvsc: ")
    assert name.lower() in told.stderr.lower()
    assert told.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Clock and language


@pytest.mark.parametrize(
    ("offset", "each_look"),
    [
        (-50 * 365 * 86400, 0),
        pytest.param(30 * 365 * 86400, 0, marks=pytest.mark.slow),
        (0, -60),
    ],
    ids=["fifty years behind", "thirty years ahead", "a minute back at every look"],
)
def test_a_clock_that_is_wrong_changes_nothing(whole, tmp_path, monkeypatch, offset, each_look):
    clock, looks = time.time, itertools.count()

    def wrong():
        return clock() + offset + each_look * next(looks)

    monkeypatch.setattr(time, "time", wrong)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * wrong()))
    train(parse(arguments(tmp_path)).config, tmp_path)
    monkeypatch.undo()
    assert_trees_equal(state_of(tmp_path)[0], state_of(whole)[0])
    assert without_times(read_metrics(tmp_path)) == without_times(read_metrics(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    "surroundings",
    [
        {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
        {"TZ": "America/St_Johns", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"},
        {"TZ": "", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda given: given["LC_ALL"],
)
def test_zone_and_language_change_nothing(whole, tmp_path, surroundings):
    line = [sys.executable, "-m", "jvsc.main", *arguments(tmp_path)]
    environment = {**os.environ, **surroundings}
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert_trees_equal(state_of(tmp_path)[0], state_of(whole)[0])
    assert without_times(read_metrics(tmp_path)) == without_times(read_metrics(whole))
