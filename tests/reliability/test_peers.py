"""Processes that train together: one that dies stops the others, one asked to end ends all."""

import json
import signal
import subprocess
import sys
import time

import pytest
from models import assert_trees_equal
from test_processes import environment, free_port
from test_train import CONFIG, stored_state, without_times

from jvsc.errors import EXIT_INTERRUPTED
from jvsc.runs.commandline import parse
from jvsc.runs.logs import read_metrics

# Processes compile, and several share the cores.
pytestmark = pytest.mark.timeout(3600)
# A peer's death must have stopped the others by then.
LIMIT_SECONDS = 120


def arguments(workdir, num_epochs):
    return [
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        "--config.seeds=(0,)",
        f"--config.num_epochs={num_epochs}",
        "--config.batch_size=50",
        "--config.num_latents=24",
        "--config.data.patch_size=8",
        "--config.data.num_train=1000",
        "--config.data.num_validation=100",
        "--config.eval.iwae_samples=2",
        "--config.eval.snr_draws=2",
    ]


def start(workdir, num_epochs, num_processes=2):
    port = free_port()
    line = [sys.executable, "-m", "jvsc.main", "--distributed", *arguments(workdir, num_epochs)]
    return [
        subprocess.Popen(
            line,
            env=environment(num_processes, index, port, 1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(num_processes)
    ]


def wait_for_epochs(workdir, count, processes):
    deadline = time.monotonic() + 600
    while len(read_metrics(workdir)) < count:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)


def ended(processes, limit=LIMIT_SECONDS):
    """What the processes told, once all have ended."""
    try:
        return [process.communicate(timeout=limit)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1], ids=["first", "second"])
def test_a_process_that_dies_stops_the_other_with_a_message(tmp_path, dead):
    processes = start(tmp_path, 100_000)
    wait_for_epochs(tmp_path, 2, processes)
    killed = time.monotonic()
    processes[dead].send_signal(signal.SIGKILL)
    told = ended(processes)[1 - dead]
    seconds = time.monotonic() - killed
    print(f"the other stopped after {seconds:.0f} s: {told.splitlines()[-1]}")
    # The first process coordinates; JAX may notice its end, and end the others, before jvsc does.
    assert processes[1 - dead].returncode in (EXIT_INTERRUPTED, -signal.SIGABRT), told
    assert "another process of the run is gone" in told or (dead == 0 and "task died" in told)
    assert "Traceback" not in told


@pytest.mark.slow
def test_one_process_asked_to_end_ends_all_and_the_run_goes_on(tmp_path):
    processes = start(tmp_path / "cut", 12)
    wait_for_epochs(tmp_path / "cut", 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    told = ended(processes)
    assert [process.returncode for process in processes] == [EXIT_INTERRUPTED] * 2, told
    assert "the same command goes on from it" in told[0]
    assert len(read_metrics(tmp_path / "cut")) < 12
    for workdir in ("cut", "whole"):
        processes = start(tmp_path / workdir, 12)
        told = ended(processes, 1200)
        assert [process.returncode for process in processes] == [0, 0], told
    config = parse(arguments(tmp_path / "cut", 12)).config
    runs = [tmp_path / name for name in ("whole", "cut")]
    assert_trees_equal(*(stored_state(config, run)[0] for run in runs))
    whole, cut = (without_times(read_metrics(run)) for run in runs)
    assert whole == cut
    assert json.loads((runs[1] / "evaluation.json").read_text())["epochs"] == [12]
