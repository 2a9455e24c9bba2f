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
# Of what codes and dictionaries are worth, and not of seconds: tables and pictures of their own.
QUALITY, DICTIONARY = "quality", "dictionary"
# What takes a GPU.
GPU_WORKLOADS = ("celeba_step", "trainings")


def main() -> None:
    """Measures the workloads asked for; prints one table, writes JSON, a picture and a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    known = (*WORKLOADS, QUALITY, DICTIONARY, *GPU_WORKLOADS)
    names = ", ".join(known)
    text = (
        f"of {names}; by default all but {QUALITY} and {DICTIONARY}, which take long, and "
        f"{' and '.join(GPU_WORKLOADS)}, which take a GPU"
    )
    parser.add_argument("workloads", nargs="*", help=text)
    text = "folder for the table, the figures and a picture (default runs/benchmarks)"
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help=text)
    parser.add_argument("--seeds", type=int, default=1, help="fits of each setting of quality")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.workloads) - set(known))
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}; give some of {names}")
    try:
        import torch
    except ImportError:
        parser.error("what jvsc is compared with is not installed; make peers installs it")
    # On a GPU PyTorch and further processes need memory too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    torch.set_num_threads(os.cpu_count() or 1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    asked = arguments.workloads or WORKLOADS
    if QUALITY in asked:
        importlib.import_module("benchmarks.quality").run(arguments.output, arguments.seeds)
    if DICTIONARY in asked:
        importlib.import_module("benchmarks.dictionary").run(arguments.output)
    rows: list[Comparison] = []
    for name in asked:
        if name in (QUALITY, DICTIONARY):
            continue
        rows += importlib.import_module(f"benchmarks.{name}").measure()
        # After each, so that what a long run has found is kept.
        text = json.dumps(record(rows), indent=2) + "\n"
        (arguments.output / "benchmarks.json").write_text(text, encoding="utf-8")
    if not rows:
        return
    print_table(rows)
    draw(rows, arguments.output / "benchmarks.png")
    write_page(rows, machine(), arguments.output / "benchmarks.md")


if __name__ == "__main__":
    main()
