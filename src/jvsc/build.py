"""A run's pieces, made from its settings: the last place that reads them for training."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from jvsc import schedules
from jvsc.autoencoders import biased_dictionary, jump_relu_l0, relu_l1, topk, with_unit_atoms
from jvsc.config import AUTOENCODERS, Config
from jvsc.data import Dataset, load_activations, load_celeba, load_fashion_mnist, load_patches
from jvsc.epoch import Loss
from jvsc.errors import UserError
from jvsc.inference import (
    Encode,
    Infer,
    InferTerms,
    make_encode,
    make_infer,
    make_infer_terms,
)
from jvsc.model import Autoencoder, Model, Parameters, Statistics
from jvsc.networks import (
    ARCHITECTURES,
    conv_encoder,
    conv_generator,
    dictionary_generator,
    mlp_encoder,
)
from jvsc.nonzero_draws import make_nonzero_infer
from jvsc.objective import (
    Solve,
    StepMetrics,
    autoencoder_loss,
    data_term,
    sparse_coding_loss,
    variational_loss,
)
from jvsc.posteriors import Annealing, build_posterior
from jvsc.solvers import fista, proximal_gradient


def build_dataset(config: Config) -> Dataset:
    """Loads the run's data."""
    data = config.data
    if data.name == "fashion_mnist":
        return load_fashion_mnist(
            data.path,
            tfds_dir=data.tfds_dir,
            num_train=data.num_train,
            num_validation=data.num_validation,
            seed=data.seed,
        )
    if data.name == "celeba":
        return load_celeba(
            data.path,
            tfds_dir=data.tfds_dir,
            cache_dir=data.cache_dir,
            num_train=data.num_train,
            num_validation=data.num_validation,
        )
    if data.name == "activations":
        return load_activations(
            data.path, num_train=data.num_train, num_validation=data.num_validation
        )
    return load_patches(
        data.path,
        patch_size=data.patch_size,
        num_train=data.num_train,
        num_validation=data.num_validation,
        validation_fraction=data.validation_fraction,
        seed=data.seed,
    )


def is_network(config: Config) -> bool:
    """Whether the generator is a network; else it is a dictionary."""
    return config.data.name in ARCHITECTURES


def compute_dtype(config: Config) -> Any:
    """What networks compute in: bfloat16 for CelebA on a GPU or TPU, unless the run says.

    Raises:
      UserError: if float64 is asked for and JAX would make it float32.
    """
    if config.compute_dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise UserError("compute_dtype=float64 needs JAX's double precision: set JAX_ENABLE_X64=1")
    if config.compute_dtype != "auto":
        return jnp.dtype(config.compute_dtype)
    accelerated = jax.default_backend() != "cpu" and config.data.name == "celeba"
    return jnp.dtype("bfloat16" if accelerated else "float32")


def build_model(config: Config, num_features: int, axis_name: str | None = None) -> Model:
    """Encoder, posterior and generator of the run's method, for data of `num_features`.

    Args:
      config: the run's settings.
      num_features: D.
      axis_name: mesh axis that a batch is spread over in training.
    """
    if config.method in AUTOENCODERS:
        generator = biased_dictionary(num_features, config.num_latents)
        autoencoder = build_autoencoder(config, num_features, axis_name)
        return Model(generator, autoencoder=autoencoder)
    dtype = compute_dtype(config)
    architecture = ARCHITECTURES.get(config.data.name)
    across = {"axis_name": axis_name, "dtype": dtype}
    if architecture is None:
        generator = dictionary_generator(
            num_features, config.num_latents, config.generator.initial_norm
        )
    else:
        generator = conv_generator(architecture, config.num_latents, **across)
    if config.family.posterior is None:
        return Model(generator)
    posterior = build_posterior(config.method, config.hyperparameters())
    if architecture is None:
        offsets = tuple(posterior.prior.values()) if config.encoder.start_at_prior else ()
        encoder = mlp_encoder(
            num_features,
            config.num_latents,
            posterior.heads,
            config.encoder.hidden,
            dtype,
            offsets,
        )
    else:
        encoder = conv_encoder(architecture, config.num_latents, posterior.heads, **across)
    return Model(generator, posterior, encoder)


def build_autoencoder(
    config: Config, num_features: int, axis_name: str | None = None
) -> Autoencoder:
    """The run's sparse autoencoder (arguments as for `build_model`)."""
    settings, num_latents = config.autoencoder, config.num_latents
    if config.method == "relu_l1":
        return relu_l1(num_features, num_latents)
    if config.method == "jump_relu":
        return jump_relu_l0(
            num_features, num_latents, settings.bandwidth, settings.initial_threshold
        )
    return topk(
        num_features,
        num_latents,
        settings.active,
        settings.auxiliary_active,
        settings.auxiliary_weight,
        max(1, settings.dead_after // config.batch_size),
        axis_name,
    )


def build_optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """The encoder's optimiser, and the dictionary's own; networks share the former."""
    settings = config.encoder
    if settings.schedule == "constant":
        rate = optax.constant_schedule(settings.learning_rate)
    else:
        rate = schedules.one_cycle(settings.learning_rate, config.num_epochs * steps_per_epoch)
    if settings.optimizer == "adam":
        steps = optax.adam(rate, b1=settings.momentum, b2=0.999)
    else:
        steps = optax.sgd(rate, momentum=settings.momentum, nesterov=True)
    before: list[optax.GradientTransformation] = []
    if settings.max_gradient_norm is not None:
        before.append(optax.clip_by_global_norm(settings.max_gradient_norm))
    if settings.weight_decay:
        before.append(optax.add_decayed_weights(settings.weight_decay))
    encoder = optax.chain(*before, steps) if before else steps
    if config.method in AUTOENCODERS:
        return with_unit_atoms(encoder)
    if is_network(config):
        return encoder
    decay = schedules.exponential_decay(
        config.generator.learning_rate, config.generator.decay, steps_per_epoch
    )
    dictionary = {"sgd": optax.sgd, "adam": optax.adam}[config.generator.optimizer](decay)
    return optax.partition(
        {"encoder": encoder, "generator": dictionary}, Parameters("encoder", "generator")
    )


def build_solve(config: Config, model: Model, tolerance: float, max_iterations: int) -> Solve:
    """The solver of a method without posterior: an autoencoder's encoder, or the generator's."""
    limits = {"tolerance": tolerance, "max_iterations": max_iterations}

    def solve_linear(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> Float[Array, "B K"]:
        del statistics
        return fista(data, parameters.generator, penalty, **limits).codes

    def solve_network(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> Float[Array, "B K"]:
        def fit(codes: Float[Array, "B K"]) -> Float[Array, " B"]:
            return data_term(data, model.generate(parameters, statistics, codes)[0])

        start = jnp.zeros((data.shape[0], config.num_latents))
        return proximal_gradient(fit, start, penalty, **limits).codes

    if model.autoencoder is not None:
        infer = model.autoencoder.infer
        return lambda parameters, statistics, data, penalty: infer(parameters, data)
    return solve_network if is_network(config) else solve_linear


def build_infer(config: Config, model: Model, tolerance: float, max_iterations: int) -> Infer:
    """The run's inference; the limits are those of the solver of a method without encoder.

    Raises:
      UserError: if `eval.only_nonzeros` is asked for and Numba not installed.
    """
    if config.eval.only_nonzeros:
        return make_nonzero_infer(model, chunk=config.eval.chunk, **nonzero_arguments(config))
    arguments = inference_arguments(config, model, tolerance, max_iterations)
    return make_infer(model, chunk=config.eval.chunk, **arguments)


def nonzero_arguments(config: Config) -> dict[str, Any]:
    """What `jvsc.nonzero_draws` takes of a run's settings."""
    return {"num_samples": config.num_samples, "threshold": config.hyperparameters().threshold}


def build_infer_terms(config: Config, model: Model) -> InferTerms:
    """What a training is validated by, of each datum; a solver as in training."""
    limits = (config.fista.tolerance, config.fista.max_iterations)
    arguments = inference_arguments(config, model, *limits)
    return make_infer_terms(model, chunk=config.eval.chunk, **arguments)


def build_encode(config: Config, model: Model) -> Encode:
    """The inference of one chunk as an evaluation does it, not compiled."""
    return make_encode(model, **inference_arguments(config, model, *evaluation_limits(config)))


def evaluation_limits(config: Config) -> tuple[float, int]:
    """Tolerance and iterations of the solver with which an evaluation infers codes."""
    if is_network(config):
        return config.fista.tolerance, config.fista.max_iterations
    return config.eval.fista_tolerance, config.eval.fista_max_iterations


def inference_arguments(
    config: Config, model: Model, tolerance: float, max_iterations: int
) -> dict[str, Any]:
    """What both ways to infer codes take."""
    return {
        "num_samples": config.num_samples,
        "annealing": final_annealing(config),
        "solve": build_solve(config, model, tolerance, max_iterations),
        "penalty": config.fista.penalty,
        "sampling_chunk": config.sampling_chunk,
    }


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


def build_bound(config: Config, model: Model) -> Callable:
    """`variational_loss` with the run's settings; its annealing is left open."""
    return partial(
        variational_loss,
        model=model,
        sampling=config.sampling,
        num_samples=config.num_samples,
        kl_weight=config.kl_weight,
        frobenius=0.0 if is_network(config) else config.generator.frobenius,
        chunk=config.sampling_chunk,
    )


def build_loss(config: Config, model: Model, solve: Solve | None = None) -> Loss:
    """The loss that the run's training descends.

    Args:
      config: the run's settings.
      model: the method.
      solve: codes of a method without encoder; by default those of `build_solve`.
    """
    if model.autoencoder is not None:
        return build_autoencoder_loss(config, model, model.autoencoder)
    frobenius = 0.0 if is_network(config) else config.generator.frobenius
    if model.posterior is None:
        settings = config.fista
        solve = solve or build_solve(config, model, settings.tolerance, settings.max_iterations)
        loss = partial(sparse_coding_loss, model=model, solve=solve, frobenius=frobenius)

        def fista_loss(
            parameters: Parameters,
            statistics: Statistics,
            batch: Float[Array, "B D"],
            key: Key[Array, ""],
            step: Int[Array, ""],
            first: ArrayLike,
        ) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
            del key, first
            factor = schedules.warmup(step, settings.warmup_start, 0, settings.warmup_increment)
            return loss(parameters, statistics, batch, settings.penalty * factor)

        return fista_loss

    annealing = build_annealing(config)
    bound = build_bound(config, model)

    def annealed_loss(
        parameters: Parameters,
        statistics: Statistics,
        batch: Float[Array, "B D"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        first: ArrayLike,
    ) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
        weight = config.kl_weight
        if steps := config.annealing.kl_warmup_steps:
            weight *= schedules.warmup(step, 0.0, 0, 1 / steps)
        return bound(parameters, statistics, batch, key, annealing(step), first, kl_weight=weight)

    return annealed_loss


def build_autoencoder_loss(config: Config, model: Model, autoencoder: Autoencoder) -> Loss:
    """A sparse autoencoder's loss, whose penalty grows from nothing during its warm-up."""
    settings = config.autoencoder
    loss = partial(autoencoder_loss, model=model, autoencoder=autoencoder)

    def warmed_loss(
        parameters: Parameters,
        statistics: Statistics,
        batch: Float[Array, "B D"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        first: ArrayLike,
    ) -> tuple[Float[Array, ""], tuple[StepMetrics, Statistics]]:
        del key, first
        penalty = jnp.float32(settings.penalty)
        if steps := settings.penalty_warmup_steps:
            penalty *= schedules.warmup(step, 0.0, 0, 1 / steps)
        return loss(parameters, statistics, batch, penalty)

    return warmed_loss
