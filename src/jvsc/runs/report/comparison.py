"""Pictures of one or several runs side by side, drawn from what their workdirs hold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jvsc.runs.report.figures import style, write_figure
from jvsc.runs.report.record import RunRecord

Panel = Callable[[Axes, RunRecord], None]


def draw_curves(runs: list[RunRecord], path: Path) -> Path:
    """Draws losses and share of non-zeros over the epochs, the mean over seeds, a line a run."""
    panels = {
        name: (title, _curve(name))
        for name, title in {
            "loss": "training loss",
            "nonzero_fraction": "share of non-zeros",
            "validation_loss": "validation loss",
        }.items()
    }
    return _draw(runs, panels, "epoch", path)


def draw_distributions(runs: list[RunRecord], path: Path) -> Path | None:
    """Draws how many latents are active, how often each is, and the Jaccard histogram.

    Returns:
      The PNG's path; None if no run has codes.
    """
    runs = [run for run in runs if run.values("active_latents")]
    if not runs:
        return None
    panels: dict[str, tuple[str, Panel]] = {
        "active_latents": ("active latents of a datum", _active_latents),
        "latent_frequency": ("share of data in which a latent is active, sorted", _frequency),
    }
    if any(run.values("jaccard_histogram") for run in runs):
        panels["jaccard_histogram"] = ("Jaccard consistency of a datum's codes", _jaccard)
    return _draw(runs, panels, "", path)


def draw_snr(runs: list[RunRecord], path: Path) -> Path | None:
    """Draws the gradients' signal-to-noise ratio, a bar a run (Figure 4); None without any."""
    runs = [run for run in runs if run.values("encoder_snr")]
    if not runs:
        return None
    figure = Figure(figsize=(8, 0.6 + 0.4 * len(runs)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, part in zip(axes, ("encoder", "generator"), strict=True):
        means = [np.mean(run.values(f"{part}_snr")) for run in runs]
        bars = axis.barh([run.name for run in runs], means, color="C0")
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        style(axis, f"gradient SNR, {part}")
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    return write_figure(figure, path)


def _draw(
    runs: list[RunRecord], panels: dict[str, tuple[str, Panel]], xlabel: str, path: Path
) -> Path:
    figure = Figure(figsize=(3.4 * len(panels), 2.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, panel) in zip(axes, panels.values(), strict=True):
        for run in runs:
            panel(axis, run)
        style(axis, title)
        axis.set_xlabel(xlabel)
    if len(runs) > 1:
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(len(runs), 3),
            frameon=False,
            fontsize=8,
        )
    return write_figure(figure, path)


def _curve(name: str) -> Panel:
    def panel(axis: Axes, run: RunRecord) -> None:
        points = [(row["epoch"], row[name]) for row in run.rows if name in row]
        means = [np.mean([v for v in values if v is not None] or [np.nan]) for _, values in points]
        axis.plot([epoch for epoch, _ in points], means, marker=".", ms=3, label=run.name)
        axis.locator_params(axis="x", integer=True)
        if name == "nonzero_fraction":
            axis.set_ylim(bottom=0)

    return panel


def _active_latents(axis: Axes, run: RunRecord) -> None:
    counts = np.sum(run.values("active_latents"), axis=0)
    axis.stairs(counts / counts.sum(), fill=False, label=run.name)
    axis.set_ylabel("share of data", fontsize=8)


def _frequency(axis: Axes, run: RunRecord) -> None:
    axis.plot(np.mean(run.values("latent_frequency"), axis=0), label=run.name)
    axis.set_ylim(0, 1.02)


def _jaccard(axis: Axes, run: RunRecord) -> None:
    if histograms := run.values("jaccard_histogram"):
        counts = np.sum(histograms, axis=0)
        axis.stairs(counts / counts.sum(), np.linspace(0, 1, len(counts) + 1), label=run.name)
