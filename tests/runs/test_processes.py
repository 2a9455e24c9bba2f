"""Several processes train one run: one process's trajectory, and checkpoints any go on from.

All processes are on this machine, on CPUs, and talk through Gloo.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA
from models import face_folder, image_config, small_config

from jvsc.errors import EXIT_INTERRUPTED
from jvsc.runs.logs import read_metrics
from jvsc.runs.workdir import locked_workdir

SCRIPT = Path(__file__).parents[1] / "multiprocess" / "trained.py"
# Double precision leaves about 1e-16 a sum; a wrong batch, order or mean moves the first digits.
TOLERANCE = 1e-10


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def environment(num_processes: int, index: int, port: int, devices: int) -> dict[str, str]:
    """Of one of the processes."""
    given = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    if num_processes > 1:
        given |= {
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(num_processes),
            "JAX_PROCESS_ID": str(index),
        }
    return given


def train_in_processes(config, workdir: Path, num_processes: int, devices: int = 1):
    """Trains a run in processes of as many devices each; returns the last parameters and losses."""
    settings, result = workdir.with_suffix(".config"), workdir.with_suffix(".npz")
    settings.write_text(config.model_dump_json())
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, settings, workdir, result],
            env=environment(num_processes, index, port, devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(num_processes)
    ]
    try:
        told = [process.communicate(timeout=1200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * num_processes, "\n".join(told)
    found = np.load(result)
    assert (found["processes"], found["devices"]) == (num_processes, num_processes * devices)
    losses = [row["loss"] + row["validation_loss"] for row in read_metrics(workdir)]
    return found["parameters"], np.array(losses)


def assert_same_trajectory(one, other):
    """To the rounding of sums in another order; and it is a trajectory that goes somewhere."""
    for mine, theirs in zip(one, other, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE)
    assert np.ptp(one[1][:, 0]) > 0.01 * np.abs(one[1][:, 0]).max()


def patches_config():
    """Resident patches, with the best of three draws and two seeds."""
    return small_config(
        batch_size=40,
        num_samples=3,
        seeds=(0, 1),
        data__num_train=400,
        data__num_validation=100,
        output__keep_last=4,
    )


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """The sample of CelebA, or random images in its layout."""
    sample = SHARED_DATA / "celeba_sample"
    if sample.exists():
        return sample
    return face_folder(tmp_path_factory.mktemp("random") / "faces", 64, 32)


@pytest.fixture(scope="session")
def images_config(faces, tmp_path_factory):
    """Streamed, mirrored images through conv networks; batch normalisation over all processes."""
    return image_config(
        data__name="celeba",
        data__path=str(faces),
        data__cache_dir=str(tmp_path_factory.mktemp("cache")),
        data__device_memory_fraction=0.0,
        num_samples=2,
        sampling_chunk=1,
        output__keep_last=4,
    )


@pytest.fixture(scope="session")
def patches_alone(tmp_path_factory):
    """Workdir and trajectory of the patches in one process on one device."""
    workdir = tmp_path_factory.mktemp("patches") / "alone"
    return workdir, train_in_processes(patches_config(), workdir, 1)


def test_two_processes_follow_the_trajectory_of_one(patches_alone, tmp_path):
    together = train_in_processes(patches_config(), tmp_path / "two", 2)
    assert_same_trajectory(patches_alone[1], together)


def ended(command: list[str], signalled: int | None = None) -> list[tuple[int, str]]:
    """Exit codes and words of two processes of a command; both may get a signal when ready."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment(2, index, port, 1),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        if signalled is not None:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                process.send_signal(signalled)
        told = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def test_a_mistake_that_one_process_meets_ends_all_with_its_code(tmp_path):
    """The first waits in JAX for the others at its end, and they for it in the training."""
    arguments = ["--config=configs/patches.py:gaussian,demo", "--distributed"]
    with locked_workdir(tmp_path):
        found = ended(["-m", "jvsc.main", *arguments, f"--workdir={tmp_path}"])
    assert [code for code, _ in found] == [2, 2]
    assert "is in use by another process" in found[0][1]


# The first process evaluates, and the other waits for it.
EVALUATING = """
import time
from jvsc.main import guarded
from jvsc.runs.interruption import end
from jvsc.runs.processes import is_first_process, start_processes, wait_for_the_first
def execute(arguments, console):
    start_processes(True)
    is_first_process()
    print("ready", flush=True)
    time.sleep(100) if is_first_process() else wait_for_the_first()
    return 0
end(guarded(execute, []))
"""


def test_processes_that_wait_for_an_evaluation_end_in_good_order():
    found = ended(["-c", EVALUATING], signal.SIGTERM)
    assert [code for code, _ in found] == [EXIT_INTERRUPTED, EXIT_INTERRUPTED]


@pytest.mark.slow
def test_four_processes_follow_the_trajectory_of_one(patches_alone, tmp_path):
    together = train_in_processes(patches_config(), tmp_path / "four", 4)
    assert_same_trajectory(patches_alone[1], together)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_processes_that_stream_images_follow_the_trajectory_of_one(images_config, tmp_path):
    alone = train_in_processes(images_config, tmp_path / "alone", 1)
    for count in (2, 4):
        together = train_in_processes(images_config, tmp_path / str(count), count)
        assert_same_trajectory(alone, together)


def cut_after(workdir: Path, epoch: int, copy: Path) -> Path:
    """A copy of a run as it was after an epoch."""
    shutil.copytree(workdir, copy)
    for later in (copy / "checkpoints").iterdir():
        if int(later.name) > epoch:
            shutil.rmtree(later)
    return copy


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("written", "continued"),
    [((4, 1), (1, 1)), ((4, 1), (1, 8)), ((1, 8), (4, 1)), ((1, 1), (2, 2)), ((2, 2), (4, 1))],
    ids=lambda place: f"{place[0]}x{place[1]}",
)
def test_other_processes_and_devices_go_on_from_a_checkpoint(
    patches_alone, tmp_path, written, continued
):
    """Processes x devices that write two epochs, and those that train two more."""
    train_in_processes(patches_config(), tmp_path / "written", *written)
    workdir = cut_after(tmp_path / "written", 2, tmp_path / "continued")
    together = train_in_processes(patches_config(), workdir, *continued)
    assert_same_trajectory(patches_alone[1], together)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_one_process_goes_on_with_images_that_four_streamed(images_config, tmp_path):
    whole = train_in_processes(images_config, tmp_path / "four", 4)
    workdir = cut_after(tmp_path / "four", 1, tmp_path / "one")
    assert_same_trajectory(whole, train_in_processes(images_config, workdir, 1))
