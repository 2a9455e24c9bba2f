"""Pictures: arrays in, PNG files out."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from skimage.util import montage

from jvsc.logs import Row


def draw_dictionary(
    dictionary: Float[np.ndarray, "K D"], shape: tuple[int, ...], path: Path
) -> Path:
    """Draws every atom as a picture in one grid, each scaled to its own largest size, zero grey.

    Args:
      dictionary: one atom a row.
      shape: an atom's shape as an image.
      path: the PNG to write.
    """
    size = np.maximum(np.abs(dictionary).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return _write(_mosaic((dictionary / size).reshape(-1, *shape)), path)


def draw_reconstructions(
    rows: dict[str, Float[np.ndarray, "N D"]], shape: tuple[int, ...], path: Path
) -> Path:
    """Draws data above what was made of them: one row of pictures a name, one grey scale for all.

    Args:
      rows: pictures under the name that stands beside them, the data first.
      shape: one picture's shape.
      path: the PNG to write.
    """
    limit = np.percentile(np.abs(next(iter(rows.values()))), 99.5)
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(0.62 * count + 1.6, 0.72 * len(rows)))
    axes = figure.subplots(len(rows), 1, squeeze=False)
    for axis, (name, pictures) in zip(axes[:, 0], rows.items(), strict=True):
        tiles = montage(
            pictures.reshape(-1, *shape), grid_shape=(1, count), padding_width=1, fill=limit
        )
        axis.imshow(tiles, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return _write(figure, path)


def draw_training(rows: list[Row], seeds: tuple[int, ...], path: Path) -> Path:
    """Draws loss, share of non-zeros and validation loss over the epochs, a line a seed."""
    panels = {
        "loss": "training loss",
        "nonzero_fraction": "share of non-zeros",
        "validation_loss": "validation loss (objective 10)",
    }
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots(1, len(panels))
    for axis, (name, title) in zip(axes, panels.items(), strict=True):
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        for index, seed in enumerate(seeds):
            values = [np.nan if v[index] is None else v[index] for _, v in points]  # type: ignore
            axis.plot([e for e, _ in points], values, marker=".", ms=3, label=f"seed {seed}")
        axis.set(title=title, xlabel="epoch")
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=8)
    return _write(figure, path)


def _mosaic(pictures: Float[np.ndarray, "N *shape"]) -> Figure:
    channels = pictures.ndim - 1 if pictures.ndim == 4 else None
    fill = [1.0] * pictures.shape[-1] if channels else 1.0
    tiles = montage(pictures, padding_width=1, fill=fill, channel_axis=channels)
    figure = Figure(figsize=(8, 8 * tiles.shape[0] / tiles.shape[1]))
    axis = figure.subplots()
    shown = tiles if channels is None else (tiles + 1) / 2
    axis.imshow(shown, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    axis.set_axis_off()
    return figure


def _write(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120, bbox_inches="tight", pad_inches=0.05)
    return path
