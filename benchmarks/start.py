"""How long `make demo` takes to its first training step, with and without a compilation cache."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.workload import Comparison

LIMIT = 300


def measure() -> list[Comparison]:
    """A cold start, and one that finds what the first compiled."""
    with tempfile.TemporaryDirectory() as cache:
        cold = first_step(Path(cache))
        warm = first_step(Path(cache))
    return [_row("cold", cold, 15.0), _row("with the compilation cache", warm, 5.0)]


def _row(name: str, seconds: float, limit: float) -> Comparison:
    return Comparison(
        workload=f"demo's start to its first step, {name}",
        opponent="the limit",
        ours=seconds,
        theirs=limit,
        unit="s",
        ours_first=None,
        target=1.0,
        note="first epoch's end less a second epoch's time",
    )


def first_step(cache: Path) -> float:
    """Seconds from the process's start to its first step: two epochs' ends, an epoch apart."""
    with tempfile.TemporaryDirectory() as workdir:
        log = Path(workdir) / "run" / "metrics.jsonl"
        command = [sys.executable, "-m", "jvsc.main", f"--workdir={log.parent}"]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        begun = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            ends = []
            while len(ends) < 2:
                if process.poll() is not None or time.perf_counter() - begun > LIMIT:
                    raise RuntimeError("the demo did not get to its second epoch")
                time.sleep(0.02)
                if log.exists() and log.read_bytes().count(b"\n") > len(ends):
                    ends.append(time.perf_counter() - begun)
        finally:
            process.kill()
            process.wait()
    return ends[0] - (ends[1] - ends[0])
