"""A folder of images of any sizes."""

import io
import os
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from jvsc.data.dataset import Dataset
from jvsc.data.image_cache import Progress, Recipe, cached_images, remarks
from jvsc.data.patches import DEEP_MODES, IMAGE_SUFFIXES, grey_levels
from jvsc.data.paths import data_files, default_cache, user_path
from jvsc.data.prepared import EncodedImages, fingerprint, read_file
from jvsc.errors import UserError, refuse_beyond_memory


def load_images(
    path: str | os.PathLike[str],
    *,
    image_size: int = 64,
    num_train: int | None = None,
    num_validation: int | None = None,
    seed: int = 0,
    mirrored: bool = True,
    cache_dir: str | os.PathLike[str] = "",
    progress: Progress | None = None,
) -> Dataset:
    """Every image of a folder, of any size, in colour: the square in its middle, resized.

    They are decoded once, into a cache from which they are read. Which of them are for
    validation is drawn.

    Args:
      path: the folder; hidden files and folders in it are no images.
      image_size: height and width to which the squares are resized.
      num_train: training images N; by default all that are not for validation.
      num_validation: validation images M; by default a tenth, one at least.
      seed: of the draw.
      mirrored: whether training mirrors images left to right at random.
      cache_dir: where decoded images are kept; "" for jvsc in the user's cache folder.
      progress: told how many of how many images of a split are decoded.

    Returns:
      Bytes that stand for [0, 1], [N, D] and [M, D], D = image_size^2 * 3.

    Raises:
      UserError: for a folder without images, fewer of them than asked, or ones that cannot be
        decoded where all are needed, or a cache that cannot be written.
    """
    if not os.fspath(path):
        raise UserError("the path is empty; give a folder of images", "data.path")
    _check_numbers(image_size=image_size, num_train=num_train, num_validation=num_validation)
    source = user_path(path, "data.path")
    files = data_files(source, IMAGE_SUFFIXES, "data.path")
    if num_validation is None:
        num_validation = max(1, len(files) // 10)
    if num_train is None:
        num_train = len(files) - num_validation
    if min(num_train, num_validation) < 1 or num_train + num_validation > len(files):
        raise UserError(
            f"num_train={num_train} and num_validation={num_validation} of {len(files)} images in "
            f"{source}; give 1 or more of each, together at most {len(files)}"
        )
    order = np.random.default_rng(seed).permutation(len(files))
    caches, splits = [], []
    for name, count, chosen in (
        # All that are not for validation, among them what takes a corrupt image's place.
        ("train", num_train, order[num_validation:]),
        ("validation", num_validation, order[:num_validation]),
    ):
        mine = [files[index] for index in chosen]
        names = [file.name for file in mine]
        splits.append(EncodedImages(names, partial(read_file, mine), fingerprint(mine)))
        recipe = Recipe(
            name=f"images-{name}-{image_size}",
            source=splits[-1],
            decode=partial(square_pixels, size=image_size),
            num_images=count,
            dimension=image_size * image_size * 3,
            setting=f"num_{name}",
        )
        folder = user_path(cache_dir, "cache_dir") if cache_dir else default_cache()
        caches.append(cached_images(recipe, folder, progress))
    description = (
        f"{num_train:,} + {num_validation:,} images of {source}, resized to "
        f"{image_size}x{image_size}{remarks(splits, caches)}"
    )
    train, validation = caches[0].pixels, caches[1].pixels[:]
    shape = (image_size, image_size, 3)
    return Dataset(train, validation, shape, description, mirrored=mirrored)


def _check_numbers(**given: Any) -> None:
    """Refuses what is no number of pixels or images; None is a number of images."""
    for name, value in given.items():
        is_number = isinstance(value, int | np.integer) and value >= 1
        if not is_number and (value is not None or name == "image_size"):
            raise UserError(f"{name} is {value!r}; give a whole number of at least 1")
    refuse_beyond_memory({"image_size": 3 * int(given["image_size"]) ** 2})


def square_pixels(encoded: bytes, size: int) -> UInt8[np.ndarray, " D"]:
    """Decodes an image, upright as its camera says, and makes its largest middle square `size`.

    Raises:
      Exception: whatever Pillow raises for bytes that are no whole image.
    """
    with Image.open(io.BytesIO(encoded)) as picture:
        upright = in_bytes(ImageOps.exif_transpose(picture))
        return middle_square(upright, min(upright.size), size)


def in_bytes(picture: Image.Image) -> Image.Image:
    """A picture whose grey levels are more than bytes, or numbers in [0, 1] or [0, 255], as bytes.

    Pillow's own conversion would clip them to white, or leave all but black.
    """
    if picture.mode not in (*DEEP_MODES, "F"):
        return picture
    levels = grey_levels(picture)
    levels = 255 * levels if levels.max() <= 1 else levels
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def middle_square(picture: Image.Image, side: int, size: int) -> UInt8[np.ndarray, " D"]:
    """The pixels of the square in a picture's middle, resized, in colour.

    Pillow's bilinear filter widens with the reduction, so that nothing aliases. The square is cut
    first, lest the filter reach beyond it.

    Args:
      picture: at least as wide and high as the square.
      side: of the square.
      size: height and width to which it is resized.
    """
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR)).reshape(-1)
