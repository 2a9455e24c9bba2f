"""Patches: where they come from, how they are split, and what is refused."""

import numpy as np
import pytest
import scipy.io
from skimage.io import imsave

from jvsc.data import load_patches
from jvsc.data.patches import cut_patches, split_by_image
from jvsc.data.whitening import VARIANCE, as_grey, whiten
from jvsc.errors import UserError


@pytest.fixture
def pink_image():
    """An image with the 1/f amplitude spectrum of natural images."""
    white = np.fft.fft2(np.random.default_rng(0).normal(size=(256, 192)))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(192)[None])
    frequency[0, 0] = 1.0
    return np.fft.ifft2(white / frequency).real


def save_mat(path, images):
    scipy.io.savemat(path, {"IMAGES": images})
    return str(path)


def noise_images(height=24, width=20, count=6, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, count)).astype(np.float32)


# Whitening


def test_whitening_flattens_a_one_over_f_spectrum_below_the_cutoff(pink_image):
    whitened = whiten(pink_image)
    power = np.abs(np.fft.fft2(whitened)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(192)[None])
    rings = [power[(frequency > f) & (frequency <= f + 0.05)].mean() for f in (0.02, 0.07, 0.12)]
    assert max(rings) / min(rings) < 1.25
    assert power[frequency > 0.65].mean() < 1e-3 * rings[0]


def test_whitened_images_have_mean_0_and_variance_one_tenth(pink_image):
    whitened = whiten(5 * pink_image + 3)
    assert abs(whitened.mean()) < 1e-12
    assert whitened.var() == pytest.approx(VARIANCE)


def test_whitening_applies_the_published_filter_to_a_single_wave():
    """A cosine that mirrors onto itself keeps its shape: only its amplitude could change."""
    wave = np.cos(np.pi * (np.arange(64) + 0.5) * 10 / 64)[:, None] * np.ones(48)
    np.testing.assert_allclose(whiten(wave), wave * np.sqrt(VARIANCE / wave.var()), atol=1e-9)


def test_whitening_weighs_two_waves_as_the_filter_says():
    position = np.pi * (np.arange(64) + 0.5) / 64
    slow, fast = np.cos(8 * position), np.cos(24 * position)
    image = (slow + fast)[:, None] * np.ones(64)
    profile = whiten(image)[:, 0]
    gain = [float(profile @ wave / (wave @ wave)) for wave in (slow, fast)]
    f = np.array([8, 24]) / 128
    expected = f * np.exp(-((f / 0.4) ** 4))
    assert gain[1] / gain[0] == pytest.approx(expected[1] / expected[0])


def test_a_flat_image_whitens_to_zero():
    assert (whiten(np.full((32, 32), 0.7)) == 0).all()


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (9, 7, 4)])
def test_photographs_of_any_depth_become_grey(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    grey = as_grey(image)
    assert grey.shape == (9, 7)
    assert grey.min() >= 0
    assert grey.max() <= 1


# Patches


def test_bundled_photographs_give_standardised_patches():
    data = load_patches(num_train=5000, num_validation=1000)
    assert data.train.shape == (5000, 256)
    assert data.validation.shape == (1000, 256)
    assert data.train.dtype == np.float32
    np.testing.assert_allclose(data.train.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(data.train.std(0), 1, atol=1e-4)
    assert 0.5 < (data.validation**2).mean() < 2


def test_every_patch_is_a_window_of_its_image_and_none_comes_twice(tmp_path):
    images = noise_images()
    patches = cut_patches(
        [images[:, :, i].astype(np.float64) for i in range(6)], 8, 300, np.random.default_rng(1)
    )
    windows = {
        images[r : r + 8, c : c + 8, i].tobytes()
        for i in range(6)
        for r in range(17)
        for c in range(13)
    }
    cut = [patch.tobytes() for patch in patches]
    assert set(cut) <= windows
    assert len(set(cut)) == 300


def test_training_and_validation_share_no_image(tmp_path):
    """Each image holds one number; no number is in both parts."""
    images = np.broadcast_to(np.arange(10.0), (20, 20, 10)).copy()
    images[0, 0] += np.linspace(0, 5, 10)
    data = load_patches(
        save_mat(tmp_path / "a.mat", images), patch_size=4, num_train=400, num_validation=100
    )
    train = set(np.rint((data.train * data.scale + data.mean)[:, -1]).astype(int))
    validation = set(np.rint((data.validation * data.scale + data.mean)[:, -1]).astype(int))
    assert len(train) == 8
    assert len(validation) == 2
    assert not train & validation


@pytest.mark.parametrize("offset", [1e4, 1e8, -1e12])
def test_pixels_far_from_zero_keep_their_digits(tmp_path, offset):
    images = np.random.default_rng(0).normal(size=(40, 40, 6))
    sets = []
    for name, pixels in (("near", images), ("far", images + offset)):
        scipy.io.savemat(tmp_path / f"{name}.mat", {"IMAGES": pixels})
        sets.append(
            load_patches(
                str(tmp_path / f"{name}.mat"), patch_size=4, num_train=200, num_validation=50
            )
        )
    near, far = sets
    np.testing.assert_allclose(far.train, near.train, atol=1e-6 + 1e-15 * abs(offset))
    np.testing.assert_allclose(far.validation, near.validation, atol=1e-6 + 1e-15 * abs(offset))
    original = far.validation.astype(np.float64) * far.scale + far.mean
    np.testing.assert_allclose(
        far.normalisation.apply(original), far.validation, atol=1e-5 + 1e-15 * abs(offset)
    )


@pytest.mark.parametrize("size", [1e40, 1e200, 1e-30, 1e-200])
def test_pixels_that_float32_does_not_hold_are_refused(tmp_path, size):
    images = size * np.random.default_rng(0).normal(size=(40, 40, 6))
    scipy.io.savemat(tmp_path / "I.mat", {"IMAGES": images})
    with pytest.raises(UserError, match="scale them"):
        load_patches(str(tmp_path / "I.mat"), patch_size=4, num_train=200, num_validation=50)


@pytest.mark.parametrize(("factor", "offset"), [(1, 1e8), (1e-12, 0), (1e12, 1e15)])
def test_whitening_does_not_depend_on_the_unit_of_grey_levels(pink_image, factor, offset):
    np.testing.assert_allclose(whiten(factor * pink_image + offset), whiten(pink_image), atol=1e-3)


def test_the_split_balances_contrast():
    images = [scale * np.eye(8) for scale in (9, 1, 5, 3, 7, 2, 8, 4, 6, 10)]
    _, validation = split_by_image(images, 0.2)
    assert sorted(image.max() for image in validation) == [3, 8]


def test_the_split_of_images_of_one_variance_balances_their_sparseness():
    """Each has variance 1 up to rounding; the fewer pixels are not zero, the smaller mean |x|."""
    images = []
    for count in (9, 1, 5, 3, 7, 2, 8, 4, 6, 10):
        image = np.zeros(100)
        image[:count] = 1.0
        images.append(((image - image.mean()) / image.std()).reshape(10, 10) * (1 + 1e-12 * count))
    _, validation = split_by_image(images, 0.2)
    assert sorted((image > 0).sum() for image in validation) == [3, 8]


def test_standardisation_uses_the_training_set_alone(tmp_path):
    path = save_mat(tmp_path / "a.mat", noise_images(40, 40, 10))
    data = load_patches(path, patch_size=8, num_train=900, num_validation=200)
    np.testing.assert_allclose(data.train.std(0), 1, atol=1e-5)
    assert np.abs(data.validation.std(0) - 1).max() > 1e-3


def test_images_of_any_height_width_and_number_are_read(tmp_path):
    path = save_mat(tmp_path / "a.mat", noise_images(17, 31, 3))
    data = load_patches(path, patch_size=16, num_train=20, num_validation=10)
    assert data.train.shape == (20, 256)
    assert data.shape == (16, 16)


def test_a_folder_of_photographs_is_whitened(tmp_path):
    random = np.random.default_rng(0)
    for index in range(3):
        image = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        imsave(tmp_path / f"{index}.png", image, check_contrast=False)
    (tmp_path / "notes.txt").write_text("not an image")
    data = load_patches(str(tmp_path), patch_size=8, num_train=100, num_validation=50)
    assert data.train.shape == (100, 64)
    assert "2 + 1 photographs" in data.description


def test_the_same_seed_cuts_the_same_patches():
    one, other, different = (
        load_patches(num_train=50, num_validation=20, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.train, other.train)
    assert not np.array_equal(one.train, different.train)


def test_natural_images_file_is_read(natural_images):
    data = load_patches(str(natural_images), num_train=4000, num_validation=1000)
    assert "21 + 5" in data.description
    assert 0.9 < (data.validation**2).mean() < 1.15


# What is refused


def bad_file(tmp_path, content):
    path = tmp_path / "bad.mat"
    path.write_bytes(content)
    return str(path)


def with_nan():
    images = noise_images()
    images[3, 3, 4] = np.nan
    return images


MISTAKES = {
    "there is no such file": lambda tmp: str(tmp / "none.mat"),
    "not a readable .mat file": lambda tmp: bad_file(tmp, b"\0" * 300),
    "no variable IMAGES": lambda tmp: (
        scipy.io.savemat(tmp / "b.mat", {"X": np.ones((9, 9, 2))}) or str(tmp / "b.mat")
    ),
    r"shape \[24, 20\]": lambda tmp: save_mat(tmp / "c.mat", noise_images()[:, :, 0]),
    r"in image \[4\]": lambda tmp: save_mat(tmp / "d.mat", with_nan()),
    r"e\.mat: IMAGES are 5x20, smaller than a": lambda tmp: save_mat(
        tmp / "e.mat", noise_images(5, 20)
    ),
    "at least two": lambda tmp: save_mat(tmp / "f.mat", noise_images(count=1)),
    "file in this folder": str,
}


@pytest.mark.parametrize("message", MISTAKES)
def test_data_that_do_not_serve_are_refused_in_one_line(tmp_path, message):
    path = MISTAKES[message](tmp_path)
    with pytest.raises(UserError, match=message) as error:
        load_patches(path, patch_size=8, num_train=100, num_validation=20)
    assert "\n" not in str(error.value)


def test_a_truncated_mat_file_is_refused(tmp_path):
    whole = (tmp_path / "whole.mat", noise_images(64, 64))
    save_mat(*whole)
    content = whole[0].read_bytes()
    for keep in (0, 60, 128, 200, len(content) // 2, len(content) - 10):
        with pytest.raises(UserError):
            load_patches(bad_file(tmp_path, content[:keep]), patch_size=8, num_train=10)


def test_a_file_that_is_neither_mat_nor_folder_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"\.mat file or a folder"):
        load_patches(str(tmp_path / "a.png"))


def test_an_image_file_that_is_damaged_is_named(tmp_path):
    imsave(tmp_path / "good.png", np.eye(30, dtype=np.uint8), check_contrast=False)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(UserError, match=r"broken\.png"):
        load_patches(str(tmp_path), patch_size=8, num_train=10)


def test_more_patches_than_places_are_refused(tmp_path):
    path = save_mat(tmp_path / "a.mat", noise_images())
    with pytest.raises(UserError, match="ask for fewer"):
        load_patches(path, patch_size=8, num_train=100_000)
