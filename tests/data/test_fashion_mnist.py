"""Fashion-MNIST: IDX files and their damages, the order of the sources, subsets."""

import gzip
import io
import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jvsc.data import fashion_mnist, load_fashion_mnist, prepared
from jvsc.data.idx import read_idx_images
from jvsc.errors import UserError

REMEDIES = ("data.path", "apt-get install dataset-fashion-mnist", "tensorflow-datasets")
PACKAGE = fashion_mnist.DEBIAN_FOLDER
tfds.disable_progress_bar()


def random_images(count, seed=0, side=28):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def idx_bytes(images):
    """The format as published: magic number, three big-endian sizes, pixels."""
    header = b"".join(number.to_bytes(4, "big") for number in (0x803, *images.shape))
    return header + images.tobytes()


def write_folder(folder, train=30, validation=12, seed=0, pack=gzip.compress, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    splits = random_images(train, seed), random_images(validation, seed + 1)
    for name, images in zip(fashion_mnist.IDX_FILES, splits, strict=True):
        (folder / f"{name}{suffix}").write_bytes(pack(idx_bytes(images)))
    return splits


def write_prepared(folder):
    """What tensorflow-datasets' own builder and writer make of a few images."""

    def examples(images):
        for index, image in enumerate(images):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            yield index, {"image": io.BytesIO(png.getvalue()), "label": index % 10}

    splits = {"train": random_images(30, seed=5), "test": random_images(12, seed=6)}
    builder: Any = tfds.builder("fashion_mnist", data_dir=str(folder), file_format="array_record")
    generators = {name: examples(images) for name, images in splits.items()}
    builder._split_generators = lambda _: generators
    builder.download_and_prepare()
    return splits


def load(path="", tfds_dir="", num_train=30, num_validation=12, seed=0):
    return load_fashion_mnist(
        str(path),
        tfds_dir=str(tfds_dir),
        num_train=num_train,
        num_validation=num_validation,
        seed=seed,
    )


def as_set(images):
    return {image.tobytes() for image in images}


@pytest.fixture
def no_package(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "no_package")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(prepared, "urlopen", refuse)


# IDX files


@pytest.mark.parametrize(
    ("pack", "suffix"), [(gzip.compress, ".gz"), (bytes, ""), (gzip.compress, ""), (bytes, ".gz")]
)
def test_idx_files_are_read_gzipped_or_not_whatever_their_names(tmp_path, pack, suffix):
    train, validation = write_folder(tmp_path, pack=pack, suffix=suffix)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.train, train.reshape(30, 784))
    np.testing.assert_array_equal(data.validation, validation.reshape(12, 784))
    assert data.train.dtype == np.uint8
    assert data.shape == (28, 28, 1)
    assert str(tmp_path) in data.description
    assert not data.mirrored


WHOLE = idx_bytes(random_images(3))
DAMAGES = {
    "is empty": b"",
    "no IDX file of images": b"\x00\x00\x08\x01" + WHOLE[4:],
    "within its header": WHOLE[:10],
    "holds 2,351 pixels, but its header declares 3 images": WHOLE[:-1],
    "holds 2,353 pixels": WHOLE + b"\0",
    "not readable": gzip.compress(WHOLE)[:-20],
    "not readable ": gzip.compress(WHOLE)[:5],
    "CRC check failed": gzip.compress(WHOLE)[:-8] + bytes(8),
    "Not a gzipped file": gzip.compress(WHOLE) + b"trailing",
    "holds 0 pixels": WHOLE[:16],
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_idx_file_is_named_in_one_line(tmp_path, message):
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(DAMAGES[message])
    with pytest.raises(UserError, match=message) as error:
        read_idx_images(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_truncation_of_a_gzipped_idx_file_is_refused(tmp_path):
    content = gzip.compress(WHOLE)
    file = tmp_path / "a.gz"
    for keep in range(0, len(content), 101):
        file.write_bytes(content[:keep])
        with pytest.raises(UserError):
            read_idx_images(file)


def test_images_of_another_size_are_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx_bytes(random_images(3, side=32)))
    with pytest.raises(UserError, match="images of 32x32, not 28x28"):
        load(tmp_path)


# Sources


def test_a_path_comes_before_the_package(tmp_path, monkeypatch):
    train, _ = write_folder(tmp_path / "mine", seed=1)
    write_folder(tmp_path / "package", seed=3)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "package")
    data = load(tmp_path / "mine")
    np.testing.assert_array_equal(data.train, train.reshape(30, 784))


def test_the_package_comes_before_tensorflow_datasets(tmp_path, monkeypatch):
    train, _ = write_folder(tmp_path / "package", seed=3)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "package")
    write_prepared(tmp_path / "tfds")
    data = load(tfds_dir=tmp_path / "tfds")
    np.testing.assert_array_equal(data.train, train.reshape(30, 784))


def test_prepared_tensorflow_datasets_are_read_without_a_network(tmp_path, no_package, no_network):
    splits = write_prepared(tmp_path)
    data = load(tfds_dir=tmp_path)
    assert as_set(data.train) == as_set(splits["train"])
    assert as_set(data.validation) == as_set(splits["test"])
    assert "tensorflow-datasets" in data.description


@pytest.mark.parametrize("missing", fashion_mnist.IDX_FILES)
def test_a_path_that_lacks_a_file_is_refused_though_there_are_other_sources(tmp_path, missing):
    write_folder(tmp_path)
    (tmp_path / f"{missing}.gz").unlink()
    with pytest.raises(UserError, match=rf"data\.path=.*no {missing}"):
        load(tmp_path)


def assert_one_line_with_the_remedies(error):
    assert all(remedy in str(error.value) for remedy in REMEDIES)
    assert "\n" not in str(error.value)


def test_without_any_source_the_message_names_three_remedies(tmp_path, no_package, no_network):
    with pytest.raises(UserError, match="no network") as error:
        load(tfds_dir=tmp_path)
    assert_one_line_with_the_remedies(error)


def test_a_download_that_fails_is_told_by_the_first_line_of_its_cause(
    tmp_path, no_package, monkeypatch
):
    def answer(*_, **__):
        raise HTTPError("http://x", 405, "no HEAD here", None, None)  # pyright: ignore

    def fail(*_, **__):
        raise RuntimeError("Failed to encode") from ModuleNotFoundError("No tensorflow\nSorry")

    monkeypatch.setattr(prepared, "urlopen", answer)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(UserError, match=r"tensorflow-datasets: No tensorflow$") as error:
        load(tfds_dir=tmp_path)
    assert_one_line_with_the_remedies(error)


def test_data_prepared_in_a_format_without_random_access_are_refused(tmp_path, no_package):
    write_prepared(tmp_path)
    (record,) = tmp_path.glob("fashion_mnist/*/dataset_info.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="TFRECORD") as error:
        load(tfds_dir=tmp_path)
    assert_one_line_with_the_remedies(error)


# Subsets


def test_a_subset_is_random_in_order_and_the_same_for_the_same_seed(tmp_path):
    train, _ = write_folder(tmp_path)
    one, other, different = (
        load(tmp_path, num_train=10, num_validation=5, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.train, other.train)
    assert not np.array_equal(one.train, different.train)
    places = [int((train.reshape(30, 784) == image).all(1).argmax()) for image in one.train]
    assert places == sorted(set(places)) != list(range(10))
    assert one.validation.shape == (5, 784)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"num_train": 31, "num_validation": 1}, r"data\.num_train=31: must be from 1 to 30"),
        ({"num_train": 1, "num_validation": 13}, r"data\.num_validation=13: must be from 1 to 12"),
        ({"num_train": 0, "num_validation": 1}, r"data\.num_train=0"),
    ],
)
def test_more_images_than_there_are_or_none_are_refused(tmp_path, counts, message):
    write_folder(tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path, **counts)


# The real data


@pytest.mark.skipif(not Path(PACKAGE).exists(), reason="dataset-fashion-mnist is not installed")
def test_the_package_has_60000_and_10000_images_whose_mean_leaves_an_mse_of_0_0866():
    data = load_fashion_mnist()
    assert data.train.shape == (60_000, 784)
    assert data.validation.shape == (10_000, 784)
    images = data.validation / np.float32(255)
    assert ((images - images.mean(0)) ** 2).mean() == pytest.approx(0.0866, abs=5e-5)
