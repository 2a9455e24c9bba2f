"""Features in which distributions of images are compared: Inception's, or a small classifier's."""

import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from safetensors.numpy import load_file, save

from jvsc.data import Dataset, Labels
from jvsc.data.atomic import replacing
from jvsc.data.pixels import as_float
from jvsc.errors import UserError
from jvsc.evaluation.features.classifier import (
    NUM_FEATURES,
    STEPS,
    Classifier,
    classifier_features,
    init_classifier,
    predict,
    train_classifier,
)
from jvsc.evaluation.features.inception import inception_features, inception_variables
from jvsc.evaluation.inference import in_chunks

# Images at once: Inception's maps take 10 MB each.
INCEPTION_CHUNK = 20
CLASSIFIER_CHUNK = 500
# A classifier sees at most so many training images.
CLASSIFIER_IMAGES = 20_000


class Features(NamedTuple):
    """A map from images to features.

    Attributes:
      of: images [N, D], as a data set holds them or in [0, 1] -> features [N, F].
      description: what they are, for the report.
    """

    of: Callable[[Shaped[np.ndarray, "N D"]], Float[np.ndarray, "N F"]]
    description: str


def load_inception(file: Path, shape: tuple[int, ...]) -> Features:
    """Inception-v3's 2,048 features, its weights read from a file.

    Args:
      file: a safetensors file of the state dict `pt_inception-2015-12-05`, or that .pth itself,
        which needs PyTorch to be read.
      shape: of an image.

    Raises:
      UserError: if the file cannot be read, or is not that network's.
    """
    try:
        variables = inception_variables(_read_state(file))
    except UserError:
        raise
    except Exception as error:  # damaged files make their readers raise almost anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"fid.weights={file}: no weights of Inception-v3 ({reason}); give the state dict "
            "pt_inception-2015-12-05 as .pth or .safetensors"
        ) from None

    @jax.jit
    def of_chunk(rows: jax.Array) -> jax.Array:
        return inception_features(variables, as_float(rows).reshape(-1, *shape))

    of = partial(_of, of_chunk, chunk=INCEPTION_CHUNK)
    return Features(of, f"FID: Inception-v3's features, weights of {file.name}")


def _read_state(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise UserError(f"fid.weights={file}: there is no such file")
    if file.suffix == ".safetensors":
        return load_file(file)
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"fid.weights={file}: reading it needs PyTorch; install torch, or give the same state "
            "dict as .safetensors"
        ) from None
    # Arrays only: nothing in the file is executed.
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def own_classifier(dataset: Dataset, labels: Labels, architecture: str, cache: Path) -> Features:
    """Features of a small classifier of the data's own labels, trained once and cached.

    Args:
      dataset: images.
      labels: of the same images.
      architecture: of `networks.ARCHITECTURES`.
      cache: folder where the trained classifier is kept.
    """
    count = min(len(dataset.train), CLASSIFIER_IMAGES)
    data, targets = np.ascontiguousarray(dataset.train[:count]), labels.train[:count]
    key = jax.random.key(0)
    mark = zlib.crc32(data.data, zlib.crc32(np.packbits(targets).data, STEPS))
    file = cache / f"classifier-{architecture}-{count}-{mark:08x}.safetensors"
    like = jax.eval_shape(lambda: init_classifier(key, architecture, targets.shape[1]))
    classifier = _restore(file, like)
    if classifier is None:
        classifier = train_classifier(key, data, targets, architecture, labels.exclusive)
        _store(file, classifier)
    trained = classifier

    @jax.jit
    def of_chunk(rows: jax.Array) -> jax.Array:
        return classifier_features(trained, rows, architecture)

    of = partial(_of, of_chunk, chunk=CLASSIFIER_CHUNK)
    guess = np.asarray(predict(jnp.asarray(of(dataset.validation)), trained))
    if labels.exclusive:
        right = guess.argmax(axis=1) == labels.validation.argmax(axis=1)
    else:
        right = (guess > 0) == labels.validation
    return Features(
        of,
        f"not FID, since no Inception weights were given (fid.weights): {NUM_FEATURES} features of "
        f"a classifier trained on {count:,} of the same data ({100 * np.mean(right):.1f}% of its "
        "answers right on the validation data)",
    )


def _of(
    of_chunk: Callable, images: Shaped[np.ndarray, "N D"], chunk: int
) -> Float[np.ndarray, "N F"]:
    return in_chunks(lambda rows, first: (of_chunk(rows),), images, chunk)[0]


def _store(file: Path, classifier: Classifier) -> None:
    """Keeps a classifier; one that cannot be kept is trained again next time."""
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(classifier))}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            out.write(save(arrays))


def _restore(file: Path, like: Any) -> Classifier | None:
    """Reads a stored classifier; None if there is none, or it is damaged."""
    try:
        arrays = load_file(file)
        leaves, structure = jax.tree.flatten(like)
        restored = [jnp.asarray(arrays[str(index)]) for index in range(len(leaves))]
    except Exception:  # damaged files make their readers raise almost anything
        return None
    if any(a.shape != leaf.shape for a, leaf in zip(restored, leaves, strict=True)):
        return None
    return jax.tree.unflatten(structure, restored)
