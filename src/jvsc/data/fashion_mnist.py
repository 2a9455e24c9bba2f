"""Fashion-MNIST (Xiao et al. 2017): IDX files, Debian's package, or tensorflow-datasets."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jvsc.data.dataset import Dataset
from jvsc.data.idx import read_idx_images
from jvsc.data.prepared import EncodedImages, prepared_images
from jvsc.errors import UserError

SHAPE = (28, 28, 1)
# The official test images are the validation set.
IDX_FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def load_fashion_mnist(
    path: str = "",
    *,
    tfds_dir: str = "",
    num_train: int = 60_000,
    num_validation: int = 10_000,
    seed: int = 0,
) -> Dataset:
    """Fashion-MNIST's training images, and its test images for validation.

    Args:
      path: a folder with the two IDX files of images, gzipped or not; "" looks for Debian's
        package dataset-fashion-mnist first, and then asks tensorflow-datasets.
      tfds_dir: where tensorflow-datasets keeps its data; "" for its own default.
      num_train: training images N, all of them or a random subset.
      num_validation: validation images M, likewise.
      seed: of the random subsets.

    Returns:
      Bytes, [N, 784] and [M, 784].

    Raises:
      UserError: for data that are missing, damaged, or fewer than asked; see the message.
    """
    if path:
        source = Path(path).expanduser()
        images = read_folder(source)
    elif all(_idx_file(DEBIAN_FOLDER, name) for name in IDX_FILES):
        source = DEBIAN_FOLDER
        images = read_folder(source)
    else:
        source = "tensorflow-datasets"
        images = read_prepared(tfds_dir)
    train = subset(images[0], num_train, "data.num_train", seed)
    validation = subset(images[1], num_validation, "data.num_validation", seed)
    description = f"{num_train:,} + {num_validation:,} images of Fashion-MNIST ({source})"
    return Dataset(train, validation, SHAPE, description)


def read_folder(folder: Path) -> list[UInt8[np.ndarray, "_ 784"]]:
    """Training and test images of a folder of IDX files.

    Raises:
      UserError: if a file is missing, damaged, or its images are not 28x28.
    """
    splits = []
    for name in IDX_FILES:
        file = _idx_file(folder, name)
        if file is None:
            raise UserError(f"data.path={folder}: no {name} or {name}.gz in this folder")
        images = read_idx_images(file)
        if images.shape[1:] != SHAPE[:2]:
            height, width = images.shape[1:]
            raise UserError(f"{file} has images of {height}x{width}, not 28x28; give another")
        splits.append(images.reshape(len(images), -1))
    return splits


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def read_prepared(tfds_dir: str) -> list[UInt8[np.ndarray, "_ 784"]]:
    """Training and test images from tensorflow-datasets, in the order in which it stores them.

    Raises:
      UserError: if it has none and can get none; the message names what can be done.
    """
    try:
        splits = prepared_images("fashion_mnist", ["train", "test"], tfds_dir)
        return [decode_all(split) for split in splits]
    except UserError as error:
        raise UserError(
            "Fashion-MNIST is not at hand; set data.path to a folder with its IDX files, or "
            "`apt-get install dataset-fashion-mnist`, or let tensorflow-datasets prepare it (needs "
            "a network and `pip install tensorflow`; see also data.tfds_dir); "
            f"last tried: {error}"
        ) from None


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


def subset(
    images: UInt8[np.ndarray, "_ D"], count: int, setting: str, seed: int
) -> UInt8[np.ndarray, "N D"]:
    """`count` of the images, chosen at random and kept in order; all of them as they stand.

    Raises:
      UserError: if there are fewer, naming the `setting` that asks for too many.
    """
    if not 1 <= count <= len(images):
        raise UserError(f"{setting}={count}: must be from 1 to {len(images):,}; change it")
    if count == len(images):
        return images
    chosen = np.random.default_rng(seed).choice(len(images), count, replace=False)
    return images[np.sort(chosen)]
