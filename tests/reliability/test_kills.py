"""Killed outright (kill -9) while training, keeping, caching, evaluating: the end is the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from models import assert_trees_equal, face_folder
from test_train import CONFIG, stored_state, without_times

from jvsc.runs.commandline import parse
from jvsc.runs.evaluation_store import PARTIAL_FILE
from jvsc.runs.logs import read_metrics

SETTINGS = [
    "--config.seeds=(0,)",
    "--config.num_epochs=60",
    "--config.num_samples=3",
    "--config.batch_size=50",
    "--config.num_latents=24",
    "--config.data.patch_size=8",
    "--config.data.num_train=1000",
    "--config.data.num_validation=100",
]
BUILD = """
import sys
from jvsc.data import load_celeba
load_celeba(sys.argv[1], cache_dir=sys.argv[2], num_train=int(sys.argv[3]), num_validation=5)
"""


def arguments(workdir):
    return [f"--config={CONFIG}", f"--workdir={workdir}", *SETTINGS]


def command(workdir):
    return [sys.executable, "-m", "jvsc.main", *arguments(workdir)]


def kill_when(command, struck, delay):
    """Starts a command and kills it `delay` seconds after it does what is waited for.

    Returns:
      Whether it was struck; False if it ended before.
    """
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if struck():
                break
            time.sleep(0.002)
        time.sleep(delay)
        return process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def changed(look):
    """Whether what `look` sees differs from what it saw at first."""
    before = look()
    return lambda: look() != before


def being_written(workdir):
    """Checkpoints that are not whole yet."""
    folder = workdir / "checkpoints"
    return [p.name for p in folder.iterdir() if not p.name.isdigit()] if folder.is_dir() else []


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def kill_a_run(workdir: Path, phases, random: np.random.Generator) -> Counter:
    """Kills the run once in each of the phases; counts the kills that struck it."""
    struck = Counter()
    for phase in phases:
        if phase == "training":
            moment, delay = changed(lambda: size(workdir / "metrics.jsonl")), random.uniform(0, 0.4)
        elif phase == "checkpointing":
            moment, delay = lambda: bool(being_written(workdir)), random.uniform(0, 0.01)
        else:
            moment, delay = changed(lambda: size(workdir / PARTIAL_FILE)), random.uniform(0, 0.5)
        struck[phase] += kill_when(command(workdir), moment, delay)
    return struck


def compare(whole, killed):
    config = parse(arguments(whole)).config
    one, epoch = stored_state(config, whole)
    other, _ = stored_state(config, killed)
    assert epoch == config.num_epochs
    assert_trees_equal(one, other)
    assert without_times(read_metrics(whole)) == without_times(read_metrics(killed))
    reports = [json.loads((run / "evaluation.json").read_text()) for run in (whole, killed)]
    assert reports[0] == reports[1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_while_training_keeping_and_evaluating_ends_bit_identical(tmp_path):
    """19 kills in an order and after delays from a fixed key; six more below."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL)
    random = np.random.default_rng(0)
    phases = random.permutation(["training"] * 7 + ["checkpointing"] * 7).tolist()
    struck = kill_a_run(killed, [*phases, *["evaluating"] * 5], random)
    subprocess.run(command(killed), check=True, stdout=subprocess.DEVNULL)
    compare(whole, killed)
    print(f"killed 19 times, of which {dict(struck)} struck: bit-identical")
    assert struck["training"] >= 5
    assert struck["checkpointing"] >= 5
    assert struck["evaluating"] >= 2


def seconds_of_writing(build: list[str], cache: Path) -> float:
    """Builds a cache; how long it was being written, which a fast machine does at once."""
    process = subprocess.Popen(build)
    while not list(cache.glob("*.tmp")):
        assert process.poll() is None
        time.sleep(0.001)
    begun = time.perf_counter()
    assert process.wait() == 0
    return time.perf_counter() - begun


def kill_a_build(tmp_path: Path, kills: int) -> None:
    """Kills the building of a cache, and compares it with one that was not killed."""
    count = 1500
    folder = face_folder(tmp_path / "faces", count - 5, 5)
    build = [sys.executable, "-c", BUILD, str(folder)]
    ends = [str(tmp_path / "whole"), str(count - 5)], [str(tmp_path / "killed"), str(count - 5)]
    seconds = seconds_of_writing([*build, *ends[0]], tmp_path / "whole")
    random = np.random.default_rng(0)
    cache = tmp_path / "killed"

    struck = 0
    for _ in range(kills):
        for left in cache.glob("*.tmp"):
            os.utime(left, (0, 0))  # long ago, so that the next build removes it
        before = set(cache.glob("*.tmp")) if cache.is_dir() else set()
        moment = lambda seen=before: cache.is_dir() and bool(set(cache.glob("*.tmp")) - seen)  # noqa: E731
        struck += kill_when([*build, *ends[1]], moment, random.uniform(0, 0.8) * seconds)
    for left in cache.glob("*.tmp"):
        os.utime(left, (0, 0))
    subprocess.run([*build, *ends[1]], check=True)
    built = [
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("whole", "killed")
    ]
    assert built[0] == built[1]
    assert len(built[0]) == 4
    print(f"killed {kills} times while building a cache, {struck} struck: the same bytes")
    assert struck >= kills // 2


@pytest.mark.slow
def test_a_cache_whose_build_was_killed_is_built_the_same(tmp_path):
    kill_a_build(tmp_path, 6)
