"""Labels stay with the images they belong to, from every source."""

import numpy as np
import pytest
import test_celeba
import test_fashion_mnist
from test_celeba import cache, official  # noqa: F401  fixtures

from jvsc.data import load_fashion_mnist
from jvsc.data.fashion_mnist import IDX_FILES, LABEL_FILES
from jvsc.errors import UserError


def labels_bytes(labels):
    return (0x801).to_bytes(4, "big") + len(labels).to_bytes(4, "big") + bytes(labels)


def write_labelled(folder):
    """Ten images of class c have all pixels 20 c; they are not in the order of their classes."""
    for *names, count in zip(IDX_FILES, LABEL_FILES, (40, 20), strict=True):
        classes = np.random.default_rng(count).integers(0, 10, count, dtype=np.uint8)
        images = np.broadcast_to(20 * classes[:, None, None], (count, 28, 28)).astype(np.uint8)
        folder.mkdir(exist_ok=True)
        (folder / names[0]).write_bytes(test_fashion_mnist.idx_bytes(images))
        (folder / names[1]).write_bytes(labels_bytes(classes.tolist()))


@pytest.mark.parametrize(("num_train", "num_validation"), [(40, 20), (25, 7)])
def test_classes_follow_the_images_that_are_chosen(tmp_path, num_train, num_validation):
    write_labelled(tmp_path / "idx")
    dataset = load_fashion_mnist(
        str(tmp_path / "idx"), num_train=num_train, num_validation=num_validation
    )
    labels = dataset.read_labels()
    assert labels.exclusive
    assert len(labels.names) == 10
    for images, of in ((dataset.train, labels.train), (dataset.validation, labels.validation)):
        np.testing.assert_array_equal(of.argmax(axis=1), images[:, 0] // 20)
        assert of.sum(axis=1).tolist() == [1] * len(images)


@pytest.mark.parametrize(
    "content", [labels_bytes([1] * 39), labels_bytes([11] * 40), labels_bytes([1] * 40)[:-3], b""]
)
def test_damaged_labels_are_one_line(tmp_path, content):
    write_labelled(tmp_path / "idx")
    (tmp_path / "idx" / LABEL_FILES[0]).write_bytes(content)
    dataset = load_fashion_mnist(str(tmp_path / "idx"), num_train=40, num_validation=20)
    with pytest.raises(UserError, match=r"train-labels.*fetch it again") as error:
        dataset.read_labels()
    assert "\n" not in str(error.value)


def test_a_folder_without_labels_has_none(tmp_path):
    test_fashion_mnist.write_folder(tmp_path / "idx")
    assert test_fashion_mnist.load(tmp_path / "idx").read_labels is None


def test_prepared_classes_follow_their_images(tmp_path):
    images = test_fashion_mnist.write_prepared(tmp_path)
    class_of = {
        image.tobytes(): index % 10
        for split in images.values()
        for index, image in enumerate(split)
    }
    given, read = test_fashion_mnist.fashion_mnist.read_prepared(str(tmp_path))
    for split, classes in zip(given, read(), strict=True):
        assert [class_of[image.tobytes()] for image in split] == classes.tolist()


def test_the_packages_classes_are_a_tenth_each(fashion_mnist):
    labels = load_fashion_mnist(str(fashion_mnist)).read_labels()
    assert labels.train.sum(axis=0).tolist() == [6000] * 10
    assert labels.validation.sum(axis=0).tolist() == [1000] * 10


def write_attributes(folder, numbers=range(1, 20)):
    rows = [f"{number:06d}.jpg {1 if number % 2 else -1:2d} {-1:2d}" for number in numbers]
    text = "\n".join([str(len(rows)), "Odd Never", *rows])
    (folder / "list_attr_celeba.txt").write_text(text + "\n")


def test_attributes_follow_the_images_past_a_corrupt_one(official, cache):  # noqa: F811
    write_attributes(official)
    test_celeba.image_file(official, 3).write_bytes(b"no image")
    dataset = test_celeba.load(official, cache)
    labels = dataset.read_labels()
    assert labels.names == ("Odd", "Never")
    assert not labels.exclusive
    for images, of in ((dataset.train, labels.train), (dataset.validation, labels.validation)):
        numbers = np.rint(images[:][:, 0] / 10).astype(int)
        assert of[:, 0].tolist() == (numbers % 2 == 1).tolist()
        assert not of[:, 1].any()


def test_an_image_without_attributes_is_named(official, cache):  # noqa: F811
    write_attributes(official, range(1, 5))
    with pytest.raises(UserError, match=r"000005\.jpg"):
        test_celeba.load(official, cache).read_labels()


def test_without_the_attribute_file_there_are_no_labels(official, cache):  # noqa: F811
    assert test_celeba.load(official, cache).read_labels is None


def test_prepared_attributes_have_their_names(tmp_path, cache):  # noqa: F811
    test_celeba.write_prepared(tmp_path / "tfds")
    dataset = test_celeba.load("", cache, 12, 5, tfds_dir=str(tmp_path / "tfds"))
    labels = dataset.read_labels()
    assert labels.train.shape == (12, 40)
    assert "Smiling" in labels.names
