"""Pictures: arrays in, PNG files out."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from skimage.util import montage


def draw_images(
    images: Float[np.ndarray, "N D"], shape: tuple[int, ...], path: Path, *, signed: bool = False
) -> Path:
    """Draws images in one grid.

    Args:
      images: one flat image a row; in [0, 1], or signed.
      shape: an image's shape.
      path: the PNG to write.
      signed: scale each image to its own largest size and draw zero grey, as for atoms.
    """
    if signed:
        images = grey_at_zero(images)
    return write_figure(_mosaic(images.reshape(-1, *shape)), path)


def grey_at_zero(images: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Signed images, each scaled by its own largest size, with zero at the middle of [0, 1]."""
    size = np.maximum(np.abs(images).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return (images / size + 1) / 2


def draw_rows(
    rows: dict[str, Float[np.ndarray, "N D"]],
    shape: tuple[int, ...],
    path: Path,
    *,
    signed: bool = False,
) -> Path:
    """Draws rows of images under each other, such as data above what was made of them.

    Args:
      rows: images under the name that stands beside them.
      shape: one image's shape.
      path: the PNG to write.
      signed: scale all rows together by the first one's range and draw zero grey.
    """
    limit = np.percentile(np.abs(next(iter(rows.values()))), 99.5)
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(0.62 * count + 1.6, 0.72 * len(rows)))
    axes = figure.subplots(len(rows), 1, squeeze=False)
    for axis, (name, images) in zip(axes[:, 0], rows.items(), strict=True):
        shown = (images / limit + 1) / 2 if signed else images
        _show(axis, _tile(shown.reshape(-1, *shape), (1, count)))
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return write_figure(figure, path)


def _tile(images: Float[np.ndarray, "N *shape"], grid: tuple[int, int] | None = None) -> np.ndarray:
    """Images in [0, 1] side by side with white lines between; one channel as [H, W]."""
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    colour = images.ndim == 4
    return montage(
        images,
        grid_shape=grid,
        padding_width=1,
        fill=[1.0] * images.shape[-1] if colour else 1.0,
        channel_axis=3 if colour else None,
    )


def _show(axis: Axes, tiles: np.ndarray) -> None:
    axis.imshow(np.clip(tiles, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _mosaic(images: Float[np.ndarray, "N *shape"]) -> Figure:
    tiles = _tile(images)
    figure = Figure(figsize=(8, 8 * tiles.shape[0] / tiles.shape[1]))
    axis = figure.subplots()
    _show(axis, tiles)
    axis.set_axis_off()
    return figure


def style(axis: Axes, title: str) -> None:
    """Title, and no more lines than a chart needs."""
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def write_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure as a PNG, cut to what is drawn."""
    figure.savefig(path, dpi=120, bbox_inches="tight", pad_inches=0.05)
    return path
