"""Optimisers of a run, found by their name."""

from collections.abc import Callable

import optax

from jvsc.model.methods import AutoencoderMethod
from jvsc.model.parameters import Parameters
from jvsc.runs.config import Config
from jvsc.training import schedules
from jvsc.training.online import moments_in_place_of_gradients
from jvsc.training.unit_atoms import with_unit_atoms

# (learning rate, momentum) -> optimiser
ENCODER_OPTIMIZERS: dict[str, Callable[[optax.Schedule, float], optax.GradientTransformation]] = {
    "adam": lambda rate, momentum: optax.adam(rate, b1=momentum, b2=0.999),
    "sgd": lambda rate, momentum: optax.sgd(rate, momentum=momentum, nesterov=True),
}
GENERATOR_OPTIMIZERS: dict[str, Callable[[optax.Schedule], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "sgd": optax.sgd,
}


def build_optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """The encoder's optimiser, and the dictionary's own; networks share the former.

    Of a dictionary that is learned online, what stands in an optimiser's place.
    """
    if config.learns_online:
        return moments_in_place_of_gradients()
    encoder = build_encoder_optimizer(config, steps_per_epoch)
    if isinstance(config.family, AutoencoderMethod):
        return with_unit_atoms(encoder)
    if config.has_network_generator:
        return encoder
    dictionary = build_dictionary_optimizer(config, steps_per_epoch)
    both = optax.partition(
        {"encoder": encoder, "generator": dictionary}, Parameters("encoder", "generator")
    )
    return with_unit_atoms(both) if config.generator.unit_norm else both


def build_dictionary_optimizer(
    config: Config, steps_per_epoch: int
) -> optax.GradientTransformation:
    """The optimiser of a dictionary."""
    settings = config.generator
    if settings.schedule == "one_cycle":
        rate = schedules.one_cycle(settings.learning_rate, config.num_epochs * steps_per_epoch)
    else:
        rate = schedules.exponential_decay(settings.learning_rate, settings.decay, steps_per_epoch)
    steps = GENERATOR_OPTIMIZERS[settings.optimizer](rate)
    if settings.max_gradient_norm is None:
        return steps
    return optax.chain(optax.clip_by_global_norm(settings.max_gradient_norm), steps)


def build_encoder_optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optimiser of the encoder, with clipping and weight decay before its steps."""
    settings = config.encoder
    if settings.schedule == "constant":
        rate = optax.constant_schedule(settings.learning_rate)
    else:
        rate = schedules.one_cycle(settings.learning_rate, config.num_epochs * steps_per_epoch)
    steps = ENCODER_OPTIMIZERS[settings.optimizer](rate, settings.momentum)
    before: list[optax.GradientTransformation] = []
    if settings.max_gradient_norm is not None:
        before.append(optax.clip_by_global_norm(settings.max_gradient_norm))
    if settings.weight_decay:
        before.append(optax.add_decayed_weights(settings.weight_decay))
    return optax.chain(*before, steps) if before else steps
