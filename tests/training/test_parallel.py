"""The same trajectory on one device and on eight, resident and streamed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jvsc.errors import UserError
from jvsc.training.mesh import check_batch_size, make_mesh

SCRIPT = Path(__file__).parents[1] / "multidevice" / "trajectory.py"


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    """What `trajectory.py` saved for a kind and a number of host devices; run once each."""
    found = {}

    def run(kind, num_devices):
        if (kind, num_devices) not in found:
            file = tmp_path_factory.mktemp("trajectory") / "result.npz"
            environment = {
                **os.environ,
                "JAX_ENABLE_X64": "1",
                "JAX_NUM_CPU_DEVICES": str(num_devices),
            }
            subprocess.run(
                [sys.executable, SCRIPT, kind, file], env=environment, check=True, timeout=400
            )
            found[kind, num_devices] = np.load(file)
            assert found[kind, num_devices]["devices"] == num_devices
        return found[kind, num_devices]

    return run


@pytest.mark.parametrize(
    # Conv networks over several processes are in test_processes.
    "kind",
    [
        "linear",
        "explaining",
        pytest.param("matryoshka", marks=pytest.mark.slow),
        pytest.param("jump_relu", marks=pytest.mark.slow),
        pytest.param("lasso", marks=pytest.mark.slow),
        pytest.param("conv", marks=pytest.mark.slow),
        pytest.param("gates", marks=pytest.mark.slow),
        pytest.param("conv_streamed", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_follow_the_trajectory_of_one(trajectory, kind):
    """With the best of three samples, batch normalisation and mirroring, in double precision."""
    one, eight = trajectory(kind, 1), trajectory(kind, 8)
    np.testing.assert_allclose(one["losses"], eight["losses"], rtol=1e-7)
    assert np.ptp(one["losses"]) > 0.01 * np.abs(one["losses"]).max()
    difference = np.abs(one["parameters"] - eight["parameters"]) / np.std(one["parameters"])
    assert difference.max() < 1e-5


@pytest.mark.parametrize(
    "kind",
    [
        "linear_latents_4",
        pytest.param("explaining_latents_4", marks=pytest.mark.slow),
        pytest.param("linear_latents_8", marks=pytest.mark.slow),
        pytest.param("topk_latents_2", marks=pytest.mark.slow),
        pytest.param("topk_latents_8", marks=pytest.mark.slow),
        pytest.param("matryoshka_latents_2", marks=pytest.mark.slow),
    ],
)
def test_latents_divided_among_devices_follow_the_trajectory_of_one(trajectory, kind):
    """Heads, codes, dictionary and the optimiser's copies of them each live on one device of N."""
    one, eight = trajectory(kind.partition("_")[0], 1), trajectory(kind, 8)
    assert not one["spread"]
    assert eight["spread"], "the latents are not divided after training"
    np.testing.assert_allclose(one["losses"], eight["losses"], rtol=1e-7)
    difference = np.abs(one["parameters"] - eight["parameters"]) / np.std(one["parameters"])
    assert difference.max() < 1e-5


@pytest.mark.parametrize("kind", ["linear", pytest.param("conv", marks=pytest.mark.slow)])
def test_streamed_and_resident_data_lead_to_the_same_place(trajectory, kind):
    streamed, resident = trajectory(f"{kind}_streamed", 1), trajectory(kind, 1)
    np.testing.assert_allclose(streamed["losses"], resident["losses"], rtol=1e-10)


@pytest.mark.parametrize(
    ("batch_size", "num_devices", "nearest"),
    [(100, 8, "96 or 104"), (3, 8, "8"), (9, 4, "8 or 12")],
)
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_do(
    batch_size, num_devices, nearest
):
    with pytest.raises(UserError, match=f"give a multiple: {nearest}$"):
        check_batch_size(batch_size, num_devices)


def test_latents_that_do_not_divide_are_refused():
    with pytest.raises(
        UserError, match=r"^parallel.latent_shards is 3, but a process has 1 of the devices"
    ):
        make_mesh(3)


def test_a_batch_that_divides_is_taken():
    check_batch_size(96, 8)
