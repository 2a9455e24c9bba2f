"""A folder of images of any sizes: which are taken, and what becomes of their pixels."""

import numpy as np
import pytest
from PIL import Image

from jvsc.data import load_images
from jvsc.errors import UserError
from jvsc.main import run
from jvsc.runs.config import make_config
from jvsc.runs.factories import build_dataset, build_model

SIZES = [(40, 30), (17, 90), (64, 64), (200, 50), (33, 47), (90, 90), (8, 12), (71, 72)]


@pytest.fixture
def folder(tmp_path):
    """Flat images of levels 10, 20, ... and of several sizes, kinds and formats."""
    place = tmp_path / "photographs"
    place.mkdir()
    for number, size in enumerate(SIZES, start=1):
        image = Image.new("RGB", size, (10 * number,) * 3)
        image = image.convert("L") if number % 2 else image
        image.save(place / f"{number}.{'png' if number % 3 else 'bmp'}")
    (place / ".hidden.png").write_bytes(b"")
    (place / "notes.txt").write_text("no image")
    return place


def levels(data):
    return sorted(np.asarray(data)[:, 0] // 10)


def test_every_image_is_training_or_validation_data_once(folder, tmp_path):
    dataset = load_images(folder, image_size=16, num_validation=3, cache_dir=tmp_path / "cache")
    assert dataset.train.shape == (5, 16 * 16 * 3)
    assert dataset.validation.shape == (3, 16 * 16 * 3)
    assert dataset.train.dtype == np.uint8
    assert dataset.shape == (16, 16, 3)
    assert sorted(levels(dataset.train) + levels(dataset.validation)) == list(range(1, 9))
    for image in (*dataset.train, *dataset.validation):
        assert np.ptp(image.astype(int)) == 0
    again = load_images(folder, image_size=16, num_validation=3, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(again.train, dataset.train)
    other = load_images(folder, image_size=16, num_validation=3, seed=1, cache_dir=tmp_path / "c")
    assert levels(other.validation) != levels(dataset.validation)


def test_the_middle_square_is_taken_upright(tmp_path):
    """The left third is red, the middle green, the right blue; one is stored on its side."""
    pixels = np.zeros((20, 60, 3), np.uint8)
    for part in range(3):
        pixels[:, 20 * part : 20 * (part + 1), part] = 255
    place = tmp_path / "p"
    place.mkdir()
    upright, turned = Image.fromarray(pixels), Image.fromarray(np.rot90(pixels))
    upright.save(place / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise shows it upright
    turned.save(place / "b.png", exif=exif)
    top = np.zeros((60, 20, 3), np.uint8)
    top[20:40] = [0, 200, 0]
    top[20:30] = [100, 0, 0]
    Image.fromarray(top).save(place / "c.png")
    dataset = load_images(place, image_size=10, num_train=2, cache_dir=tmp_path / "cache")
    found = [x.reshape(10, 10, 3) for x in (*dataset.train, *dataset.validation)]
    greens = [x for x in found if x[2, 5, 1] == 255]
    assert len(greens) == 2
    for image in greens:
        np.testing.assert_array_equal(image, np.broadcast_to([0, 255, 0], (10, 10, 3)))
    (halves,) = [x for x in found if x[2, 5, 1] != 255]
    np.testing.assert_array_equal(halves[0, 0], [100, 0, 0])
    np.testing.assert_array_equal(halves[-1, 0], [0, 200, 0])


def test_a_corrupt_image_is_told_and_left_out_where_others_are_left(folder, tmp_path):
    (folder / "9.png").write_bytes(b"no image at all")
    with pytest.raises(UserError, match=r"can be read; set it from 1 to \d, or mend 9\.png"):
        load_images(folder, num_train=6, num_validation=3, cache_dir=tmp_path / "cache")
    for seed in range(20):  # until the corrupt one is among the training images
        options = {"seed": seed, "cache_dir": tmp_path / "cache", "image_size": 4}
        try:
            dataset = load_images(folder, num_train=5, num_validation=3, **options)
        except UserError:
            continue
        if "9.png" in dataset.description:
            break
    assert "1 left out as corrupt: 9.png" in dataset.description
    assert levels(dataset.train + np.uint8(0)) == sorted(set(levels(dataset.train)))


def test_what_cannot_be_taken_is_named(folder, tmp_path):
    with pytest.raises(UserError, match="together at most 8"):
        load_images(folder, num_train=8, num_validation=1)
    with pytest.raises(UserError, match="give 1 or more of each"):
        load_images(folder, num_train=8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.png, .* file in this folder, which is empty"):
        load_images(tmp_path / "empty")


@pytest.mark.parametrize(
    ("level", "kind", "suffix"),
    [
        (100 * 257, np.uint16, "png"),
        (100 * 257, np.uint16, "tif"),
        (100 * 257, np.int32, "tif"),
        (100 / 255, np.float32, "tif"),
        (100, np.float32, "tif"),
        (100, np.uint8, "png"),
    ],
)
def test_levels_of_any_depth_become_bytes(level, kind, suffix, tmp_path):
    """Pillow alone makes 16 bits white and [0, 1] black."""
    (tmp_path / "deep").mkdir()
    for name in "ab":
        Image.fromarray(np.full((9, 9), level, kind)).save(tmp_path / "deep" / f"{name}.{suffix}")
    data = load_images(tmp_path / "deep", image_size=8, cache_dir=tmp_path / "cache")
    assert (data.train[:] == 100).all()
    assert (data.validation == 100).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_size": 0}, "image_size is 0; give a whole number of at least 1"),
        ({"image_size": None}, "image_size is None; give a whole number"),
        ({"image_size": 10**9}, "image_size: would take .* lower them"),
        ({"num_train": 2.5}, "num_train is 2.5; give a whole number"),
        ({"num_validation": "3"}, "num_validation is '3'; give a whole number"),
    ],
)
def test_a_number_that_does_not_serve_is_named(given, message, folder, without_type_checks):
    with pytest.raises(UserError, match=message):
        load_images(folder, **given)


def of_folder(folder, cache, **given):
    data = {"name": "images", "path": str(folder), "cache_dir": str(cache)}
    counts = {"num_train": 5, "num_validation": 3}
    return make_config({"batch_size": 4, "data": data | counts | given})


def test_a_folder_is_a_data_set_of_the_command(folder, tmp_path):
    config = of_folder(folder, tmp_path / "cache")
    dataset = build_dataset(config)
    assert dataset.shape == (64, 64, 3)
    assert sorted(levels(dataset.train) + levels(dataset.validation)) == list(range(1, 9))
    assert build_model(config, 64 * 64 * 3).generator.is_dictionary is False
    with pytest.raises(UserError, match="num_train=9 and num_validation=3 of 8 images"):
        build_dataset(of_folder(folder, tmp_path / "cache", num_train=9))
    with pytest.raises(UserError, match="path is empty; give a folder of images"):
        build_dataset(of_folder("", tmp_path / "cache"))


@pytest.mark.slow
def test_the_command_trains_on_a_folder(folder, tmp_path):
    settings = {
        "data.name": "images", "data.path": folder, "data.cache_dir": tmp_path / "cache",
        "data.num_train": 5, "data.num_validation": 3, "batch_size": 4, "num_epochs": 1,
        "num_latents": 8,
    }  # fmt: skip
    line = [f"--config.{name}={value}" for name, value in settings.items()]
    line += ["--config=configs/celeba.py:gaussian,small", f"--workdir={tmp_path / 'run'}"]
    assert run([*line, "--mode=train"]) == 0
    assert (tmp_path / "run" / "metrics.jsonl").is_file()
