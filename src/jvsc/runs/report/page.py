"""One self-contained HTML page of one or several runs; everything it shows is inside the file."""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from jvsc.data.atomic import write_atomically
from jvsc.runs.logs import METRICS_FILE
from jvsc.runs.report.comparison import draw_curves, draw_distributions, draw_snr
from jvsc.runs.report.measures import MEASURE_ROWS, mean_of, written
from jvsc.runs.report.record import RunRecord

REPORT_FILE = "report.html"


def write_page(title: str, runs: list[RunRecord], folder: Path) -> list[Path]:
    """Draws runs side by side and writes report.html, for a single run with its latents.

    Args:
      title: the page's.
      runs: one or more.
      folder: where the page and its pictures go.

    Returns:
      The page's path and those of the pictures drawn for it.
    """
    curves = draw_curves(runs, folder / "training.png")
    drawn = {
        "How many latents are active, how often each is, and how alike the supports of a datum's "
        "codes are": draw_distributions(runs, folder / "distributions.png"),
        "Signal-to-noise ratio of the gradients (Figure 4)": draw_snr(runs, folder / "snr.png"),
    }
    figures = {caption: path for caption, path in drawn.items() if path is not None}
    environment = Environment(
        loader=PackageLoader("jvsc.runs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=title,
        runs=runs,
        rows=measure_rows(runs),
        remarks=remarks(runs),
        curves=inline(curves),
        figures=[(caption, inline(path)) for caption, path in figures.items()],
        pictures=[
            [(caption, inline(path)) for caption, path in run.pictures.items()] for run in runs
        ],
        gallery=runs[0].gallery if len(runs) == 1 else None,
        sprites={name: inline(path) for name, path in runs[0].sprites.items()},
        settings=[json.dumps(run.settings, indent=2) for run in runs],
        zip=zip,
    )
    path = folder / REPORT_FILE
    write_atomically(path, page)
    return [path, curves, *figures.values()]


def measure_rows(runs: list[RunRecord]) -> list[dict[str, Any]]:
    """The table: a row a measure that some run has, a cell a run with our value and the paper's."""
    rows = []
    for row in MEASURE_ROWS:
        means = [mean_of(run.report["metrics"].get(row.name)) for run in runs]
        if all(mean is None for mean in means):
            continue
        cells = [
            {"ours": written(row, mean), "paper": written(row, run.published.get(row.name))}
            for run, mean in zip(runs, means, strict=True)
        ]
        rows.append({"label": row.label, "note": row.note, "cells": cells})
    return rows


def remarks(runs: list[RunRecord]) -> list[str]:
    """What evaluations say in words, such as why a measure is missing, each once with its runs."""
    said: dict[str, list[str]] = {}
    for run in runs:
        for text in sorted(set(run.values("frechet_features"))):
            said.setdefault(text, []).append(run.name)
        if run.damage:
            text = f"rows of {METRICS_FILE} that cannot be read are left out ({run.damage})"
            said.setdefault(text, []).append(run.name)
    if len(runs) == 1:
        return list(said)
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


class Picture(NamedTuple):
    """A picture inside the page.

    Attributes:
      address: holds the PNG itself.
      wide: whether a narrow screen should scroll it, since its writing would be too small.
    """

    address: str
    wide: bool


def inline(path: Path) -> Picture:
    """Reads a PNG."""
    content = path.read_bytes()
    with Image.open(path) as image:
        wide = image.width > 1.5 * image.height
    return Picture("data:image/png;base64," + base64.b64encode(content).decode("ascii"), wide)
