"""Data as users have them: names, folders, depths of grey and spellings of others' copies."""

import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from models import face_folder
from PIL import Image
from safetensors.numpy import save_file

from jvsc.data import load_activations, load_celeba, load_fashion_mnist, load_patches
from jvsc.data.fashion_mnist import IDX_FILES
from jvsc.data.patches import folder_images, grey_levels, mat_images
from jvsc.data.paths import data_files, in_natural_order, user_path
from jvsc.data.prepared import _reason
from jvsc.data.rows import open_rows
from jvsc.errors import UserError

GREY = np.random.default_rng(0).integers(0, 4096, (24, 32), dtype=np.uint16)


def pgm(file, values, white):
    """A binary PGM, whose deep grey levels are big-endian."""
    kind = ">u2" if white > 255 else "u1"
    header = f"P5 {values.shape[1]} {values.shape[0]} {white}\n".encode()
    file.write_bytes(header + values.astype(kind).tobytes())


@pytest.mark.parametrize("white", [4095, 65535, 1023])
def test_a_deep_pgm_keeps_its_grey_levels(white, tmp_path):
    values = GREY.astype(np.int64) * white // 4095
    pgm(tmp_path / "a.pgm", values, white)
    with Image.open(tmp_path / "a.pgm") as picture:
        np.testing.assert_allclose(grey_levels(picture), values / white, atol=1e-4)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_a_deep_picture_keeps_its_grey_levels(order, suffix, tmp_path):
    mode = "I;16" if order == "<u2" or suffix == "png" else "I;16B"
    kind = "<u2" if mode == "I;16" else ">u2"
    deep = GREY * np.uint16(16)
    Image.frombytes(mode, GREY.shape[::-1], deep.astype(kind).tobytes()).save(
        tmp_path / f"a.{suffix}"
    )
    with Image.open(tmp_path / f"a.{suffix}") as picture:
        np.testing.assert_allclose(grey_levels(picture), deep / 65535, atol=1e-9)


def test_hidden_files_are_no_data(tmp_path):
    Image.fromarray(GREY.astype(np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    for name in ("._a.png", ".thumb.png", "._x.npy"):
        (tmp_path / name).write_bytes(b"of another system")
    assert len(folder_images(tmp_path)) == 1
    assert open_rows(tmp_path, "input")[1] == [tmp_path / "x.npy"]


def test_shards_follow_their_numbers_and_are_named(tmp_path):
    for number in range(12):
        np.save(tmp_path / f"part{number}.npy", np.full((2, 3), number) + np.eye(2, 3))
    rows, _ = open_rows(tmp_path, "input")
    np.testing.assert_array_equal(rows[:][::2, 1], np.arange(12))
    data = load_activations(str(tmp_path), num_train=20, num_validation=4)
    assert "12 files, part0.npy to part11.npy" in data.description
    np.savez(tmp_path / "all.npz", *(np.full((1, 3), number) for number in range(12)))
    rows, _ = open_rows(tmp_path / "all.npz", "input")
    np.testing.assert_array_equal(rows[:][:, 0], np.arange(12))
    assert in_natural_order(["a10", "a9b", "b1", "a", "10", "9"]) == [
        *("9", "10", "a", "a9b", "a10", "b1")
    ]
    assert in_natural_order(["x10²", "x2²"]) == ["x2²", "x10²"]  # what int cannot read is no number


def test_a_file_that_is_no_array_says_nothing_of_pickles(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"junk")
    with pytest.raises(UserError, match="it holds no array of numbers") as caught:
        load_activations(str(tmp_path), num_train=1, num_validation=1)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("save", [np.save, lambda file, x: np.savez(f"{file}"[:-4], x=x)])
def test_bfloat16_in_numpys_files_has_a_remedy(save, tmp_path):
    file = tmp_path / ("x.npy" if save is np.save else "x.npz")
    save(file, np.ones((4, 3), jnp.bfloat16))
    with pytest.raises(UserError, match=r"bfloat16.*save them as \.safetensors, or as float32"):
        open_rows(file, "input")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (10, 10)])
def test_a_picture_that_is_too_small_is_named(shape, tmp_path):
    for name, size in (("big.png", (40, 40)), ("small.png", shape)):
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / name)
    with pytest.raises(UserError, match=rf"small\.png is {shape[0]}x{shape[1]}, smaller than a"):
        load_patches(str(tmp_path), patch_size=16, num_train=5, num_validation=5)


@pytest.mark.parametrize(
    "load",
    [
        lambda path: user_path(path, "data.path"),
        lambda path: load_patches(path),
        lambda path: load_fashion_mnist(path),
        lambda path: load_celeba(path),
        lambda path: load_activations(path, num_train=1, num_validation=1),
    ],
)
def test_a_user_that_there_is_not_is_one_line(load):
    with pytest.raises(UserError, match="no such user's home; write the path out"):
        load("~nosuchuser/x")


def test_pipes_are_not_waited_for(tmp_path):
    for name in ("x.npy", "x.mat", "list_eval_partition.txt", IDX_FILES[0]):
        os.mkfifo(tmp_path / name)
    loads = [
        lambda: open_rows(tmp_path, "input"),
        lambda: open_rows(tmp_path / "x.npy", "input"),
        lambda: mat_images(tmp_path / "x.mat"),
        lambda: load_celeba(str(tmp_path)),
        lambda: load_fashion_mnist(str(tmp_path)),
        lambda: data_files(tmp_path / "nowhere", (".npy",), "input"),
    ]
    for load in loads:
        with pytest.raises(UserError):
            load()


@pytest.mark.parametrize("spelling", ["{}.idx3-ubyte", "{}-idx3-ubyte.gz", "raw/{}-idx3-ubyte"])
def test_fashion_mnists_other_spellings_are_read(spelling, tmp_path):
    import gzip

    (tmp_path / "raw").mkdir()
    for part in ("train-images", "t10k-images"):
        content = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 784)
        content = gzip.compress(content) if spelling.endswith(".gz") else content
        (tmp_path / spelling.format(part)).write_bytes(content)
    assert load_fashion_mnist(str(tmp_path), num_train=2, num_validation=2).train.shape == (2, 784)


def test_what_lies_in_a_folder_without_the_data_is_named(tmp_path):
    (tmp_path / "fashion.zip").touch()
    for load in (load_fashion_mnist, load_celeba):
        with pytest.raises(UserError, match=r"which holds fashion\.zip"):
            load(str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # as spreadsheets save it
def test_kaggles_celeba_is_the_official_one(encoding, tmp_path):
    official = face_folder(tmp_path / "official", 3, 2)
    lines = (official / "list_eval_partition.txt").read_text().split("\n")
    names = [line.split()[0] for line in lines if line]
    given = [f"{name} {'1 -1' if i % 2 else '-1 1'}" for i, name in enumerate(names)]
    (official / "list_attr_celeba.txt").write_text("\n".join(["5", "Young Male", *given]))
    kaggle = tmp_path / "kaggle"
    shutil.copytree(official / "img_align_celeba", kaggle / "img_align_celeba/img_align_celeba")
    for name, header, rows in (
        ("list_eval_partition.csv", "image_id,partition", lines),
        ("list_attr_celeba.csv", "image_id,Young,Male", given),
    ):
        text = "\n".join([header, *(r.replace(" ", ",") for r in rows)])
        (kaggle / name).write_text(text, encoding)
    one, other = (
        load_celeba(str(folder), num_train=3, num_validation=2, cache_dir=str(tmp_path / "cache"))
        for folder in (official, kaggle)
    )
    np.testing.assert_array_equal(one.train, other.train)
    assert one.read_labels is not None
    assert other.read_labels is not None
    assert one.read_labels().names == other.read_labels().names == ("Young", "Male")
    np.testing.assert_array_equal(one.read_labels().train, other.read_labels().train)


def test_no_message_tells_an_outside_address():
    error = OSError("HTTPSConnectionPool(host='drive.example', port=443): no https://x.example/y")
    assert "example" not in _reason(error)


@pytest.mark.parametrize("name", ["x.npy", "x.safetensors"])
def test_data_that_are_cut_short_while_they_are_read_are_one_line(name, tmp_path):
    data = np.ones((5000, 64), np.float32)
    if name == "x.npy":
        np.save(tmp_path / name, data)
    else:
        save_file({"x": data}, tmp_path / name)
    rows, _ = open_rows(tmp_path / name, "input")
    part = rows.part(100, 4000)
    np.testing.assert_array_equal(part[3000:3010], data[:10])
    os.truncate(tmp_path / name, 1000)
    for cut in (rows, part):
        with pytest.raises(UserError, match=rf"{name} was cut short while it was read"):
            cut[3000:3010]
    with pytest.raises(UserError, match="cut short"):
        rows.in_double(np.arange(3000, 3010))


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i2", "<f2"])
@pytest.mark.parametrize("fortran", [False, True])
def test_rows_of_a_file_are_those_of_the_array(kind, fortran, tmp_path):
    data = np.random.default_rng(0).integers(-99, 99, (50, 3, 2)).astype(kind)
    np.save(tmp_path / "x.npy", np.asfortranarray(data) if fortran else data)
    rows, _ = open_rows(tmp_path / "x.npy", "input")
    flat = data.reshape(50, 6).astype(np.float32)
    for chosen in (np.array([7, 8, 9, 3, 3, 49, 0]), np.arange(50), np.array([], int)):
        np.testing.assert_array_equal(rows[chosen], flat[chosen])
    part = rows.part(10, 40).part(5, 20)
    np.testing.assert_array_equal(part[2:9], flat[15:30][2:9])
