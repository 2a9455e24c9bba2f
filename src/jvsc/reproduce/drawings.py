"""Figures of a reproduction, drawn from the records of its runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import LogLocator, NullFormatter

from jvsc.reproduce.tables import Compared
from jvsc.runs.report.figures import style, write_figure
from jvsc.runs.report.record import RunRecord


def draw_dumbbells(columns: Mapping[str, Sequence[Compared]], path: Path) -> Path:
    """Draws our value and the paper's for each method, joined by a line; one panel per column."""
    figure = Figure(figsize=(4.2 * len(columns), 3.2), layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for axis, (title, column) in zip(axes, columns.items(), strict=True):
        for position, entry in enumerate(column):
            if entry.ours is not None and entry.paper is not None:
                axis.plot([entry.ours, entry.paper], [position] * 2, color="0.75", lw=3, zorder=1)
        for name, colour in (("ours", "C0"), ("paper", "C1")):
            known = [
                (getattr(entry, name), position)
                for position, entry in enumerate(column)
                if getattr(entry, name) is not None
            ]
            values, places = zip(*known, strict=True) if known else ((), ())
            axis.scatter(values, places, color=colour, zorder=2, label=name)
        axis.set_yticks(range(len(column)), [entry.label for entry in column])
        if all(entry.ours is entry.paper is None for entry in column):
            axis.set_xlim(1, 10)  # a logarithmic axis of nothing has no ends
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        style(axis, title)
        axis.grid(axis="x", which="both", color="0.92")
    axes[0].invert_yaxis()
    axes[-1].legend(frameon=False, fontsize=8)
    return write_figure(figure, path)


def draw_gallery(
    pictures: Mapping[str, Path], path: Path, columns: int, corner: float = 1.0
) -> Path | None:
    """Draws pictures of several runs in one grid, each with its title.

    Args:
      pictures: PNGs by title.
      path: the PNG to write.
      columns: of the grid.
      corner: how much of each picture's width and height is shown, from its upper left corner.

    Returns:
      The path; None without pictures.
    """
    if not pictures:
        return None
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(3.1 * columns, 3.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
        image = imread(picture)
        height, width = (round(corner * size) for size in image.shape[:2])
        axis.imshow(image[:height, :width], interpolation="lanczos")
        style(axis, title)
    return write_figure(figure, path)


def draw_ratios(records: Mapping[str, Mapping[int, RunRecord]], path: Path) -> Path | None:
    """Draws the gradients' signal-to-noise ratio of encoder and dictionary (Figure 4).

    Args:
      records: the runs of each method, by their number of samples J.
      path: the PNG to write.
    """
    if not records:
        return None
    counts = sorted({count for runs in records.values() for count in runs})
    height = 0.8 / len(counts)
    figure = Figure(figsize=(9, 0.8 + 0.5 * len(records)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, part in zip(axes, ("encoder", "generator"), strict=True):
        for index, count in enumerate(counts):
            positions, means, deviations = [], [], []
            for position, runs in enumerate(records.values()):
                values = runs[count].values(f"{part}_snr") if count in runs else []
                if values:
                    positions.append(position + (index - (len(counts) - 1) / 2) * height)
                    means.append(np.mean(values))
                    deviations.append(np.std(values))
            bars = axis.barh(positions, means, height, xerr=deviations, label=f"J = {count}")
            axis.bar_label(bars, fmt="%.3g", padding=4, fontsize=7)
        style(axis, f"gradient SNR, {'dictionary' if part == 'generator' else part}")
        axis.set_yticks(range(len(records)), list(records))
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    _legend_below(figure, columns=len(counts))
    return write_figure(figure, path)


def draw_sweeps(
    sweeps: Mapping[str, Mapping[float, RunRecord]],
    measures: Mapping[str, str],
    xlabel: str,
    path: Path,
) -> Path | None:
    """Draws measures against the swept setting, one line per method (Figure 7).

    Args:
      sweeps: the runs of each method, by the swept setting; one run alone is a horizontal line.
      measures: titles by the measures' names.
      xlabel: name of the swept setting.
      path: the PNG to write.
    """
    if not sweeps:
        return None
    figure = Figure(figsize=(3.6 * len(measures), 3.2), layout="constrained")
    axes = figure.subplots(1, len(measures), squeeze=False)[0]
    swept = sorted({value for runs in sweeps.values() for value in runs})
    for axis, (measure, title) in zip(axes, measures.items(), strict=True):
        for method, runs in sweeps.items():
            points = {value: np.mean(run.values(measure)) for value, run in runs.items()}
            if len(points) == 1:
                axis.axhline(*points.values(), color="0.4", ls="--", label=method)
            else:
                axis.plot(list(points), list(points.values()), marker="o", ms=4, label=method)
        axis.set_xscale("log")
        axis.set_xticks(swept, [f"{value:g}" for value in swept], minor=False)
        axis.minorticks_off()
        style(axis, title)
        axis.set_xlabel(xlabel, fontsize=9)
    _legend_below(figure, columns=4)
    return write_figure(figure, path)


def _legend_below(figure: Figure, columns: int) -> None:
    """One legend for all panels, which covers none."""
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=8,
    )
