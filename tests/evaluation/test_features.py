"""The features that images are compared in: Inception's against PyTorch's, and a classifier's."""

from pathlib import Path

import jax
import numpy as np
import pytest
from models import image_config, random_images
from safetensors.numpy import save_file

from jvsc.data import Labels, load_fashion_mnist
from jvsc.errors import UserError
from jvsc.evaluation.features import classifier
from jvsc.evaluation.features import frechet_features as features
from jvsc.evaluation.features.frechet_features import load_inception, own_classifier
from jvsc.evaluation.features.inception import inception_shapes
from jvsc.metrics import frechet_distance


@pytest.fixture(scope="module")
def pytorch():
    """Inception in PyTorch with random weights whose features vary from image to image."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: make peers")
    from pytorch_inception import Inception

    torch.manual_seed(0)
    network = Inception().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, torch.nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.uniform_(0.8, 1.2)
                for values in (module.bias, module.running_mean):
                    values.normal_(0, 0.1)
    return network


def weights_file(pytorch, folder: Path, kind: str) -> Path:
    file = folder / f"pt_inception.{kind}"
    if kind == "pth":
        import torch

        torch.save(pytorch.state_dict(), file)
    else:
        save_file({name: value.numpy() for name, value in pytorch.state_dict().items()}, file)
    return file


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        pytest.param("pth", (28, 28, 1), marks=pytest.mark.slow),
        ("safetensors", (64, 64, 3)),
    ],
)
def test_inception_is_pytorchs(pytorch, tmp_path, kind, shape):
    import torch

    images = np.random.default_rng(0).integers(0, 256, (3, np.prod(shape)), dtype=np.uint8)
    found = load_inception(weights_file(pytorch, tmp_path, kind), shape).of(images)
    assert found.shape == (3, 2048)
    with torch.no_grad():
        pixels = torch.from_numpy(images.reshape(-1, *shape)).permute(0, 3, 1, 2) / 255
        expected = pytorch(pixels).numpy()
    # Features are of the order of their root mean square; images must differ in them.
    size = np.sqrt(np.mean(expected**2))
    assert np.abs(expected[0] - expected[1]).max() > 0.05 * size
    np.testing.assert_allclose(found, expected, atol=1e-4 * size, rtol=1e-3)


def test_inception_has_the_published_number_of_weights():
    # torchvision's inception_v3 without its auxiliary head has 23,834,568; its last layer is left.
    leaves = jax.tree.leaves(inception_shapes()["params"])
    assert sum(leaf.size for leaf in leaves) == 23_834_568 - 2048 * 1000 - 1000


@pytest.mark.parametrize("content", [b"", b"not a file of weights", None])
def test_what_are_no_weights_is_one_line(content, tmp_path):
    for suffix in (".pth", ".safetensors"):
        file = tmp_path / f"weights{suffix}"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserError, match=r"fid\.weights=") as error:
            load_inception(file, (28, 28, 1))
        assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    save_file({"fc.weight": np.zeros((10, 2048), np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"no array Conv2d_1a_3x3\.bn"):
        load_inception(tmp_path / "other.safetensors", (28, 28, 1))


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 40)


def labelled_images():
    """Images whose class is which quarter is bright."""
    dataset = random_images(image_config(data__num_train=600, data__num_validation=200))
    parts = []
    for images in (dataset.train, dataset.validation):
        classes = np.arange(len(images)) % 4
        pictures = (images // 4).reshape(-1, 28, 28)
        for index, quarter in enumerate(classes):
            row, column = 14 * (quarter // 2), 14 * (quarter % 2)
            pictures[index, row : row + 14, column : column + 14] += 150
        parts.append((pictures.reshape(len(images), -1), np.eye(4, dtype=bool)[classes]))
    (train, of_train), (validation, of_validation) = parts
    labels = Labels(tuple("abcd"), of_train, of_validation, exclusive=True)
    return dataset._replace(train=train, validation=validation), labels


@pytest.mark.slow
@pytest.mark.parametrize("exclusive", [True, False])
def test_a_classifier_is_trained_once_and_named_as_what_it_is(
    exclusive, tmp_path, monkeypatch, few_steps
):
    dataset, labels = labelled_images()
    labels = labels._replace(exclusive=exclusive)
    first = own_classifier(dataset, labels, "fashion_mnist", tmp_path)
    assert "not FID" in first.description
    right = float(first.description.split("(")[-1].split("%")[0])
    assert right > 90  # chance: 25% of classes, 75% of attributes
    monkeypatch.setattr(features, "train_classifier", lambda *_: pytest.fail("trained again"))
    again = own_classifier(dataset, labels, "fashion_mnist", tmp_path)
    np.testing.assert_array_equal(first.of(dataset.validation), again.of(dataset.validation))


@pytest.mark.slow
def test_a_damaged_classifier_is_trained_anew(tmp_path, few_steps):
    dataset, labels = labelled_images()
    first = own_classifier(dataset, labels, "fashion_mnist", tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    again = own_classifier(dataset, labels, "fashion_mnist", tmp_path)
    assert first.description == again.description


@pytest.mark.slow
def test_the_distance_grows_with_damage_to_real_images(fashion_mnist, tmp_path, few_steps):
    dataset = load_fashion_mnist(str(fashion_mnist), num_train=4000, num_validation=1000)
    assert dataset.read_labels is not None
    of = own_classifier(dataset, dataset.read_labels(), "fashion_mnist", tmp_path).of
    images = dataset.validation.astype(np.float32) / 255
    random = np.random.default_rng(0)
    distances = [
        frechet_distance(of(dataset.validation), of(np.clip(images + level * noise, 0, 1)))
        for level in (0.0, 0.1, 0.3)
        for noise in [random.normal(size=images.shape).astype(np.float32)]
    ]
    assert distances[0] == pytest.approx(0.0, abs=1e-3)
    assert distances[0] < distances[1] < distances[2]
