"""Patches of whitened natural images: from an Olshausen-style .mat file, a folder, or built in."""

from collections.abc import Callable, Sequence
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import scipy.io
import skimage.data
from jaxtyping import Float
from PIL import Image

from jvsc.data.dataset import Dataset, standardise
from jvsc.data.normalisation import FAR, normalisation_by
from jvsc.data.paths import data_files, user_path
from jvsc.data.whitening import as_grey, whiten
from jvsc.errors import UserError

# Pictures of any sizes, one [H, W] array each.
Images = Sequence[Float[np.ndarray, "_ _"]]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".pgm", ".webp")
# Pillow's modes whose pixels are grey levels or colours as they stand.
PLAIN_MODES = ("L", "RGB", "RGBA", "F")
# Grey levels of more than a byte, as Pillow names them: of a PGM, a PNG, a TIFF of either order.
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
DEEP_WHITE = 65535
# Squares of smaller numbers, and of the inverse's, leave float32's range.
SMALLEST_SPREAD = 1e-18


def _of_scikit_learn(name: str) -> np.ndarray:
    # Read where it lies: scikit-learn takes longer to import than a training to compile.
    wheel = distribution("scikit-learn")
    return np.asarray(Image.open(str(wheel.locate_file(f"sklearn/datasets/images/{name}"))))


# Photographs inside the wheels of scikit-image and scikit-learn; none needs a download.
BUNDLED: dict[str, Callable[[], np.ndarray]] = {
    "astronaut": skimage.data.astronaut,
    "brick": skimage.data.brick,
    "camera": skimage.data.camera,
    "chelsea": skimage.data.chelsea,
    "china": lambda: _of_scikit_learn("china.jpg"),
    "coffee": skimage.data.coffee,
    "flower": lambda: _of_scikit_learn("flower.jpg"),
    "grass": skimage.data.grass,
    "gravel": skimage.data.gravel,
    "rocket": skimage.data.rocket,
}


def bundled_images() -> Images:
    """Ten whitened photographs that ship with scikit-image and scikit-learn."""
    return [whiten(as_grey(load())) for load in BUNDLED.values()]


def mat_images(path: Path, smallest: int = 1) -> Images:
    """Images of an Olshausen-style file, variable `IMAGES: [H, W, N]`, already whitened.

    Args:
      path: the file.
      smallest: least height and width of an image.

    Raises:
      UserError: if the file is missing, unreadable, or holds no such array of finite numbers.
    """
    if not path.is_file():
        raise UserError(f"data.path={path}: there is no such file")
    try:
        images = scipy.io.loadmat(path, variable_names=["IMAGES"]).get("IMAGES")
    except NotImplementedError:
        raise UserError(
            f"data.path={path}: a MATLAB 7.3 file; save it with -v7 or earlier"
        ) from None
    except Exception as error:  # a damaged file makes scipy raise almost anything
        raise UserError(f"data.path={path}: not a readable .mat file ({error})") from None
    if images is None:
        raise UserError(f"data.path={path}: the file has no variable IMAGES [H, W, N]")
    if images.ndim != 3 or images.dtype.kind not in "fiu":
        raise UserError(
            f"data.path={path}: IMAGES has shape {list(images.shape)} and type {images.dtype}; "
            "it must be numbers [H, W, N]"
        )
    if min(images.shape[:2]) < smallest:
        raise UserError(
            f"data.path={path}: IMAGES are {images.shape[0]}x{images.shape[1]}, smaller than a "
            f"patch of {smallest}x{smallest}; lower data.patch_size"
        )
    if not np.isfinite(images).all():
        bad = np.unique(np.argwhere(~np.isfinite(images))[:, 2]).tolist()
        raise UserError(f"data.path={path}: NaN or infinite pixels in image {bad}; remove them")
    return [images[:, :, index].astype(np.float64) for index in range(images.shape[2])]


def grey_levels(picture: Image.Image) -> Float[np.ndarray, "H W"]:
    """A picture of any depth as grey levels: in [0, 1], or a float picture's own."""
    if picture.mode in DEEP_MODES:
        return np.asarray(picture).astype(np.float64) / DEEP_WHITE
    plain = picture if picture.mode in PLAIN_MODES else picture.convert("RGB")
    return as_grey(np.asarray(plain))


def folder_images(path: Path, smallest: int = 1) -> Images:
    """Every image file of a folder, in natural order, turned grey and whitened.

    Args:
      path: the folder; hidden files in it are no images.
      smallest: the least height and width.

    Raises:
      UserError: if the folder has no image, or one of them cannot be read or is too small.
    """
    images = []
    for file in data_files(path, IMAGE_SUFFIXES, "data.path"):
        try:
            with Image.open(file) as picture:
                grey = grey_levels(picture)
        except Exception as error:  # image readers raise almost anything
            reason = f"data.path={path}: {file.name} is not readable ({error}); remove it"
            raise UserError(reason) from None
        if not np.isfinite(grey).all():
            raise UserError(f"data.path={path}: NaN or infinite pixels in {file.name}; remove it")
        if min(grey.shape) < smallest:
            raise UserError(
                f"data.path={path}: {file.name} is {grey.shape[0]}x{grey.shape[1]}, smaller than a "
                f"patch of {smallest}x{smallest}; remove it, or lower data.patch_size"
            )
        images.append(whiten(grey))
    return images


def split_by_image(images: Images, validation_fraction: float) -> tuple[Images, Images]:
    """Splits images into training and validation ones, so that no patch can straddle the two.

    Photographs differ in contrast, so the choice is stratified by it: of the images in the order
    of their variance, and of their mean size |x| where variances are equal, the middle one of each
    of as many equal strata is for validation. A set of images always splits the same way.

    Raises:
      UserError: if there are fewer than two images.
    """
    if len(images) < 2:
        raise UserError(
            f"{len(images)} image: splitting by image needs at least two; give more images"
        )
    count = min(max(1, round(validation_fraction * len(images))), len(images) - 1)
    variance = np.array([image.var() for image in images])
    # Rounded, lest images scaled to one variance be sorted by its rounding errors.
    share = np.round(variance / max(variance.max(), np.finfo(float).tiny), 6)
    order = np.lexsort(([np.abs(image).mean() for image in images], share))
    chosen = {int(order[int((i + 0.5) * len(images) / count)]) for i in range(count)}
    train = [image for index, image in enumerate(images) if index not in chosen]
    return train, [images[index] for index in sorted(chosen)]


def far_offset(images: Images, path: str) -> float:
    """Mean of all pixels where it is so far from zero that float32 loses digits; else zero.

    Raises:
      UserError: if float32 holds no such pixels, however far they are from their mean.
    """
    pixels = np.concatenate([image.ravel() for image in images])
    with np.errstate(over="ignore"):
        spread = float(np.ptp(pixels))
    if spread and not SMALLEST_SPREAD < spread < 1 / SMALLEST_SPREAD:
        raise UserError(
            f"data.path={path}: pixels differ by {spread:.2g}, too little or too much for float32; "
            "scale them"
        )
    mean = float(pixels.mean())
    return mean if abs(mean) > FAR * float(pixels.std()) else 0.0


def cut_patches(
    images: Images, size: int, count: int, random: np.random.Generator
) -> Float[np.ndarray, "N D"]:
    """Cuts square patches at random places, every place of every image equally likely.

    Args:
      images: grey images of any sizes.
      size: side of a patch.
      count: how many patches N.
      random: NumPy's generator.

    Returns:
      Flattened patches, float32, D = size^2; none is taken twice.

    Raises:
      UserError: if an image is smaller than a patch, or there are fewer than `count` places.
    """
    for index, image in enumerate(images):
        if min(image.shape) < size:
            raise UserError(
                f"image {index} is {image.shape[0]}x{image.shape[1]}, smaller than a patch of "
                f"{size}x{size}; set data.patch_size to at most {min(image.shape)}"
            )
    windows = [np.lib.stride_tricks.sliding_window_view(image, (size, size)) for image in images]
    places = np.array([view.shape[0] * view.shape[1] for view in windows])
    if count > places.sum():
        raise UserError(
            f"{count} patches of {size}x{size} asked of {places.sum()} places; "
            "ask for fewer (data.num_train, data.num_validation) or give more images"
        )
    chosen = random.choice(places.sum(), count, replace=False)
    image_of = np.searchsorted(np.cumsum(places), chosen, side="right")
    within = chosen - (np.cumsum(places) - places)[image_of]
    patches = np.empty((count, size * size), np.float32)
    for index, view in enumerate(windows):
        mine = image_of == index
        rows, columns = np.unravel_index(within[mine], view.shape[:2])
        patches[mine] = view[rows, columns].reshape(-1, size * size)
    return patches


def load_patches(
    path: str = "",
    *,
    patch_size: int = 16,
    num_train: int = 80_000,
    num_validation: int = 16_000,
    validation_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Patches of whitened natural images (Olshausen & Field 1996; section 4.1), split by image.

    Args:
      path: an Olshausen-style .mat file, a folder of photographs, or "" for the bundled ones.
      patch_size: side of a patch.
      num_train: training patches N.
      num_validation: validation patches M.
      validation_fraction: share of the images kept for validation.
      seed: of the places where patches are cut.

    Returns:
      Patches, float32, [N, D] and [M, D], D = patch_size^2, each pixel standardised by the training
      patches' mean and standard deviation.

    Raises:
      UserError: for data that is missing, damaged, or too small; see the message.
    """
    source = user_path(path, "data.path")
    if not path:
        images, name = bundled_images(), "photographs bundled with scikit-image and scikit-learn"
    elif source.is_dir():
        images, name = folder_images(source, patch_size), f"photographs of {source}"
    elif source.exists() and source.suffix.lower() != ".mat":
        raise UserError(f"data.path={path}: give a .mat file or a folder of images")
    else:
        images, name = mat_images(source, patch_size), str(source)
    origin = far_offset(images, path)
    if origin:
        images = [image - origin for image in images]
    train_images, validation_images = split_by_image(images, validation_fraction)
    random = np.random.default_rng(seed)
    train, validation, mean, scale = standardise(
        cut_patches(train_images, patch_size, num_train, random),
        cut_patches(validation_images, patch_size, num_validation, random),
    )
    if origin:
        mean, scale = normalisation_by(mean.astype(np.float64) + origin, scale)
    description = (
        f"{num_train:,} + {num_validation:,} whitened {patch_size}x{patch_size} patches of "
        f"{len(train_images)} + {len(validation_images)} {name}"
    )
    shape = (patch_size, patch_size)
    return Dataset(train, validation, shape, description, mean, scale, signed=True)
