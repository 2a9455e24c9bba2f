"""Sparse autoencoders, the opponents on activations of deep networks: ReLU-L1, TopK, JumpReLU."""

from jvsc.model.autoencoders.base import (
    Autoencoder,
    AutoencoderOptions,
    MakeAutoencoder,
    SparseAutoencoder,
    biased_dictionary,
)
from jvsc.model.autoencoders.jump_relu import jump_relu_l0
from jvsc.model.autoencoders.relu_l1 import relu_l1
from jvsc.model.autoencoders.topk import topk

__all__ = [
    "AUTOENCODERS",
    "Autoencoder",
    "AutoencoderOptions",
    "MakeAutoencoder",
    "SparseAutoencoder",
    "biased_dictionary",
    "jump_relu_l0",
    "relu_l1",
    "topk",
]

AUTOENCODERS: dict[str, MakeAutoencoder] = {
    "relu_l1": lambda num_features, num_latents, options: relu_l1(num_features, num_latents),
    "topk": lambda num_features, num_latents, options: topk(
        num_features,
        num_latents,
        options.active,
        options.auxiliary_active,
        options.auxiliary_weight,
        options.dead_after,
        options.axis_name,
    ),
    "jump_relu": lambda num_features, num_latents, options: jump_relu_l0(
        num_features, num_latents, options.bandwidth, options.initial_threshold
    ),
}
