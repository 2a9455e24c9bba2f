"""CelebA: the official splits, crop and size, corrupt images, and the cache of decoded ones."""

import errno
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import SHARED_DATA
from PIL import Image

from jvsc.data import celeba, image_cache, load_celeba, prepared
from jvsc.data.celeba import face
from jvsc.data.rows import Rows
from jvsc.errors import UserError

REBUILT = "; a damaged cache was rebuilt"
SPLITS = {"train": 12, "validation": 5, "test": 2}
tfds.disable_progress_bar()


def level(number):
    """The grey level of the image of this number; what tells the images apart."""
    return 10 * number


def encoded(pixels, form):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def flat_image(number, size=(178, 218)):
    return encoded(np.full((size[1], size[0], 3), level(number), np.uint8), "JPEG")


@pytest.fixture
def official(tmp_path):
    """A folder in the official layout, image i flat and of grey level 10 i."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = []
    for partition, count in enumerate(SPLITS.values()):
        for _ in range(count):
            name = f"{len(lines) + 1:06d}.jpg"
            image_file(folder, len(lines) + 1).write_bytes(flat_image(len(lines) + 1))
            lines.append(f"{name} {partition}\n")
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def no_decoding(monkeypatch):
    """Opening an image fails, as if all were corrupt."""

    def forbid():
        monkeypatch.delattr(celeba.Image, "open")

    return forbid


def image_file(folder, number):
    return folder / "img_align_celeba" / f"{number:06d}.jpg"


def load(folder, cache, num_train=10, num_validation=4, **options):
    return load_celeba(
        str(folder),
        cache_dir=str(cache),
        num_train=num_train,
        num_validation=num_validation,
        **options,
    )


def assert_levels(images, numbers):
    """The images are those of these numbers, within what JPEG changes."""
    expected = np.array([level(number) for number in numbers])[:, None]
    assert images.shape[0] == len(expected)
    assert np.abs(np.asarray(images).astype(int) - expected).max() <= 2


def names_in(cache, suffix=""):
    return sorted(file.name for file in cache.glob(f"*{suffix}"))


# Splits


def test_the_first_images_of_the_official_splits_in_the_order_of_the_list(official, cache):
    data = load(official, cache)
    assert_levels(data.train, range(1, 11))
    assert_levels(data.validation, range(13, 17))
    assert isinstance(data.train, Rows)
    assert data.train.dtype == np.uint8
    assert data.shape == (64, 64, 3)
    assert data.mirrored
    assert data.mean is None
    assert data.description == (
        f"10 + 4 faces of CelebA ({official}), 140x140 pixels resized to 64x64"
    )


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((13, 4), r"data\.num_train=13: of the 12 images there, 12 can be read"),
        ((10, 6), r"data\.num_validation=6: of the 5 images there, 5 can be read; set it from"),
        ((0, 4), r"data\.num_train=0"),
    ],
)
def test_more_images_than_a_split_has_or_none_are_refused(official, cache, counts, message):
    with pytest.raises(UserError, match=message):
        load(official, cache, *counts)


def test_listed_images_that_are_not_there_are_passed_over_and_counted(official, cache):
    image_file(official, 3).unlink()
    data = load(official, cache)
    assert_levels(data.train, [1, 2, *range(4, 12)])
    assert data.description.endswith("; 1 listed but not in the folder")


@pytest.mark.parametrize("missing", ["list_eval_partition.txt", "img_align_celeba"])
def test_a_folder_without_list_or_images_is_refused(official, cache, missing):
    (official / missing).rename(official / "elsewhere")
    with pytest.raises(UserError, match=rf"data\.path=.*give a folder .*{missing}"):
        load(official, cache)


@pytest.mark.parametrize("line", ["000004.jpg", "000004.jpg 3", "000004.jpg 0 1", ""])
def test_a_line_of_the_list_that_says_no_partition_is_named(official, cache, line):
    listed = official / "list_eval_partition.txt"
    lines = listed.read_text().splitlines()
    lines[3] = line
    listed.write_text("\n".join(lines))
    with pytest.raises(UserError, match="line 4: must be an image and 0, 1 or 2"):
        load(official, cache)


# Pixels


def test_nothing_beyond_the_square_in_the_middle_is_seen():
    pixels = np.full((218, 178, 3), 255, np.uint8)
    pixels[39:179, 19:159] = 7
    assert (face(encoded(pixels, "PNG"), 64) == 7).all()


def test_the_square_is_averaged_with_triangles_as_wide_as_the_reduction():
    """The bilinear filter's definition: weights 1 - |distance| / scale, normalised."""
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    scale = 140 / 64
    centres = (np.arange(64) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(140) + 0.5 - centres[:, None]) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    square = pixels[39:179, 19:159].astype(float)
    expected = np.einsum("ip,jq,pqc->ijc", weights, weights, square)
    given = face(encoded(pixels, "PNG"), 64).reshape(64, 64, 3)
    # Pillow rounds after either axis.
    assert np.abs(given - expected).max() <= 1.01


def test_grey_images_become_three_equal_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178), dtype=np.uint8)
    given = face(encoded(pixels, "PNG"), 32).reshape(32, 32, 3)
    np.testing.assert_array_equal(given[..., 0], given[..., 2])


def test_the_real_sample_is_read_cropped_and_resized(cache):
    folder = SHARED_DATA / "celeba_sample"
    if not folder.exists():
        pytest.skip(f"real data not at hand: {folder} (2,000 of CelebA's faces)")
    data = load(folder, cache, 300, 200)
    assert data.train.shape == (300, 12288)
    assert data.validation.shape == (200, 12288)
    with Image.open(image_file(folder, 42)) as picture:
        expected = picture.crop((19, 39, 159, 179)).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.train[41].reshape(64, 64, 3), np.asarray(expected))
    assert 60 < np.asarray(data.train).mean() < 180


# Corrupt images


def test_corrupt_images_are_left_out_named_and_replaced_by_the_next(official, cache):
    image_file(official, 2).write_bytes(flat_image(2)[:400])
    image_file(official, 5).write_bytes(flat_image(5, size=(178, 217)))
    image_file(official, 14).write_bytes(b"")
    for _ in range(2):  # built, then reused
        data = load(official, cache)
        assert_levels(data.train, [1, 3, 4, *range(6, 13)])
        assert_levels(data.validation, [13, 15, 16, 17])
        assert data.description.endswith(
            "; 3 left out as corrupt: 000002.jpg, 000005.jpg, 000014.jpg"
        )


def test_too_many_corrupt_images_are_refused_with_how_many_are_left(official, cache):
    for number in (2, 3, 11):
        image_file(official, number).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"data\.num_train=10: .*9 can be read; set it from 1 to 9"):
        load(official, cache)
    assert names_in(cache) == []
    assert_levels(load(official, cache, 9).train, [1, *range(4, 11), 12])


# The cache


def test_a_second_run_decodes_nothing(official, cache, no_decoding):
    first = load(official, cache)
    no_decoding()
    second = load(official, cache)
    np.testing.assert_array_equal(first.train, second.train)
    np.testing.assert_array_equal(first.validation, second.validation)
    assert first.description == second.description


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-1])


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, empty])
def test_damaged_pixels_are_noticed_and_built_anew(official, cache, damage):
    good = np.array(load(official, cache).train)
    damage(next(cache.glob("celeba-train*.npy")))
    repaired = load(official, cache)
    np.testing.assert_array_equal(repaired.train, good)
    assert repaired.description.endswith(REBUILT)
    assert REBUILT not in load(official, cache).description


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"crc": 1, "corrupt": []}'])
def test_a_damaged_record_is_noticed_and_built_anew(official, cache, content):
    load(official, cache)
    next(cache.glob("celeba-train*.json")).write_text(content)
    repaired = load(official, cache)
    assert_levels(repaired.train, range(1, 11))
    assert repaired.description.endswith(REBUILT)


def test_a_cache_that_is_cut_short_while_it_is_read_is_one_line(official, cache):
    """A mapped file would end the process."""
    data = load(official, cache)
    (file,) = cache.glob("*train*.npy")
    os.truncate(file, 1000)
    with pytest.raises(UserError, match="was cut short while it was read"):
        np.asarray(data.train)


def test_pixels_without_their_record_are_of_an_interrupted_build(official, cache):
    load(official, cache)
    next(cache.glob("celeba-train*.json")).unlink()
    empty(next(cache.glob("celeba-train*.npy")))
    data = load(official, cache)
    assert_levels(data.train, range(1, 11))
    assert REBUILT not in data.description


def test_an_interrupted_build_leaves_nothing_and_the_next_one_is_whole(official, cache):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(official, cache, progress=interrupt)
    assert names_in(cache) == []
    assert_levels(load(official, cache).train, range(1, 11))


def test_what_a_killed_build_left_is_cleared_but_not_what_another_is_writing(official, cache):
    load(official, cache)
    stem = next(cache.glob("celeba-train*.npy")).stem
    for file in cache.glob(f"{stem}.*"):
        file.unlink()
    for name in ("killed", "writing"):
        (cache / f"{stem}.{name}.tmp").write_bytes(b"half")
    yesterday = time.time() - 86_400
    os.utime(cache / f"{stem}.killed.tmp", (yesterday, yesterday))
    assert_levels(load(official, cache).train, range(1, 11))
    assert names_in(cache, ".tmp") == [f"{stem}.writing.tmp"]


def test_builds_at_the_same_time_do_not_harm_each_other(official, cache):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: load(official, cache), range(4)))
    for data in results:
        assert_levels(data.train, range(1, 11))
        assert REBUILT not in data.description
    assert len(names_in(cache)) == 4


def test_another_size_number_or_source_has_another_cache(official, cache):
    load(official, cache)
    assert load(official, cache, image_size=16).train.shape == (10, 768)
    assert_levels(load(official, cache, num_train=7).train, range(1, 8))
    image_file(official, 4).write_bytes(flat_image(9))
    assert_levels(load(official, cache).train, [1, 2, 3, 9, *range(5, 11)])
    assert len(names_in(cache, ".npy")) == 6  # training 4, validation 2


def test_a_full_disk_is_one_line_and_leaves_nothing(official, cache, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"data\.cache_dir=.*No space.*0\.00 GB: free") as error:
        load(official, cache)
    assert "\n" not in str(error.value)
    assert names_in(cache) == []


def test_a_cache_folder_that_cannot_be_made_is_refused(official, cache):
    cache.write_text("a file")
    with pytest.raises(UserError, match=r"set data\.cache_dir to a folder that can be written"):
        load(official, cache)


def test_the_cache_lies_in_the_user_s_cache_folder(official, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load(official, "")
    assert len(names_in(tmp_path / "xdg" / "jvsc", ".npy")) == 2
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert celeba.default_cache() == tmp_path / ".cache" / "jvsc"


def test_progress_is_told_while_images_are_decoded_and_only_then(official, cache, monkeypatch):
    monkeypatch.setattr(image_cache, "CHUNK", 4)
    told = []
    for _ in range(2):
        load(official, cache, progress=lambda *numbers: told.append(numbers))
    assert told == [(4, 10), (8, 10), (10, 10), (4, 4)]


# tensorflow-datasets


def write_prepared(folder):
    """What tensorflow-datasets' own builder and writer make of a few images."""
    builder: Any = tfds.builder("celeb_a", data_dir=str(folder), file_format="array_record")

    def examples(numbers):
        for number in numbers:
            zeros = {
                part: dict.fromkeys(builder.info.features[part], 0)
                for part in ("landmarks", "attributes", "identity")
            }
            yield f"{number:06d}.jpg", {"image": io.BytesIO(flat_image(number)), **zeros}

    splits = {"train": range(1, 13), "validation": range(13, 18), "test": range(18, 20)}
    generators = {name: examples(numbers) for name, numbers in splits.items()}
    builder._split_generators = lambda _: generators
    builder.download_and_prepare()


def test_prepared_tensorflow_datasets_give_the_same_images_in_its_own_order(
    official, tmp_path, cache, no_decoding
):
    write_prepared(tmp_path / "tfds")
    given = load("", cache, 12, 5, tfds_dir=str(tmp_path / "tfds"))
    expected = load(official, cache, 12, 5)
    assert {i.tobytes() for i in given.train} == {i.tobytes() for i in expected.train}
    assert {i.tobytes() for i in given.validation} == {i.tobytes() for i in expected.validation}
    assert "tensorflow-datasets" in given.description
    no_decoding()
    assert load("", cache, 12, 5, tfds_dir=str(tmp_path / "tfds")).train.shape == (12, 12288)


def test_without_any_source_the_message_names_the_remedies(tmp_path, cache, monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(prepared, "urlopen", refuse)
    with pytest.raises(UserError, match=r"data\.path .*data\.tfds_dir.*no network") as error:
        load("", cache, tfds_dir=str(tmp_path))
    assert "\n" not in str(error.value)
