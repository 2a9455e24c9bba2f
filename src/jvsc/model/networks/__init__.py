"""Networks for encoders and generators."""

from jvsc.model.networks.base import DenseLayer, Encoder, Generator, LinearGenerativeModel
from jvsc.model.networks.convolutional import ARCHITECTURES, conv_encoder, conv_generator
from jvsc.model.networks.dense import dictionary_generator, mlp_encoder
from jvsc.model.networks.linear import linear_encoder
from jvsc.model.networks.message_passing import message_passing_encoder
from jvsc.model.networks.unrolled import unrolled_encoder

__all__ = [
    "ARCHITECTURES",
    "DenseLayer",
    "Encoder",
    "Generator",
    "LinearGenerativeModel",
    "conv_encoder",
    "conv_generator",
    "dictionary_generator",
    "linear_encoder",
    "message_passing_encoder",
    "mlp_encoder",
    "unrolled_encoder",
]
