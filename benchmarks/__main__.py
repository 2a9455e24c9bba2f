"""Runs the benchmarks: python -m benchmarks [WORKLOAD ...] --output=DIR."""

import argparse
import importlib
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import jax
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.workload import Comparison

WORKLOADS = ("conv_step",)


def main() -> None:
    """Measures the workloads asked for, prints one table and writes benchmarks.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.workloads) - set(WORKLOADS))
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}; give some of {', '.join(WORKLOADS)}")
    torch.set_num_threads(os.cpu_count() or 1)
    rows: list[Comparison] = []
    for name in arguments.workloads or WORKLOADS:
        rows += importlib.import_module(f"benchmarks.{name}").measure()
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": machine(),
        "results": [row._asdict() | {"ratio": row.ratio} for row in rows],
    }
    (arguments.output / "benchmarks.json").write_text(json.dumps(record, indent=2) + "\n")
    print_table(rows)


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": jax.devices()[0].device_kind,
        "cores": str(os.cpu_count()),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "torch", "numpy")},
    }


def print_table(rows: list[Comparison]) -> None:
    """One row a comparison, the ratio beside its target."""
    table = Table(title="medians of alternating repetitions; more than 1 is faster than the other")
    for name in ("workload", "against", "jvsc", "other", "ratio", "target", "first call"):
        table.add_column(name, justify="left" if name in ("workload", "against") else "right")
    for row in rows:
        table.add_row(
            row.workload,
            row.opponent,
            f"{row.ours:.4g} {row.unit}",
            f"{row.theirs:.4g} {row.unit}",
            f"{row.ratio:.2f}",
            "-" if row.target is None else f"{row.target:.1f}",
            f"{row.ours_first:.1f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
