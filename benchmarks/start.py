"""How long `make demo` takes to its first training step, with and without a compilation cache."""

import json
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
        note="first epoch's end less the second epoch's steps",
    )


def first_step(cache: Path) -> float:
    """Seconds from the process's start to its first step: the first epoch's end less its steps.

    The second epoch's are as long, and nothing is compiled among them.
    """
    with tempfile.TemporaryDirectory() as workdir:
        log = Path(workdir) / "run" / "metrics.jsonl"
        # Validation comes after the steps, and would be counted.
        options = [f"--workdir={log.parent}", "--config.output.validate_every=1000"]
        command = [sys.executable, "-m", "jvsc.main", *options]
        # As docs/training.md tells its readers.
        kept = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        environment = {**os.environ, **kept}
        begun = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            first_end = _wait_for_epoch(1, log, process, begun)
            _wait_for_epoch(2, log, process, begun)
        finally:
            process.kill()
            process.wait()
        rows = log.read_text(encoding="utf-8").splitlines()
        return first_end - json.loads(rows[1])["seconds"]


def _wait_for_epoch(epoch: int, log: Path, process: subprocess.Popen, begun: float) -> float:
    while not log.exists() or log.read_bytes().count(b"\n") < epoch:
        if process.poll() is not None or time.perf_counter() - begun > LIMIT:
            raise RuntimeError(f"the demo did not get to the end of its epoch {epoch}")
        time.sleep(0.02)
    return time.perf_counter() - begun
