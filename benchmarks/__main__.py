"""Runs the benchmarks: python -m benchmarks [WORKLOAD ...] --output=DIR."""

import argparse
import importlib
import json
import os
from pathlib import Path

from benchmarks.page import draw, machine, print_table, record, write_page
from benchmarks.workload import Comparison

WORKLOADS = (
    "linear_step",
    "conv_step",
    "lasso",
    "encode",
    "measures",
    "memory",
    "start",
)
# What takes a GPU.
GPU_WORKLOADS = ("celeba_step", "trainings")


def main() -> None:
    """Measures the workloads asked for; prints one table, writes JSON, a picture and a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    names = ", ".join((*WORKLOADS, *GPU_WORKLOADS))
    text = f"of {names}; by default all but {' and '.join(GPU_WORKLOADS)}, which take a GPU"
    parser.add_argument("workloads", nargs="*", help=text)
    text = "folder for the table, the figures and a picture (default runs/benchmarks)"
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help=text)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.workloads) - {*WORKLOADS, *GPU_WORKLOADS})
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}; give some of {names}")
    try:
        import torch
    except ImportError:
        parser.error("what jvsc is compared with is not installed; make opponents installs it")
    # On a GPU PyTorch and further processes need memory too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    torch.set_num_threads(os.cpu_count() or 1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows: list[Comparison] = []
    for name in arguments.workloads or WORKLOADS:
        rows += importlib.import_module(f"benchmarks.{name}").measure()
        # After each, so that what a long run has found is kept.
        text = json.dumps(record(rows), indent=2) + "\n"
        (arguments.output / "benchmarks.json").write_text(text, encoding="utf-8")
    print_table(rows)
    draw(rows, arguments.output / "benchmarks.png")
    write_page(rows, machine(), arguments.output / "benchmarks.md")


if __name__ == "__main__":
    main()
