"""Small models and runs that several tests use."""

import gc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jvsc.data import Dataset
from jvsc.model.methods import METHODS, AutoencoderMethod, build_posterior
from jvsc.model.model import Model
from jvsc.model.networks import dictionary_generator, mlp_encoder
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.variational import Variational
from jvsc.runs.config import Config, make_config

D, K, B = 16, 12, 10
# All but sparse autoencoders and the online lasso, which have no conv generator.
CODED_METHODS = tuple(
    name
    for name, method in METHODS.items()
    if not isinstance(method, AutoencoderMethod) and name != "lasso"
)
# The inferred threshold as configs/ train it: the exact bound, an encoder that explains away.
EXPLAINING = {
    "method": "inferred_threshold",
    "sampling": "exact",
    "threshold": None,
    "sparsity": 0.1,
    "encoder__name": "unrolled",
    "encoder__steps": 4,
    "encoder__optimizer": "adam",
    "encoder__max_gradient_norm": 1.0,
    "generator__optimizer": "adam",
    "generator__schedule": "one_cycle",
    "generator__learning_rate": 1e-2,
    "generator__unit_norm": True,
    "generator__frobenius": 0.0,
    "prior__scale": 1.5,
    "annealing__kl_warmup_share": 0.1,
}
NO_STATISTICS = Statistics({}, {})


def small_model(method: str = "thresholded_laplacian") -> Variational:
    """A method on D = 16 pixels and K = 12 latents, with a small encoder."""
    posterior = build_posterior(method)
    encoder = mlp_encoder(D, K, posterior.heads, hidden=(32, 24))
    return Variational(dictionary_generator(D, K), posterior, encoder)


def small_batch(model: Model, seed: int = 0) -> tuple[Parameters, jax.Array]:
    """Initial parameters, with a dictionary large enough to matter, and a batch of data."""
    parameters, _ = model.init(jax.random.key(seed))
    data = jax.random.normal(jax.random.key(seed + 100), (B, D))
    return parameters._replace(generator=2.0 * parameters.generator), data


def small_config(**changes) -> Config:
    """A run on bundled photographs that takes seconds; `changes` with `__` for a dot."""
    settings: dict = {
        "num_epochs": 4,
        "batch_size": 50,
        "num_latents": 24,
        "seeds": (0,),
        "threshold": 0.25,
        "annealing": {"warmup_begin": 20, "warmup_increment": 0.01},
        "data": {"patch_size": 8, "num_train": 1000, "num_validation": 230},
        "eval": {
            "chunk": 100,
            "iwae_samples": 3,
            "snr_draws": 3,
            "snr_batches": 1,
            "jaccard_draws": 3,
            "probe_train": 50,
        },
    }
    return make_config(nested(changes, "__", settings))


def nested(flat: dict, dot: str, settings: dict | None = None) -> dict:
    """Settings by sections, and others over them whose names have the section before a dot."""
    settings = {} if settings is None else settings
    for name, value in flat.items():
        section, _, key = name.rpartition(dot)
        (settings.setdefault(section, {}) if section else settings)[key] = value
    return settings


def image_config(**changes) -> Config:
    """A run of the conv networks on 28x28 images that takes seconds."""
    settings: dict = {
        "data__name": "fashion_mnist",
        "num_epochs": 2,
        "batch_size": 16,
        "num_latents": 10,
        "threshold": 0.1,
        "annealing__warmup_start": 1.0,
        "encoder__optimizer": "adam",
        "encoder__learning_rate": 1e-3,
        "encoder__momentum": 0.5,
        "data__num_train": 64,
        "data__num_validation": 24,
        "eval__chunk": 10,
        "eval__num_edges": 30,
        "fista__penalty": 1.0,
        "fista__max_iterations": 10,
    }
    settings = {**settings, **changes}
    return small_config(**settings)


def random_images(config: Config) -> Dataset:
    """Smooth random images as bytes, mirrored in training, to test with where there are no data."""
    random = np.random.default_rng(0)
    count = config.data.num_train + config.data.num_validation
    coarse = random.integers(0, 256, (count, 7, 7), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2).reshape(count, -1)
    parts = np.split(images, [config.data.num_train])
    return Dataset(*parts, shape=(28, 28, 1), description="random images", mirrored=True)


def face_folder(folder: Path, num_train: int, num_validation: int) -> Path:
    """A folder of random images in CelebA's layout."""
    (folder / "img_align_celeba").mkdir(parents=True)
    random = np.random.default_rng(0)
    lines = []
    for number in range(1, num_train + num_validation + 1):
        pixels = random.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / f"{number:06d}.jpg")
        lines.append(f"{number:06d}.jpg {int(number > num_train)}\n")
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return folder


def assert_trees_equal(one, other) -> None:
    """Two pytrees hold bit-identical arrays."""
    raw = lambda leaf: (  # noqa: E731
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(raw(a)), np.asarray(raw(b))),
        one,
        other,
    )


def live_programs() -> int:
    """How many compiled programs JAX holds."""
    gc.collect()
    return len(jax.devices()[0].client.live_executables())
