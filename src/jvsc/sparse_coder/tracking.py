"""Holds the share of non-zeros near a wanted one while a model trains.

A controller moves one number (a threshold, a spike's bias, a penalty) by a small step whenever a
batch has too many or too few non-zeros. It lives where batch normalisation has its running
averages, so the trainer carries it as it does those, and it passes no gradient.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jvsc.model.autoencoders import Autoencoder
from jvsc.model.networks import Encoder, Generator, LinearGenerativeModel
from jvsc.model.objective import nonzero_fraction
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors import Posterior
from jvsc.model.thresholding import Heads
from jvsc.training.mesh import DATA_AXIS

# A step of the controller for each unit of log(share / wanted share).
RATE = 0.02
SMALLEST_SHARE = 1e-4
LARGEST_LOG_SCALE = {"log_scale": 3.0, "log_variance": 6.0}

# (heads, log of a factor) -> heads with thresholds so many times as large, or spikes less probable
Adjust = Callable[[Heads, Float[Array, ""]], Heads]


def set_threshold(heads: Heads, value: Float[Array, ""]) -> Heads:
    """A `tracked` threshold, the same for all latents."""
    return heads | {"log_threshold": jnp.broadcast_to(value, heads["loc"].shape)}


def scale_threshold(heads: Heads, value: Float[Array, ""]) -> Heads:
    """A Gamma threshold, all of its values multiplied by exp(value)."""
    return heads | {"log_rate": heads["log_rate"] - value}


def lower_spike(heads: Heads, value: Float[Array, ""]) -> Heads:
    """A spike whose log-odds are lower by `value`."""
    return heads | {"gate": heads["gate"] - value}


def moved(value: Float[Array, ""], share: Float[Array, ""], sparsity: float) -> Float[Array, ""]:
    """The controller's number after a batch, from the share of non-zeros on this device."""
    share = jax.lax.stop_gradient(jax.lax.pmean(share, DATA_AXIS))
    return value + RATE * (jnp.log(jnp.maximum(share, SMALLEST_SHARE)) - math.log(sparsity))


def bounded(name: str, value: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """A scale's head kept within `LARGEST_LOG_SCALE` of the prior's, other heads as they are.

    Without a bound the first steps of a large encoder can make the noise overflow.
    """
    limit = LARGEST_LOG_SCALE.get(name)
    return value if limit is None else limit * jnp.tanh(value / limit)


def tracked_encoder(
    encoder: Encoder,
    posterior: Posterior,
    adjust: Adjust | None,
    sparsity: float,
    start: float,
    at_prior: bool = False,
) -> Encoder:
    """An encoder that begins at the prior, with a controller of its posterior's non-zeros.

    The share is known in closed form (`Posterior.support_probability`), without a draw. In training
    it must be called inside `shard_map` over the data axis, as `jvsc.training.epoch` does.

    Args:
      encoder: the network.
      posterior: what its heads are the parameters of.
      adjust: how the controller changes the heads; None for codes that have no zeros.
      sparsity: wanted share of non-zeros.
      start: the controller's first value.
      at_prior: whether the network's own heads begin there, else at zero.
    """
    offset = posterior.prior if at_prior else dict.fromkeys(posterior.prior, 0.0)

    def init(key: Key[Array, ""]) -> tuple[Any, Any]:
        parameters, statistics = encoder.init(key)
        return parameters, {"network": statistics, "control": jnp.float32(start)}

    def apply(
        parameters: Any,
        statistics: Any,
        data: Float[Array, "B D"],
        training: bool,
        generative: LinearGenerativeModel | None = None,
    ) -> tuple[Heads, Any]:
        heads, network = encoder.apply(
            parameters, statistics["network"], data, training, generative
        )
        heads = {
            name: posterior.prior[name] + bounded(name, value - offset[name])
            for name, value in heads.items()
        }
        control = statistics["control"]
        if adjust is not None:
            heads = adjust(heads, control)
            if training:
                share = jnp.mean(posterior.support_probability(heads))
                control = moved(control, share, sparsity)
        return heads, {"network": network, "control": control}

    return Encoder(init, apply, reads_dictionary=encoder.reads_dictionary)


def tracked_generator(generator: Generator, sparsity: float | None, start: float) -> Generator:
    """A generator with a controller of the lasso's penalty, by the codes it is trained on.

    Args:
      generator: the generator.
      sparsity: wanted share of non-zeros; None for a penalty that stays.
      start: first value, the logarithm of a penalty.
    """

    def init(key: Key[Array, ""]) -> tuple[Any, Any]:
        parameters, statistics = generator.init(key)
        return parameters, {"network": statistics, "control": jnp.float32(start)}

    def apply(
        parameters: Any, statistics: Any, codes: Float[Array, "*B K"], training: bool
    ) -> tuple[Float[Array, "*B D"], Any]:
        data, network = generator.apply(parameters, statistics["network"], codes, training)
        control = statistics["control"]
        if training and sparsity is not None:
            control = moved(control, jnp.mean(nonzero_fraction(codes)), sparsity)
        return data, {"network": network, "control": control}

    return Generator(init, apply, generator.loss_scale)


def tracked_autoencoder(autoencoder: Autoencoder, sparsity: float) -> Autoencoder:
    """A sparse autoencoder with a controller of its penalty, by the codes it is trained on.

    Args:
      autoencoder: one whose loss has a penalty.
      sparsity: wanted share of non-zeros.
    """

    def init(key: Key[Array, ""]) -> tuple[Parameters, Statistics]:
        parameters, statistics = autoencoder.init(key)
        control = {"network": statistics.encoder, "control": jnp.float32(0)}
        return parameters, Statistics(control, statistics.generator)

    def without(statistics: Statistics) -> Statistics:
        return statistics._replace(encoder=statistics.encoder["network"])

    def infer(
        parameters: Parameters, statistics: Statistics, data: Float[Array, "B D"]
    ) -> Float[Array, "B K"]:
        return autoencoder.infer(parameters, without(statistics), data)

    def loss(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> tuple[Float[Array, " B"], Float[Array, "B K"], Statistics]:
        control = statistics.encoder["control"]
        losses, codes, after = autoencoder.loss(
            parameters, without(statistics), data, penalty * jnp.exp(control)
        )
        control = moved(control, jnp.mean(nonzero_fraction(codes)), sparsity)
        return losses, codes, after._replace(encoder={"network": after.encoder, "control": control})

    return Autoencoder(init, infer, loss)
