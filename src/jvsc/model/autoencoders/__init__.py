"""Sparse autoencoders, the peers on activations of deep networks."""

from typing import Any

from jvsc.model.autoencoders.base import (
    Autoencoder,
    AutoencoderOptions,
    MakeAutoencoder,
    SparseAutoencoder,
    biased_dictionary,
)
from jvsc.model.autoencoders.batch_topk import batch_topk
from jvsc.model.autoencoders.jump_relu import jump_relu_l0
from jvsc.model.autoencoders.matryoshka import matryoshka
from jvsc.model.autoencoders.relu_l1 import relu_l1
from jvsc.model.autoencoders.topk import topk

__all__ = [
    "AUTOENCODERS",
    "COUNTING",
    "Autoencoder",
    "AutoencoderOptions",
    "MakeAutoencoder",
    "SparseAutoencoder",
    "batch_topk",
    "biased_dictionary",
    "jump_relu_l0",
    "matryoshka",
    "relu_l1",
    "topk",
]

# Those that keep a number of latents, `active`.
COUNTING = ("topk", "batch_topk", "matryoshka")


def _counting_options(options: AutoencoderOptions) -> dict[str, Any]:
    return {
        "active": options.active,
        "auxiliary_active": options.auxiliary_active,
        "auxiliary_weight": options.auxiliary_weight,
        "dead_after": options.dead_after,
        "axis_name": options.axis_name,
    }


AUTOENCODERS: dict[str, MakeAutoencoder] = {
    "relu_l1": lambda num_features, num_latents, options: relu_l1(num_features, num_latents),
    "topk": lambda num_features, num_latents, options: topk(
        num_features, num_latents, **_counting_options(options)
    ),
    "batch_topk": lambda num_features, num_latents, options: batch_topk(
        num_features, num_latents, **_counting_options(options)
    ),
    "matryoshka": lambda num_features, num_latents, options: matryoshka(
        num_features, num_latents, options.prefixes, **_counting_options(options)
    ),
    "jump_relu": lambda num_features, num_latents, options: jump_relu_l0(
        num_features,
        num_latents,
        options.bandwidth,
        options.initial_threshold,
        options.target_active,
        options.axis_name,
    ),
}
