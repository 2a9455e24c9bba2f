"""CelebA's faces (Liu et al. 2015): the official folder, or tensorflow-datasets."""

import io
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from jvsc.data.dataset import Dataset, Labels
from jvsc.data.image_cache import (
    CachedImages,
    Progress,
    Recipe,
    cached_images,
    remarks,
)
from jvsc.data.images import middle_square
from jvsc.data.paths import default_cache, user_path, what_lies
from jvsc.data.prepared import EncodedImages, fingerprint, prepared_images, read_file
from jvsc.errors import UserError

# Width and height of the aligned images, and the side of the square cut from their middle.
SIZE = (178, 218)
CROP = 140
# Training and validation in the official list; 2 are the test images.
PARTITIONS = ("0", "1")
PARTITION_FILE = "list_eval_partition.txt"
ATTRIBUTE_FILE = "list_attr_celeba.txt"
# Kaggle's copy has these instead, and the folder of images within one of the same name.
PARTITION_TABLE, ATTRIBUTE_TABLE = "list_eval_partition.csv", "list_attr_celeba.csv"
IMAGE_FOLDER = "img_align_celeba"


def load_celeba(
    path: str = "",
    *,
    tfds_dir: str = "",
    cache_dir: str = "",
    num_train: int = 150_000,
    num_validation: int = 19_000,
    image_size: int = 64,
    progress: Progress | None = None,
) -> Dataset:
    """The first images of CelebA's official training and validation splits (Liu et al. 2015).

    Their middle is cut out and resized; in training they are mirrored at random. They are decoded
    once, into a cache from which they are read.

    Args:
      path: the official folder, with img_align_celeba/ and list_eval_partition.txt; "" asks
        tensorflow-datasets, which stores the images of a split in an order of its own.
      tfds_dir: where tensorflow-datasets keeps its data; "" for its own default.
      cache_dir: where decoded images are kept; "" for jvsc in the user's cache folder.
      num_train: training images N.
      num_validation: validation images M.
      image_size: height and width to which images are resized.
      progress: told how many of how many images of a split are decoded.

    Returns:
      Bytes that stand for [0, 1], [N, D] and [M, D], D = image_size^2 * 3, and the attributes where
      there are any.

    Raises:
      UserError: for data that are missing or too few, or a cache that cannot be written.
    """
    if path:
        source = user_path(path, "data.path")
        splits = folder_faces(source)
        attributes = folder_attributes(source)
    else:
        source = "tensorflow-datasets"
        splits = prepared_faces(tfds_dir)
        attributes = prepared_attributes(splits)
    folder = user_path(cache_dir, "data.cache_dir") if cache_dir else default_cache()
    caches = []
    counts = {"train": num_train, "validation": num_validation}
    for split, (name, count) in zip(splits, counts.items(), strict=True):
        recipe = Recipe(
            name=f"celeba-{name}-{CROP}to{image_size}",
            source=split,
            decode=partial(face, size=image_size),
            num_images=count,
            dimension=image_size * image_size * 3,
            setting=f"data.num_{name}",
        )
        caches.append(cached_images(recipe, folder, progress))
    description = (
        f"{num_train:,} + {num_validation:,} faces of CelebA ({source}), {CROP}x{CROP} pixels "
        f"resized to {image_size}x{image_size}{remarks(splits, caches)}"
    )
    train, validation = caches[0].pixels, caches[1].pixels[:]
    used = [
        cached_names(split, cache, count)
        for split, cache, count in zip(splits, caches, counts.values(), strict=True)
    ]
    return Dataset(
        train,
        validation,
        (image_size, image_size, 3),
        description,
        mirrored=True,
        read_labels=attributes and cache(partial(labels_of, attributes, *used)),
    )


# Reads the attributes' names, and which of them each of some images has.
ReadAttributes = Callable[[int, list[str]], tuple[tuple[str, ...], Bool[np.ndarray, "N A"]]]


def labels_of(attributes: ReadAttributes, train: list[str], validation: list[str]) -> Labels:
    """Attributes of the images that are used."""
    names, of_train = attributes(0, train)
    return Labels(names, of_train, attributes(1, validation)[1], exclusive=False)


def cached_names(split: EncodedImages, cache: CachedImages, count: int) -> list[str]:
    """Names of the images in a cache, in order."""
    corrupt = set(cache.corrupt)
    return [name for name in split.names if name not in corrupt][:count]


def folder_attributes(folder: Path) -> ReadAttributes | None:
    """How the attributes of images in the official folder are read, if it has the file."""
    places = [folder / name for name in (ATTRIBUTE_FILE, ATTRIBUTE_TABLE)]
    file = next((file for file in places if file.is_file()), None)
    if file is None:
        return None
    is_table = file.name == ATTRIBUTE_TABLE

    def read(split: int, images: list[str]) -> tuple[tuple[str, ...], Bool[np.ndarray, "N A"]]:
        del split
        lines = list(map(in_words, file.read_text("utf-8-sig", "replace").splitlines()))
        # The file begins with a number of lines, the table with the name of the images' column.
        lines = lines if is_table else lines[1:]
        names = tuple(lines[0][is_table:]) if lines else ()
        rows = {words[0]: words[1:] for words in lines[1:] if words}
        bad = next((n for n in images if len(rows.get(n, ())) != len(names)), None)
        if bad is not None or not names:
            raise UserError(
                f"{file} does not give {len(names)} attributes of {bad}; fetch it again, or remove "
                "it to go on without attributes"
            )
        return names, np.asarray([[word == "1" for word in rows[name]] for name in images])

    return read


def prepared_attributes(splits: list[EncodedImages]) -> ReadAttributes:
    """How the attributes of images from tensorflow-datasets are read."""

    def read(split: int, images: list[str]) -> tuple[tuple[str, ...], Bool[np.ndarray, "N A"]]:
        label = splits[split].label
        assert label is not None
        places = {name: index for index, name in enumerate(splits[split].names)}
        rows = [label(places[name]) for name in images]
        names = tuple(sorted(rows[0]))
        return names, np.asarray([[bool(row[name]) for name in names] for row in rows])

    return read


def face(encoded: bytes, size: int) -> UInt8[np.ndarray, " D"]:
    """Decodes an image, cuts the square in its middle, and resizes it (`middle_square`).

    Raises:
      ValueError: if the image is not 178x218.
      Exception: whatever Pillow raises for bytes that are no whole image.
    """
    with Image.open(io.BytesIO(encoded)) as picture:
        if picture.size != SIZE:
            raise ValueError(f"{picture.size} is not {SIZE}")
        return middle_square(picture, CROP, size)


def folder_faces(folder: Path) -> list[EncodedImages]:
    """Training and validation images of the official folder, in the order of its list.

    Raises:
      UserError: if the folder has no list or no images.
    """
    file = folder / PARTITION_FILE
    if not file.is_file() and (folder / PARTITION_TABLE).is_file():
        file = folder / PARTITION_TABLE
    images = folder / IMAGE_FOLDER
    if (images / IMAGE_FOLDER).is_dir():
        images = images / IMAGE_FOLDER
    try:
        if not file.is_file():
            raise OSError(f"no {file.name} there")
        lines = file.read_text("utf-8-sig", "replace").splitlines()
        there = set(os.listdir(images))
    except OSError as error:
        raise UserError(
            f"data.path={folder}: give a folder with {PARTITION_FILE} and {IMAGE_FOLDER}/ ({error})"
            f"{what_lies(folder)}"
        ) from None
    listed: dict[str, list[str]] = {"0": [], "1": [], "2": []}
    for number, words in enumerate(map(in_words, lines), start=1):
        if number == 1 and words == ["image_id", "partition"]:
            continue
        if len(words) != 2 or words[1] not in listed:
            raise UserError(
                f"{file}, line {number}: must be an image and 0, 1 or 2, as in '000001.jpg 0'"
            )
        listed[words[1]].append(words[0])
    splits = []
    for partition in PARTITIONS:
        names = [name for name in listed[partition] if name in there]
        files = [images / name for name in names]
        absent = len(listed[partition]) - len(names)
        splits.append(EncodedImages(names, partial(read_file, files), fingerprint(files), absent))
    return splits


def in_words(line: str) -> list[str]:
    """What stands between a line's commas or spaces."""
    return line.replace(",", " ").split()


def prepared_faces(tfds_dir: str) -> list[EncodedImages]:
    """Training and validation images from tensorflow-datasets.

    Raises:
      UserError: if it has none and can get none; the message names what can be done.
    """
    try:
        return prepared_images("celeb_a", ["train", "validation"], tfds_dir, "attributes")
    except UserError as error:
        raise UserError(
            f"CelebA is not at hand; set data.path to the official folder with {IMAGE_FOLDER}/ and "
            f"{PARTITION_FILE}, or data.tfds_dir to where tensorflow-datasets has prepared celeb_a "
            f"as array_record; last tried: {error}"
        ) from None
