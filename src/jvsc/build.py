"""A run's pieces, made from its settings: the last place that reads them for training."""

from collections.abc import Callable
from functools import partial

import optax
from jaxtyping import Array, Float, Int, Key

from jvsc import schedules
from jvsc.config import Config
from jvsc.data import Dataset, load_patches
from jvsc.epoch import Loss
from jvsc.model import Model, Parameters
from jvsc.networks import dictionary_generator, mlp_encoder
from jvsc.objective import StepMetrics, sparse_coding_loss, variational_loss
from jvsc.posteriors import METHODS, Annealing, build_posterior


def build_dataset(config: Config) -> Dataset:
    """Loads the run's data."""
    data = config.data
    return load_patches(
        data.path,
        patch_size=data.patch_size,
        num_train=data.num_train,
        num_validation=data.num_validation,
        validation_fraction=data.validation_fraction,
        seed=data.seed,
    )


def build_model(config: Config, num_features: int) -> Model:
    """Encoder, posterior and generator of the run's method, for data of `num_features`."""
    generator = dictionary_generator(num_features, config.num_latents)
    if METHODS[config.method].posterior is None:
        return Model(generator)
    posterior = build_posterior(config.method, config.hyperparameters())
    encoder = mlp_encoder(num_features, config.num_latents, posterior.heads)
    return Model(generator, posterior, encoder)


def build_optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """Nesterov on one cycle for the encoder, plain decaying steps for the dictionary."""
    cycle = schedules.one_cycle(config.encoder.learning_rate, config.num_epochs * steps_per_epoch)
    decay = schedules.exponential_decay(
        config.generator.learning_rate, config.generator.decay, steps_per_epoch
    )
    return optax.partition(
        {
            "encoder": optax.sgd(cycle, momentum=config.encoder.momentum, nesterov=True),
            "generator": optax.sgd(decay),
        },
        Parameters("encoder", "generator"),
    )


def build_annealing(config: Config) -> Callable[[Int[Array, ""]], Annealing]:
    """Warm-up and temperature as functions of the step."""
    settings = config.annealing

    def annealing(step: Int[Array, ""]) -> Annealing:
        return Annealing(
            schedules.warmup(
                step, settings.warmup_start, settings.warmup_begin, settings.warmup_increment
            ),
            schedules.temperature(step, settings.temperature_decay, settings.temperature_minimum),
        )

    return annealing


def final_annealing(config: Config) -> Annealing:
    """What evaluation samples with: no warm-up, the lowest temperature (SPEC section 2)."""
    return Annealing(1.0, config.annealing.temperature_minimum)


def build_loss(config: Config, model: Model) -> Loss:
    """The loss that the run's training descends."""
    frobenius = config.generator.frobenius
    if model.posterior is None:
        solve = partial(
            sparse_coding_loss,
            frobenius=frobenius,
            tolerance=config.fista.tolerance,
            max_iterations=config.fista.max_iterations,
        )

        def fista_loss(
            parameters: Parameters,
            batch: Float[Array, "B D"],
            key: Key[Array, ""],
            step: Int[Array, ""],
        ) -> tuple[Float[Array, ""], StepMetrics]:
            del key
            factor = schedules.warmup(
                step, config.fista.warmup_start, 0, config.fista.warmup_increment
            )
            return solve(parameters, batch, config.fista.penalty * factor)

        return fista_loss

    annealing = build_annealing(config)
    bound = partial(
        variational_loss,
        model=model,
        sampling=config.sampling,
        num_samples=config.num_samples,
        kl_weight=config.kl_weight,
        frobenius=frobenius,
        chunk=config.sampling_chunk,
    )
    return lambda parameters, batch, key, step: bound(parameters, batch, key, annealing(step))
