"""Where a workload's time goes, by JAX's profiler: python -m benchmarks.profiled [WORKLOAD ...].

Prints the compiled operations that take the most, each with its share of all operations' time. On a
CPU a product of matrices is a `dot` or a `ynn_fusion`; other names say what XLA fused.
"""

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.conv_step import CONFIG as CONV
from benchmarks.conv_step import SHAPE, settings_of
from benchmarks.encode import SETTINGS, random_problem
from benchmarks.linear_step import BATCH_SIZE, NUM_FEATURES
from benchmarks.linear_step import CONFIG as LINEAR
from benchmarks.measures import NUM_DRAWS, snr_of_draws
from benchmarks.workload import training_steps

NUM_STEPS, LISTED = 16, 12
PRODUCT = re.compile(r"dot|ynn_fusion|convolution|custom-call")
Call = Callable[[], Any]


def linear(num_samples: int, seeds: str = "(0,)") -> tuple[Call, int]:
    """Steps of the linear model, and how many."""
    overrides = {"batch_size": BATCH_SIZE, "num_samples": num_samples, "seeds": seeds}
    return training_steps(LINEAR, overrides, (NUM_FEATURES,), NUM_STEPS), NUM_STEPS


def conv(batch_size: int, num_samples: int) -> tuple[Call, int]:
    """Steps of the Fashion-MNIST model, and how many."""
    return training_steps(CONV, settings_of(batch_size, num_samples), SHAPE, NUM_STEPS), NUM_STEPS


def encoding(setting: int) -> tuple[Call, int]:
    """Codes of a setting's data, and how many data."""
    problem = random_problem(SETTINGS[setting])
    return partial(problem.encode, problem.data), len(problem.data)


def gradient_snr() -> tuple[Call, int]:
    """Gradients of the linear model, and how many."""
    return snr_of_draws(), NUM_DRAWS


WORKLOADS: dict[str, Callable[[], tuple[Call, int]]] = {
    "linear_1": partial(linear, 1),
    "linear_20": partial(linear, 20),
    "three_seeds": partial(linear, 1, "(0,1,2)"),
    "conv_1": partial(conv, 128, 1),
    "conv_20": partial(conv, 64, 20),
    "encode_1": partial(encoding, 0),
    "encode_20": partial(encoding, 1),
    "gradient_snr": gradient_snr,
}


def operations(call: Call) -> Counter[str]:
    """Nanoseconds of each compiled operation, loops without what they hold, of one call."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        (file,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
    found = Counter[str]()
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                if any(name == "hlo_op" for name, _ in event.stats):
                    found[event.name] += int(event.duration_ns)
    return Counter({name: spent for name, spent in found.items() if not name.startswith("while")})


def table(name: str, found: Counter[str], count: int) -> Table:
    """The longest operations, and all products together."""
    total = found.total()
    products = sum(spent for each, spent in found.items() if PRODUCT.match(each))
    text = (
        f"{name}: {total / count / 1e6:.3f} ms of operations each, products {products / total:.0%}"
    )
    shown = Table(title=text, title_justify="left")
    for column in ("operation", "ms", "share"):
        shown.add_column(column, justify="left" if column == "operation" else "right")
    for each, spent in found.most_common(LISTED):
        shown.add_row(each, f"{spent / count / 1e6:.3f}", f"{spent / total:.1%}")
    return shown


def main() -> None:
    """Profiles the workloads asked for, each after two calls that compile and warm up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiled")
    parser.add_argument("workloads", nargs="*", choices=[[], *WORKLOADS])
    for name in parser.parse_args().workloads or WORKLOADS:
        call, count = WORKLOADS[name]()
        for _ in range(2):
            jax.block_until_ready(call())
        Console(width=100).print(table(name, operations(call), count))


if __name__ == "__main__":
    main()
