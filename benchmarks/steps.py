"""Training steps of jvsc beside PyTorch's, of the same model."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from benchmarks.ceiling import matrix_product_rate
from benchmarks.timing import compare
from benchmarks.workload import Comparison


def compare_steps(
    workload: str,
    ours: Callable[[], Any],
    our_steps: int,
    peers: Mapping[str, Callable[[], torch.Tensor]],
    their_steps: int,
    target: float,
    flops: float | None = None,
    images: int | None = None,
) -> list[Comparison]:
    """One row an opponent, in milliseconds a step.

    Args:
      workload: what is trained.
      ours: `our_steps` steps in one call.
      our_steps: of it.
      peers: a step each, which may return before its device is done.
      their_steps: made for each time that is taken.
      target: the ratio that is asked for.
      flops: operations of a step, for the share of the ceiling.
      images: of a step, where images per second are to be told.
    """
    steps = {name: partial(_repeat, step, their_steps) for name, step in peers.items()}
    times = compare({"jvsc": ours, **steps})
    mine = times["jvsc"]
    share = flops and flops * our_steps / mine.median / matrix_product_rate("float32")
    return [
        Comparison(
            workload=workload,
            opponent=name,
            ours=1e3 * mine.median / our_steps,
            theirs=1e3 * times[name].median / their_steps,
            unit="ms",
            ours_first=mine.first,
            target=target,
            note=f"{images * our_steps / mine.median:.0f} images a second" if images else "",
            ceiling_share=share,
        )
        for name in peers
    ]


def _repeat(step: Callable[[], torch.Tensor], count: int) -> None:
    losses = [step() for _ in range(count)]
    losses[-1].item()
