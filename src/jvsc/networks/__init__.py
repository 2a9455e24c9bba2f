"""Encoders and generators: the only room that knows Flax."""

from jvsc.networks.base import DenseLayer, Encoder, Generator
from jvsc.networks.convolutional import ARCHITECTURES, conv_encoder, conv_generator
from jvsc.networks.dense import dictionary_generator, mlp_encoder

__all__ = [
    "ARCHITECTURES",
    "DenseLayer",
    "Encoder",
    "Generator",
    "conv_encoder",
    "conv_generator",
    "dictionary_generator",
    "mlp_encoder",
]
