"""What the benchmarks found, as a table, as JSON, as a picture and as a page."""

import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator
from rich.console import Console
from rich.table import Table

from benchmarks.ceiling import copy_bandwidth, matrix_product_rate
from benchmarks.workload import Comparison

COLUMNS = ("workload", "against", "jvsc", "other", "ratio", "target", "ceiling", "first call")


def machine() -> dict[str, str]:
    """What the figures depend on, the device's own ceiling among it."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": jax.devices()[0].device_kind,
        "cores": str(os.cpu_count()),
        "processor": processor(),
        "python": platform.python_version(),
        **versions("jax", "torch", "numpy", "spams-bin"),
        "float32 products": f"{matrix_product_rate('float32') / 1e9:.0f} GFLOP/s",
        "bfloat16 products": f"{matrix_product_rate('bfloat16') / 1e9:.0f} GFLOP/s",
        "copies": f"{copy_bandwidth() / 1e9:.1f} GB/s",
    }


def versions(*packages: str) -> dict[str, str]:
    """Those of them that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def record(rows: Sequence[Comparison]) -> dict[str, Any]:
    """Everything, for a file."""
    return {
        "machine": machine(),
        "results": [row._asdict() | {"ratio": row.ratio, "reached": row.reached} for row in rows],
    }


def cells(row: Comparison) -> list[str]:
    """One row of the table."""
    sign = "at most " if row.at_most else ""
    return [
        row.workload,
        row.opponent,
        f"{row.ours:.4g} {row.unit}",
        f"{row.theirs:.4g} {row.unit}",
        f"{row.ratio:.2f}",
        "-" if row.target is None else f"{sign}{row.target:.4g}",
        "-" if row.ceiling_share is None else f"{row.ceiling_share:.0%}",
        "-" if row.ours_first is None else f"{row.ours_first:.1f} s",
    ]


def print_table(rows: Sequence[Comparison]) -> None:
    """One row a comparison, the ratio beside its target."""
    table = Table(
        title="medians of alternating repetitions; a ratio above 1 is faster than the other"
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:2] else "right")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=160).print(table)


def draw(rows: Sequence[Comparison], file: Path) -> None:
    """A bar for each comparison with a target: the ratio, and the target as a mark."""
    shown = [row for row in rows if row.target is not None and not row.at_most][::-1]
    if not shown:
        return
    figure, axis = plt.subplots(figsize=(9, 1 + 0.45 * len(shown)), layout="constrained")
    colours = ["tab:blue" if row.reached else "tab:orange" for row in shown]
    places = range(len(shown))
    axis.barh(places, [row.ratio for row in shown], color=colours, height=0.6)
    targets = [row.target or 1.0 for row in shown]
    axis.plot(targets, places, "k|", markersize=16, label="target")
    axis.set_yticks(
        places, [f"{row.workload}\nagainst {row.opponent}" for row in shown], fontsize=8
    )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_xlabel("times as fast (blue reaches its target, orange does not)")
    figure.legend(loc="outside upper right", frameon=False)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def write_page(rows: Sequence[Comparison], about: dict[str, str], file: Path) -> None:
    """The table as Markdown, with the machine and every row's note."""
    lines = ["", ", ".join(f"{name} {value}" for name, value in about.items()), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    notes = [f"- {row.workload}, {row.opponent}: {row.note}" for row in rows if row.note]
    file.write_text("\n".join([*lines[1:], "", *notes]) + "\n", encoding="utf-8")
