"""Fashion-MNIST (Xiao et al. 2017): IDX files, Debian's package, or tensorflow-datasets."""

import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jvsc.data.dataset import Dataset, Labels
from jvsc.data.idx import read_idx_images, read_idx_labels
from jvsc.data.paths import user_path, what_lies
from jvsc.data.prepared import EncodedImages, prepared_images
from jvsc.errors import UserError

SHAPE = (28, 28, 1)
# The official test images are the validation set.
IDX_FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
LABEL_FILES = ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte")
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
Images = list[UInt8[np.ndarray, "_ 784"]]
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def load_fashion_mnist(
    path: str = "",
    *,
    tfds_dir: str = "",
    num_train: int = 60_000,
    num_validation: int = 10_000,
    seed: int = 0,
) -> Dataset:
    """Fashion-MNIST (Xiao et al. 2017): its training images, and its test images for validation.

    Args:
      path: a folder with the IDX files of images and, if there, of labels, gzipped or not; ""
        looks for Debian's package dataset-fashion-mnist first, and then asks tensorflow-datasets.
      tfds_dir: where tensorflow-datasets keeps its data; "" for its own default.
      num_train: training images N, all of them or a random subset.
      num_validation: validation images M, likewise.
      seed: of the random subsets.

    Returns:
      Bytes that stand for [0, 1], [N, 784] and [M, 784], and the classes where there are any.

    Raises:
      UserError: for data that are missing, damaged, or fewer than asked; see the message.
    """
    if path:
        source = user_path(path, "data.path")
    elif all(_idx_file(DEBIAN_FOLDER, name) for name in IDX_FILES):
        source = DEBIAN_FOLDER
    else:
        source = "tensorflow-datasets"
    images, read_classes = (
        read_folder(source) if isinstance(source, Path) else read_prepared(tfds_dir)
    )
    counts = {"data.num_train": num_train, "data.num_validation": num_validation}
    chosen = [
        subset(len(split), count, setting, seed)
        for split, (setting, count) in zip(images, counts.items(), strict=True)
    ]
    train, validation = (split[part] for split, part in zip(images, chosen, strict=True))
    description = f"{num_train:,} + {num_validation:,} images of Fashion-MNIST ({source})"
    read_labels = read_classes and cache(partial(one_hot_labels, read_classes, chosen))
    return Dataset(train, validation, SHAPE, description, read_labels=read_labels)


# Reads the class of every image of both splits.
ReadClasses = Callable[[], list[UInt8[np.ndarray, " _"]]]


def one_hot_labels(read_classes: ReadClasses, chosen: list[Any]) -> Labels:
    """Classes of the chosen images as ten binary attributes."""
    train, validation = (
        np.eye(len(CLASSES), dtype=bool)[classes[part]]
        for classes, part in zip(read_classes(), chosen, strict=True)
    )
    return Labels(CLASSES, train, validation, exclusive=True)


def read_folder(folder: Path) -> tuple[Images, ReadClasses | None]:
    """Training and test images of a folder of IDX files, and how their classes are read.

    Raises:
      UserError: if a file is missing, damaged, or its images are not 28x28.
    """
    splits = []
    for name in IDX_FILES:
        file = _idx_file(folder, name)
        if file is None:
            raise UserError(
                f"data.path={folder}: no {name} or {name}.gz in this folder{what_lies(folder)}"
            )
        images = read_idx_images(file)
        if images.shape[1:] != SHAPE[:2]:
            height, width = images.shape[1:]
            raise UserError(f"{file} has images of {height}x{width}, not 28x28; give another")
        splits.append(images.reshape(len(images), -1))
    files = [_idx_file(folder, name) for name in LABEL_FILES]
    label_files = [file for file in files if file is not None]
    if len(label_files) < len(files):
        return splits, None
    counts = [len(images) for images in splits]
    return splits, lambda: [read_classes(*of) for of in zip(label_files, counts, strict=True)]


def read_classes(file: Path, count: int) -> UInt8[np.ndarray, " N"]:
    """The classes of `count` images.

    Raises:
      UserError: if the file is damaged, of another number, or of other classes.
    """
    classes = read_idx_labels(file)
    if len(classes) != count or classes.max(initial=0) >= len(CLASSES):
        raise UserError(f"{file} does not hold {count:,} classes from 0 to 9; fetch it again")
    return classes


def _idx_file(folder: Path, name: str) -> Path | None:
    """The file of a name, in any spelling, gzipped or not, also in torchvision's folders."""
    places = [folder, folder / "raw", folder / "FashionMNIST" / "raw"]
    spellings = [name, name.replace("-idx", ".idx")]
    files = [place / f"{n}{end}" for place in places for n in spellings for end in ("", ".gz")]
    return next((file for file in files if file.is_file()), None)


def read_prepared(tfds_dir: str) -> tuple[Images, ReadClasses]:
    """Training and test images from tensorflow-datasets, in the order in which it stores them.

    And how their classes are read.

    Raises:
      UserError: if it has none and can get none; the message names what can be done.
    """
    try:
        splits = prepared_images("fashion_mnist", ["train", "test"], tfds_dir, "label")
        images = [decode_all(split) for split in splits]
    except UserError as error:
        raise UserError(
            "Fashion-MNIST is not at hand; set data.path to a folder with its IDX files, or "
            "`apt-get install dataset-fashion-mnist`, or let tensorflow-datasets prepare it (needs "
            "a network and `pip install tensorflow`; see also data.tfds_dir); "
            f"last tried: {error}"
        ) from None
    return images, lambda: [
        np.asarray([split.label(index) for index in range(len(split.names))], np.uint8)
        for split in splits
        if split.label is not None
    ]


def decode_all(split: EncodedImages) -> UInt8[np.ndarray, "N 784"]:
    """All images of a split, decoded.

    Raises:
      UserError: if one cannot be decoded, or is not 28x28.
    """
    images = np.empty((len(split.names), *SHAPE[:2]), np.uint8)
    for index, name in enumerate(split.names):
        try:
            with Image.open(io.BytesIO(split.read(index))) as picture:
                images[index] = np.asarray(picture.convert("L"))
        except Exception as error:  # image readers raise almost anything
            raise UserError(f"{name} is not a readable 28x28 image ({error})") from None
    return images.reshape(len(images), -1)


def subset(available: int, count: int, setting: str, seed: int) -> Any:
    """Which `count` of the images, chosen at random and kept in order; all of them as they stand.

    Raises:
      UserError: if there are fewer, naming the `setting` that asks for too many.
    """
    if not 1 <= count <= available:
        raise UserError(f"{setting}={count}: must be from 1 to {available:,}; change it")
    if count == available:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(available, count, replace=False))
