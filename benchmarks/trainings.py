"""The paper's trainings at full length on a GPU, from the command's start to their last checkpoint.

The images of JVSC_IMAGES (else bundled photographs) and Fashion-MNIST, from JVSC_FASHION_MNIST if
that names its folder. The workdirs stay: `python -m jvsc.main --mode=evaluate` measures them.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.workload import Comparison
from jvsc.runs.commandline import parse
from jvsc.runs.train import train

LINEAR = ("--config=configs/patches.py:thresholded_laplacian", "--config.num_samples=20")
CONV = (
    "--config=configs/fmnist.py:thresholded_gaussian",
    "--config.seeds=(0,)",
    "--config.compute_dtype=bfloat16",
    # All draws at once, for which a GPU has the memory.
    "--config.sampling_chunk=20",
)


def measure() -> list[Comparison]:
    """The linear model of three seeds, and Fashion-MNIST's of one."""
    images = os.environ.get("JVSC_IMAGES", "")
    fashion = os.environ.get("JVSC_FASHION_MNIST", "")
    return [
        _row("linear, 300 epochs, J=20, three seeds", (*LINEAR, *_data(images)), 180.0),
        _row("Fashion-MNIST, 300 epochs, bfloat16, J=20", (*CONV, *_data(fashion)), 360.0),
    ]


def _data(path: str) -> tuple[str, ...]:
    return (f"--config.data.path={path}",) if path else ()


def _row(name: str, flags: Sequence[str], limit: float) -> Comparison:
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    workdir = tempfile.mkdtemp(prefix="training_", dir=runs)
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.trainings", *flags, f"--workdir={workdir}"]
    subprocess.run(command, check=True)
    return Comparison(
        workload=name,
        opponent="the limit",
        ours=time.perf_counter() - begun,
        theirs=limit,
        unit="s",
        ours_first=None,
        target=1.0,
        note=f"kept in {workdir}",
    )


def main() -> None:
    """One training, without the evaluation that the command goes on with."""
    command = parse(sys.argv[1:])
    train(command.config, command.workdir)


if __name__ == "__main__":
    main()
