"""A trained sparse autoencoder in the layout of SAELens, for whoever analyses language models.

SAELens (Bloom et al. 2024) reads a folder of `cfg.json` and `sae_weights.safetensors` by
`SAE.load_from_disk`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save

from jvsc.data.atomic import new_folder
from jvsc.errors import UserError
from jvsc.runs.trained_model import TrainedModel

SETTINGS_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
# Without a batch the codes of the last two are those of a threshold.
ARCHITECTURES = {
    "relu_l1": "standard",
    "topk": "topk",
    "jump_relu": "jumprelu",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
}


def save_sae_lens(trained: TrainedModel, folder: Path, argument: str = "output") -> None:
    """Writes a sparse autoencoder as a new folder that SAELens reads, whole or not at all.

    Args:
      trained: the model.
      folder: to be made.
      argument: what named it.

    Raises:
      UserError: if the model is none, or the folder is there already or cannot be made.
    """
    settings, weights = sae_lens_files(trained)
    with new_folder(folder, argument) as temporary:
        text = json.dumps(settings, indent=2) + "\n"
        (temporary / SETTINGS_FILE).write_text(text, encoding="utf-8")
        (temporary / WEIGHTS_FILE).write_bytes(save(weights))


def check_has_place(method: str) -> None:
    """Raises `UserError` for a method that is no sparse autoencoder."""
    if method not in ARCHITECTURES:
        raise UserError(
            f"the layout of SAELens is for {', '.join(sorted(ARCHITECTURES))}, not for {method}; "
            "leave it out",
            "layout",
        )


def sae_lens_files(trained: TrainedModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What cfg.json and sae_weights.safetensors hold, for data in their original units.

    With data normalised as (x - m) / c, pre-activations ((x - m) / c - b) W + e and reconstructions
    c (s A + b) + m are those of SAELens, (x - b_dec) W_enc + b_enc and s W_dec + b_dec, where
    b_dec = m + c b, W_enc = W / c and W_dec = c A: codes are the same, atoms have norm c.

    Raises:
      UserError: if the model is no sparse autoencoder, or its weights do not fit in float32.
    """
    method = trained.config.method
    check_has_place(method)
    encoder, generator = trained.parameters
    weights = {
        "W_enc": encoder["kernel"],
        "b_enc": encoder["bias"],
        "W_dec": generator["dictionary"],
        "b_dec": generator["bias"],
    }
    weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    if trained.normalisation is not None:
        mean, scale = (np.asarray(part, np.float64) for part in trained.normalisation)
        weights["W_enc"] = weights["W_enc"] / scale[:, None]
        weights["W_dec"] = weights["W_dec"] * scale
        weights["b_dec"] = mean + scale * weights["b_dec"]
    settings: dict[str, Any] = {
        "architecture": ARCHITECTURES[method],
        "d_in": trained.num_features,
        "d_sae": trained.config.num_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if method == "topk":
        settings |= {"k": trained.config.autoencoder.active, "rescale_acts_by_decoder_norm": False}
    if ARCHITECTURES[method] == "jumprelu":
        weights["threshold"] = _thresholds(trained)
    with np.errstate(over="ignore"):
        narrow = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    if not all(np.isfinite(value).all() for value in narrow.values()):
        raise UserError("float32 has no room for weights in the data's units; scale the data")
    return settings, narrow


def _thresholds(trained: TrainedModel) -> Float[np.ndarray, " K"]:
    """Above which pre-activations are codes."""
    if trained.config.method == "jump_relu":
        return np.exp(np.asarray(trained.parameters.encoder["log_threshold"], np.float64))
    threshold = np.asarray(trained.statistics.encoder["threshold"], np.float64)
    return np.full(trained.config.num_latents, threshold)
