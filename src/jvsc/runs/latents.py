"""What each latent of a run stands for, computed from its model, for the report's gallery."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from jvsc.data import Dataset
from jvsc.data.atomic import write_atomically
from jvsc.data.pixels import as_float
from jvsc.evaluation.inference import in_chunks
from jvsc.metrics import estimated_dictionary
from jvsc.model.autoencoders.base import SparseAutoencoder
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.variational import Variational
from jvsc.runs.config import Config
from jvsc.runs.evaluate import Evaluation
from jvsc.runs.report.figures import grey_at_zero
from jvsc.runs.report.gallery import LATENTS_FILE, SPRITES

# Of a latent: bars of its histogram, data that it is largest for, entries of an atom that is none.
NUM_BINS, NUM_STRONGEST, NUM_ENTRIES = 12, 4, 5
# Tokens on either side of one.
CONTEXT = 8
# Latents shown, the most used; and numbers of a sprite, for which tiles are made smaller.
MOST_LATENTS, SPRITE_NUMBERS = 4096, 3 << 20


def write_latents(
    config: Config, workdir: Path, dataset: Dataset, evaluation: Evaluation
) -> list[Path]:
    """Writes latents.json, and pictures of atoms and data where the data are images.

    Returns:
      The files' paths; none if all seeds diverged.

    Raises:
      UserError: if the data's tokens cannot be read.
    """
    if evaluation.inferred is None:
        return []
    codes = np.nan_to_num(evaluation.inferred.codes)
    data = dataset.validation[: len(codes)]
    dictionary = dictionary_of(evaluation.model, evaluation.parameters)
    if dictionary is None:
        pixels = np.asarray(as_float(jnp.asarray(data)))
        atoms = estimated_dictionary(pixels, codes).astype(np.float32)
    else:
        atoms = np.asarray(dictionary)
    probabilities = support_probabilities(
        evaluation.model, evaluation.parameters, evaluation.statistics, data, config.eval.chunk
    )
    shown = most_often_used(codes)
    latents = [
        describe(k, codes[:, k], None if probabilities is None else probabilities[:, k])
        for k in shown
    ]
    strongest = sorted({datum for latent in latents for datum, _ in latent["strongest"]})
    content: dict[str, Any] = {
        "num_latents": codes.shape[1],
        "num_data": len(codes),
        "is_estimated": dictionary is None,
        "has_probabilities": probabilities is not None,
        "latents": latents,
    }
    paths = [workdir / LATENTS_FILE]
    if len(dataset.shape) > 1:
        pictures = {
            "atoms": grey_at_zero(atoms[shown]),
            "data": as_pictures(data[strongest], dataset),
        }
        content |= {"data": strongest, "tiles": {}}
        for name, images in pictures.items():
            sprite, content["tiles"][name] = make_sprite(images.reshape(-1, *dataset.shape))
            paths.append(workdir / SPRITES[name])
            sprite.save(paths[-1])
    else:
        for latent in latents:
            latent["entries"] = largest_entries(atoms[latent["number"]])
    if dataset.read_tokens is not None:
        tokens = dataset.read_tokens()
        content["contexts"] = {str(datum): tokens.context(datum, CONTEXT) for datum in strongest}
    write_atomically(paths[0], json.dumps(content) + "\n")
    return paths


def dictionary_of(model: Model, parameters: Parameters) -> Float[Array, "K D"] | None:
    """The generator's dictionary, a sparse autoencoder's too; None of another network."""
    generator = parameters.generator
    if isinstance(model, SparseAutoencoder):
        return generator["dictionary"]
    return generator if model.generator.is_dictionary else None


def support_probabilities(
    model: Model, parameters: Parameters, statistics: Statistics, data: np.ndarray, chunk: int
) -> Float[np.ndarray, "N K"] | None:
    """P(code != 0) of each datum's latents; None for a method without a posterior."""
    if not isinstance(model, Variational):
        return None

    @jax.jit
    def of_chunk(parameters: Parameters, statistics: Statistics, data: jax.Array) -> jax.Array:
        heads, _ = model.heads(parameters, statistics, as_float(data))
        return model.posterior.support_probability(heads)

    (measured,) = in_chunks(
        lambda rows, first: (of_chunk(parameters, statistics, rows),), data, chunk
    )
    return measured


def most_often_used(codes: Float[np.ndarray, "N K"]) -> list[int]:
    """The latents that most data use, at most `MOST_LATENTS`, the most often used first."""
    order = np.argsort(-np.count_nonzero(codes, axis=0), kind="stable")
    return order[:MOST_LATENTS].tolist()


def describe(
    number: int, codes: Float[np.ndarray, " N"], probabilities: Float[np.ndarray, " N"] | None
) -> dict[str, Any]:
    """The gallery's entry of a latent.

    Args:
      number: k.
      codes: its code of each datum.
      probabilities: of being non-zero, likewise; without them the histogram is of the non-zeros'
        sizes, up to the largest.
    """
    sizes = np.abs(codes)
    largest = np.argpartition(-sizes, range(min(NUM_STRONGEST, len(sizes))))[:NUM_STRONGEST]
    used = sizes[sizes > 0]
    if probabilities is None:
        limit = max(float(sizes.max(initial=0)), float(np.finfo(np.float32).tiny))
        histogram = np.histogram(used, NUM_BINS, (0, limit))[0]
    else:
        histogram = np.histogram(probabilities, NUM_BINS, (0, 1))[0]
    return {
        "number": number,
        "use": round(len(used) / len(codes), 6),
        "size": _short(used.mean()) if len(used) else 0.0,
        "histogram": histogram.tolist(),
        "strongest": [[int(i), _short(codes[i])] for i in largest if codes[i] != 0],
    }


def largest_entries(atom: Float[np.ndarray, " D"]) -> list[list[Any]]:
    """The dimensions in which an atom is largest, and its values there."""
    order = np.argsort(-np.abs(atom), kind="stable")[:NUM_ENTRIES]
    return [[int(i), _short(atom[i])] for i in order]


def as_pictures(data: np.ndarray, dataset: Dataset) -> Float[np.ndarray, "N D"]:
    """Data in [0, 1]; each of signed ones in its own range, with zero in the middle."""
    pixels = np.asarray(as_float(jnp.asarray(data)))
    return grey_at_zero(pixels) if dataset.signed else np.clip(pixels, 0, 1)


def make_sprite(images: Float[np.ndarray, "N *shape"]) -> tuple[Image.Image, dict[str, Any]]:
    """Images side by side, about as many columns as rows, each smaller if there are many.

    Args:
      images: in [0, 1], [N, H, W] or [N, H, W, C].

    Returns:
      The picture, and where its tiles are.
    """
    count, height, width = len(images), *images.shape[1:3]
    is_grey = images.ndim == 3 or images.shape[3] == 1
    numbers = SPRITE_NUMBERS // (1 if is_grey else 3)
    share = min(1.0, (numbers / max(count * height * width, 1)) ** 0.5)
    tiles = {"columns": max(1, math.ceil(count**0.5)), "aspect": width / height}
    tiles["rows"] = max(1, -(-count // tiles["columns"]))
    height, width = max(1, int(share * height)), max(1, int(share * width))
    sprite = Image.new(
        "L" if is_grey else "RGB", (tiles["columns"] * width, tiles["rows"] * height)
    )
    pixels = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
    for index, image in enumerate(pixels[..., 0] if is_grey and images.ndim == 4 else pixels):
        tile = Image.fromarray(image)
        if share < 1:
            tile = tile.resize((width, height), Image.Resampling.BILINEAR)
        row, column = divmod(index, tiles["columns"])
        sprite.paste(tile, (column * width, row * height))
    return sprite, tiles


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")
