"""A small conv classifier of a data set's own labels, whose features stand in for Inception's."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key, Shaped

from jvsc.data.pixels import as_float
from jvsc.model.networks import ARCHITECTURES, Encoder, conv_encoder
from jvsc.training.epoch import epoch_order

NUM_FEATURES = 64
BATCH_SIZE = 128
# At least so many, in whole passes over the data.
STEPS = 500
LEARNING_RATE = 1e-3


class Classifier(NamedTuple):
    """A trained classifier.

    Attributes:
      parameters: of the conv network, and of the last layer, [64, A] and [A].
      statistics: the network's running averages.
    """

    parameters: Any
    statistics: Any


def _network(architecture: str) -> Encoder:
    return conv_encoder(ARCHITECTURES[architecture], NUM_FEATURES, ("features",))


def init_classifier(key: Key[Array, ""], architecture: str, num_labels: int) -> Classifier:
    """A classifier before training; its last layer starts at zero."""
    parameters, statistics = _network(architecture).init(key)
    last = (
        jnp.zeros((NUM_FEATURES, num_labels), jnp.float32),
        jnp.zeros(num_labels, jnp.float32),
    )
    return Classifier((parameters, last), statistics)


def classifier_features(
    classifier: Classifier, data: Shaped[Array, "B D"], architecture: str
) -> Float[Array, "B F"]:
    """The 64 features of data, before their ReLU."""
    network = _network(architecture)
    heads, _ = network.apply(
        classifier.parameters[0], classifier.statistics, as_float(data), False, None
    )
    return heads["features"]


def predict(features: Float[Array, "B F"], classifier: Classifier) -> Float[Array, "B A"]:
    """Log-odds of the labels."""
    weights, bias = classifier.parameters[1]
    return jax.nn.relu(features) @ weights + bias


def train_classifier(
    key: Key[Array, ""],
    data: Shaped[np.ndarray, "N D"],
    labels: Bool[np.ndarray, "N A"],
    architecture: str,
    exclusive: bool,
) -> Classifier:
    """Trains a classifier by Adam for at least `STEPS` steps.

    Args:
      key: of its initial parameters and its order.
      data: bytes or numbers in [0, 1]; must fit on the device.
      labels: the attributes to predict.
      architecture: of `ARCHITECTURES`.
      exclusive: whether labels are classes (softmax), or each for itself (logistic).
    """
    network = _network(architecture)
    optimizer = optax.adam(LEARNING_RATE)
    loss_of = (
        optax.softmax_cross_entropy
        if exclusive
        else lambda logits, labels: optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1)
    )
    batch_size = min(BATCH_SIZE, len(data))

    def loss(parameters: Any, statistics: Any, batch: Array, labels: Array):
        heads, new_statistics = network.apply(
            parameters[0], statistics, as_float(batch), True, None
        )
        logits = predict(heads["features"], Classifier(parameters, new_statistics))
        return loss_of(logits, labels.astype(jnp.float32)).mean(), new_statistics

    @jax.jit
    def epoch(carry: Any, data: Array, labels: Array, index: Array):
        def step(carry: Any, chosen: Array):
            parameters, statistics, state = carry
            gradient, statistics = jax.grad(loss, has_aux=True)(
                parameters, statistics, data[chosen], labels[chosen]
            )
            updates, state = optimizer.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, updates), statistics, state), None

        return jax.lax.scan(step, carry, epoch_order(key, index, len(data), batch_size))[0]

    start = init_classifier(key, architecture, labels.shape[1])
    carry = (*start, optimizer.init(start.parameters))
    on_device = jnp.asarray(data), jnp.asarray(labels)
    for index in range(-(-STEPS // (len(data) // batch_size))):
        carry = epoch(carry, *on_device, jnp.int32(index))
    return Classifier(carry[0], carry[1])
