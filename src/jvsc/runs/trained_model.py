"""A trained model on its own: out of a run, into a folder without pickle, and back."""

import json
import math
import os
import sys
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped
from safetensors import safe_open
from safetensors.numpy import save

from jvsc.data import Dataset
from jvsc.data.atomic import new_folder, replacing
from jvsc.data.normalisation import Normalisation
from jvsc.data.paths import user_path
from jvsc.data.pixels import as_float
from jvsc.errors import UserError
from jvsc.evaluation.inference import in_chunks, inference_key, make_infer_chunk
from jvsc.model.model import Model
from jvsc.model.networks import ARCHITECTURES
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.variational import Variational
from jvsc.runs.config import Config
from jvsc.runs.divergence import read_divergences
from jvsc.runs.factories import build_dataset, build_model
from jvsc.runs.factories.models import build_infer_chunk
from jvsc.runs.model_files import (
    leaves_like,
    name_leaves,
    read_arrays,
    short_reason,
)
from jvsc.runs.restore import restore_state, seed_variables
from jvsc.runs.workdir import CONFIG_FILE, read_config
from jvsc.solvers.problem import as_real
from jvsc.training.state import initial_variables

MODEL_FILE = "model.safetensors"
ENCODER_FILE = "encoder.stablehlo"
NORMALISATION_FILE = "normalisation.safetensors"
# Pixels lie in [0, 1]; beyond this they are another scale's.
LARGEST_PIXEL = 2.0
EXPORT_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class Origin(NamedTuple):
    """Where a model's parameters come from.

    Attributes:
      seed: of the run's seeds.
      epoch: epochs trained.
    """

    seed: int
    epoch: int


class TrainedModel:
    """One trained seed: codes of data, and data of codes, both on the host.

    Attributes:
      config: the run's settings.
      num_features: D.
      parameters: of encoder and generator. The generator's are the dictionary [K, D]; of a sparse
        autoencoder `dictionary` and `bias`; of a conv generator those of its network.
      statistics: running averages of encoder, generator and prior.
      normalisation: from original data to the model's; None where it takes them as they are.
      origin: which seed it is, and how far trained.
    """

    def __init__(
        self,
        config: Config,
        num_features: int,
        parameters: Parameters,
        statistics: Statistics,
        normalisation: Normalisation | None,
        origin: Origin,
    ):
        self.config: Config = config
        self.num_features: int = num_features
        self.parameters: Parameters = parameters
        self.statistics: Statistics = statistics
        self.normalisation: Normalisation | None = normalisation
        self.origin: Origin = origin

    def encode(self, data: Shaped[np.ndarray, "N *D"], first: int = 0) -> Float[np.ndarray, "N K"]:
        """The codes that an evaluation infers (`Variational.infer`), or a solver's.

        The draws depend on a datum's place and on `eval.seed` alone, so the same call gives the
        same codes.

        Args:
          data: in the original data's units; for images bytes, or floats in [0, 1]. More than two
            axes count as rows of all but the first's product, such as images [N, 28, 28].
          first: place of the first datum in its data set.

        Returns:
          Codes, float32.

        Raises:
          UserError: if the data are not D wide, none, not finite real numbers, or pixels up to 255
            that are no bytes.
        """
        return self.encode_normalised(self._normalised(data), first)

    def encode_normalised(
        self, data: Shaped[np.ndarray, "N D"], first: int = 0
    ) -> Float[np.ndarray, "N K"]:
        """`encode` of data as the model takes them."""
        self._check_pixels(data)
        chunk = self.config.eval.chunk
        return in_chunks(self._encode_chunk, data, chunk, first, filled_to=chunk)[0]

    def predict_support_proba(self, data: Shaped[np.ndarray, "N *D"]) -> Float[np.ndarray, "N K"]:
        """Probability that each latent is not zero under its posterior (eq. 3), in closed form.

        Args:
          data: as for `encode`.

        Raises:
          UserError: for a method without posterior, or as `encode`.
        """
        if not isinstance(self.model, Variational):
            raise UserError(f"method={self.config.method} has no posterior, so no probabilities")
        chunk, rows = self.config.eval.chunk, self._normalised(data)
        self._check_pixels(rows)
        return in_chunks(self._probability_chunk, rows, chunk, filled_to=chunk)[0]

    def _check_pixels(self, rows: Shaped[np.ndarray, "N D"]) -> None:
        """Refuses numbers from 0 to 255 of another type than bytes, which stand for [0, 1]."""
        if self.config.has_network_generator and rows.dtype != np.uint8:
            largest = float(np.abs(rows).max(initial=0))
            if largest > LARGEST_PIXEL:
                raise UserError(
                    f"data: pixels of {rows.dtype} up to {largest:g}; give bytes (uint8), or "
                    "divide by 255"
                )

    def _normalised(self, data: Any) -> Shaped[np.ndarray, "N D"]:
        rows = _finite_rows(data, "data", self.num_features, "numbers", flattens=True)
        return rows if self.normalisation is None else self.normalisation.apply(rows)

    def decode(
        self, codes: Float[np.ndarray, "N K"] | scipy.sparse.sparray
    ) -> Float[np.ndarray, "N D"]:
        """What codes generate, in the original data's units; images in [0, 1].

        Args:
          codes: dense, or sparse as the command writes them.

        Raises:
          UserError: if the codes are not K wide, none, or not finite real numbers.
        """
        is_sparse = scipy.sparse.issparse(codes)
        dense = scipy.sparse.csr_array(codes).toarray() if is_sparse else codes
        dense = _finite_rows(dense, "codes", self.config.num_latents, "latents")
        chunk = self.config.eval.chunk
        (data,) = in_chunks(self._decode_chunk, dense, chunk, filled_to=chunk)
        return data if self.normalisation is None else self.normalisation.undo(data)

    @cached_property
    def model(self) -> Model:
        """The method."""
        return build_model(self.config, self.num_features)

    @cached_property
    def _encode_chunk(self):
        key = inference_key(self.config.eval.seed)
        infer = build_infer_chunk(self.config, self.model)
        infer = infer or jax.jit(make_infer_chunk(self.model))
        return lambda rows, first: infer(self.parameters, self.statistics, rows, key, first)[:1]

    @cached_property
    def _probability_chunk(self):
        model = self.model
        assert isinstance(model, Variational)
        heads = jax.jit(model.heads)

        def probability(rows: Shaped[Array, "B D"], first: int) -> tuple[Float[Array, "B K"]]:
            del first
            inferred, _ = heads(self.parameters, self.statistics, as_float(rows))
            return (model.posterior.support_probability(inferred),)

        return probability

    @cached_property
    def _decode_chunk(self):
        generate = jax.jit(self.model.generator.apply, static_argnums=3)

        def decode(codes: Float[Array, "B K"], first: int) -> tuple[Float[Array, "B D"]]:
            del first
            with jax.default_matmul_precision("highest"):
                variables = (self.parameters.generator, self.statistics.generator)
                return generate(*variables, codes, False)[:1]

        return decode

    def save(self, folder: Path) -> None:
        """Writes the model as a new folder of JSON, safetensors and StableHLO, whole or not at all.

        Raises:
          UserError: if the folder is there already, or cannot be made.
        """
        with new_folder(folder) as temporary:
            settings = json.dumps(self.config.model_dump(), indent=2) + "\n"
            (temporary / CONFIG_FILE).write_text(settings, encoding="utf-8")
            self._save_arrays(temporary / MODEL_FILE)
            (temporary / ENCODER_FILE).write_bytes(self.export_encoder())

    def _save_arrays(self, file: Path) -> None:
        arrays = name_leaves({"parameters": self.parameters, "statistics": self.statistics})
        if self.normalisation is not None:
            arrays |= name_leaves({"normalisation": self.normalisation})
        metadata = {
            "num_features": str(self.num_features),
            "jvsc": version("jvsc"),
            **{name: str(value) for name, value in self.origin._asdict().items()},
        }
        file.write_bytes(save({name: np.asarray(leaf) for name, leaf in arrays.items()}, metadata))

    def export_encoder(self) -> bytes:
        """The encoder as `jax.export` serialises it: StableHLO that needs JAX but not jvsc.

        Its `call(data [b, D], first)` gives codes [b, K] of data in their original units (float32,
        images in [0, 1]); `b` is any number, and `first` the place of the first datum (int32).
        """
        infer = make_infer_chunk(self.model)

        def encode(data: Float[Array, "b D"], first: ArrayLike) -> Float[Array, "b K"]:
            key = inference_key(self.config.eval.seed)
            if self.normalisation is not None:
                data = (data - self.normalisation.mean) / self.normalisation.scale
            return infer(self.parameters, self.statistics, data, key, first).codes

        (batch,) = jax.export.symbolic_shape("b")
        arguments = (
            jax.ShapeDtypeStruct((batch, self.num_features), jnp.float32),
            jax.ShapeDtypeStruct((), jnp.int32),
        )
        exported = jax.export.export(jax.jit(encode), platforms=EXPORT_PLATFORMS)(*arguments)
        return bytes(exported.serialize())


def _finite_rows(
    values: Any, name: str, width: int, what: str, flattens: bool = False
) -> Shaped[np.ndarray, "N W"]:
    """Rows of so many numbers, which with `flattens` all axes but the first make together.

    Raises:
      UserError: if there are none, of another width, or of something else than finite numbers.
    """
    rows = np.asarray(as_real(values, name))
    fits = rows.ndim == 2 or (flattens and rows.ndim > 2)
    if not fits or not len(rows) or math.prod(rows.shape[1:]) != width:
        raise UserError(
            f"{name} of shape {rows.shape}; this model takes one or more rows of {width} {what}"
        )
    if rows.dtype.kind not in "bui" and not np.isfinite(rows).all():
        raise UserError(f"{name} hold NaN or infinity; leave such rows out")
    return rows.reshape(len(rows), -1)


def load(path: str | os.PathLike[str], seed: int | None = None) -> TrainedModel:
    """Reads a trained model: a folder that `TrainedModel.save` wrote, or a run's workdir.

    Args:
      path: the folder.
      seed: which of a workdir's seeds, by default the first that did not diverge; of an export the
        one that it holds.

    Returns:
      The model; of a workdir, after its newest whole checkpoint. The workdir is only read, also
      while it is trained.

    Raises:
      UserError: if there is no model, it cannot be read, or it does not have that seed.
    """
    folder = user_path(path, "path")
    return load_with(read_config(folder), folder, seed)


def load_with(config: Config, folder: Path, seed: int | None = None) -> TrainedModel:
    """`load` with settings in which those of an evaluation may differ from the stored ones."""
    if (folder / MODEL_FILE).is_file():
        return _load_exported(config, folder, seed)
    index = seed_index(config, folder, seed)
    num_features, normalisation = _data_format(config, folder)
    try:
        _, state = restore_state(config, folder, num_features, _warn, reading=True)
    except UserError as error:
        file = folder / NORMALISATION_FILE
        if error.argument is not None or not file.is_file():
            raise
        raise UserError(
            f"{error}; {file} says that data have {num_features} columns: if that is wrong, remove "
            "it, and the data are asked"
        ) from None
    origin = Origin(config.seeds[index], int(state.step[index]) // config.steps_per_epoch)
    return TrainedModel(config, num_features, *seed_variables(state, index), normalisation, origin)


def _warn(text: str) -> None:
    print(f"jvsc: {text}", file=sys.stderr)


def seed_index(config: Config, workdir: Path, seed: int | None = None) -> int:
    """Place of a seed among the run's, by default of the first that did not diverge.

    Raises:
      UserError: if the run does not have it.
    """
    if seed is not None and seed not in config.seeds:
        raise UserError(
            f"{workdir} has the seeds {', '.join(map(str, config.seeds))}, not {seed}; give one of "
            "them",
            "seed",
        )
    if seed is not None:
        return config.seeds.index(seed)
    diverged = read_divergences(workdir)
    return next((i for i, seed in enumerate(config.seeds) if seed not in diverged), 0)


def _data_format(config: Config, workdir: Path) -> tuple[int, Normalisation | None]:
    """D, and how the run's data were normalised."""
    if config.data.name in ARCHITECTURES:
        return int(np.prod(ARCHITECTURES[config.data.name].shape)), None
    stored = _stored_normalisation(workdir / NORMALISATION_FILE)
    is_patches = config.data.name == "patches"
    if stored is None or (is_patches and len(stored.mean) != config.data.patch_size**2):
        # A run of an earlier version, or one whose file is lost or damaged: its data tell.
        dataset = build_dataset(config)
        return dataset.train.shape[1], dataset.normalisation
    return len(stored.mean), stored


def _stored_normalisation(file: Path) -> Normalisation | None:
    """What `write_normalisation` wrote; None if it is not there, or not as it was written."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "numpy") as opened:
            stored = Normalisation(opened.get_tensor("mean"), opened.get_tensor("scale"))
    except Exception:  # whatever a damaged file makes a reader raise
        return None
    fits = stored.mean.ndim == 1 and stored.mean.shape == stored.scale.shape and len(stored.mean)
    # A mean far from zero is in float64 (`normalisation_by`).
    if (
        not fits
        or stored.mean.dtype not in (np.float32, np.float64)
        or stored.scale.dtype != np.float32
    ):
        return None
    whole = np.isfinite(stored.mean).all() and np.isfinite(stored.scale).all()
    return stored if whole and (stored.scale > 0).all() else None


def write_normalisation(dataset: Dataset, workdir: Path) -> None:
    """Keeps in a workdir what was done to its data, so that a model can be used without them."""
    if dataset.normalisation is not None:
        with replacing(workdir / NORMALISATION_FILE) as out:
            out.write(save(dataset.normalisation._asdict()))


def _load_exported(config: Config, folder: Path, seed: int | None) -> TrainedModel:
    file = folder / MODEL_FILE
    try:
        metadata, arrays = read_arrays(file)
        num_features = int(metadata["num_features"])
        origin = Origin(int(metadata["seed"]), int(metadata["epoch"]))
        if num_features < 1:
            raise ValueError(f"num_features is {num_features}")
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = short_reason(error)
        raise UserError(f"{file} cannot be read ({reason}); export the model again") from None
    if seed not in (None, origin.seed):
        raise UserError(f"{folder} holds seed {origin.seed} only, not {seed}; leave it out", "seed")
    model = build_model(config, num_features)
    shapes = jax.eval_shape(partial(initial_variables, model=model), jax.random.key(0))
    like: dict[str, Any] = dict(zip(("parameters", "statistics"), shapes, strict=True))
    if "normalisation/mean" in arrays:
        vector = jax.ShapeDtypeStruct((num_features,), jnp.float32)
        # A mean far from zero is kept in float64, which JAX itself may not have.
        mean = arrays["normalisation/mean"]
        like_mean = mean[:num_features] if mean.dtype == np.float64 else vector
        like["normalisation"] = Normalisation(like_mean, vector)  # type: ignore[arg-type]
    tree = leaves_like(arrays, like, file, CONFIG_FILE, "export the model again")
    parameters, statistics = jax.tree.map(jnp.asarray, (tree["parameters"], tree["statistics"]))
    normalisation = tree.get("normalisation")
    return TrainedModel(config, num_features, parameters, statistics, normalisation, origin)
