"""Models of a run: one maker for each kind of method."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, Shaped

from jvsc.data.pixels import as_float
from jvsc.errors import UserError
from jvsc.evaluation.inference import Infer, InferChunk, make_infer
from jvsc.evaluation.nonzero_draws import make_nonzero_infer_chunk
from jvsc.model.autoencoders import AutoencoderOptions, SparseAutoencoder, biased_dictionary
from jvsc.model.empirical_bayes import EmpiricalBayes
from jvsc.model.methods import AutoencoderMethod, SolverMethod, VariationalMethod
from jvsc.model.model import Inference, Model
from jvsc.model.networks import (
    ARCHITECTURES,
    Encoder,
    Generator,
    conv_encoder,
    conv_generator,
    dictionary_generator,
    linear_encoder,
    message_passing_encoder,
    mlp_encoder,
    unrolled_encoder,
)
from jvsc.model.objective import half_squared_norm
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors import Annealing, Posterior
from jvsc.model.solver_coded import Solve, SolverCoded
from jvsc.model.variational import Variational
from jvsc.runs.config import Config
from jvsc.solvers import fista, proximal_gradient
from jvsc.solvers.lasso import fastest_lasso
from jvsc.solvers.online_dictionary import online_step
from jvsc.training import schedules
from jvsc.training.online import OnlineStep


def build_model(
    config: Config, num_features: int, axis_name: str | None = None, training: bool = False
) -> Model:
    """The run's method for data of `num_features`.

    Args:
      config: the run's settings.
      num_features: D.
      axis_name: mesh axis that a batch is spread over in training.
      training: whether a solver's codes are those of a training, not of an evaluation.

    Raises:
      UserError: if float64 is asked for and JAX would make it float32.
    """
    family = config.family
    if isinstance(family, VariationalMethod):
        return build_variational(config, family, num_features, axis_name)
    if isinstance(family, SolverMethod):
        return build_solver_coded(config, num_features, axis_name, training)
    return build_autoencoder(config, family, num_features, axis_name)


def build_variational(
    config: Config, family: VariationalMethod, num_features: int, axis_name: str | None
) -> Variational:
    """A method with an encoder and a posterior (arguments as for `build_model`)."""
    posterior = family.posterior(config.hyperparameters())
    steps = config.annealing.kl_warmup_steps or round(
        config.annealing.kl_warmup_share * config.num_steps
    )
    return Variational(
        generator=build_generator(config, num_features, axis_name),
        posterior=posterior,
        encoder=build_encoder(config, posterior, num_features, axis_name),
        sampling=config.sampling,
        num_samples=config.num_samples,
        kl_weight=config.kl_weight,
        kl_warmup=(lambda step: schedules.warmup(step, 0.0, 0, 1 / steps)) if steps else None,
        frobenius=frobenius_weight(config),
        annealing=build_annealing(config),
        final_annealing=final_annealing(config),
        sampling_chunk=config.sampling_chunk,
        penalty=config.fista.penalty,
        code="deterministic" if family.finds_prior else "best_draw",
        support_steps=config.encoder.support_steps,
        empirical_bayes=build_empirical_bayes(config, axis_name) if family.finds_prior else None,
    )


def build_empirical_bayes(config: Config, axis_name: str | None) -> EmpiricalBayes:
    """How noise and prior of method=inferred_threshold are learned."""
    until = config.noise.control_until
    return EmpiricalBayes(
        noise=config.noise.rule,
        noise_variance=config.noise.variance,
        sparsity=config.hyperparameters().sparsity,
        learns_scale=config.prior.learns_scale,
        learns_sparsity=config.prior.learns_sparsity,
        settled_after=round(until * config.num_steps) if until < 1 else None,
        axis_name=axis_name,
    )


def build_solver_coded(
    config: Config, num_features: int, axis_name: str | None, training: bool
) -> SolverCoded:
    """A method whose codes a solver infers (arguments as for `build_model`)."""
    generator = build_generator(config, num_features, axis_name)
    settings = config.fista
    if config.has_network_generator:
        limits = solver_limits(config, training=True)
        solve = solve_network(generator, config.num_latents, limits)
    else:
        solve = solve_dictionary(solver_limits(config, training), config.lasso.positive_codes)
    return SolverCoded(
        generator=generator,
        solve=solve,
        penalty=settings.penalty,
        penalty_warmup=lambda step: schedules.warmup(
            step, settings.warmup_start, 0, settings.warmup_increment
        ),
        frobenius=frobenius_weight(config),
    )


def solver_limits(config: Config, training: bool) -> dict[str, Any]:
    """Tolerance and most iterations of a solver, in a training or an evaluation."""
    if training:
        return {
            "tolerance": config.fista.tolerance, "max_iterations": config.fista.max_iterations
        }  # fmt: skip
    return {
        "tolerance": config.eval.fista_tolerance,
        "max_iterations": config.eval.fista_max_iterations,
    }


def build_online_step(config: Config) -> OnlineStep:
    """A step of online dictionary learning."""
    settings = config.lasso
    return partial(
        online_step,
        positive_codes=settings.positive_codes,
        positive_atoms=settings.positive_atoms,
        bounded=settings.bounded_atoms,
        forgetting=settings.forgetting,
        **solver_limits(config, training=True),
    )


def build_autoencoder(
    config: Config, family: AutoencoderMethod, num_features: int, axis_name: str | None
) -> SparseAutoencoder:
    """A sparse autoencoder (arguments as for `build_model`)."""
    settings, num_latents = config.autoencoder, config.num_latents
    options = AutoencoderOptions(
        active=settings.active,
        auxiliary_active=settings.auxiliary_active,
        auxiliary_weight=settings.auxiliary_weight,
        # Steps, which a device counts in int32.
        dead_after=min(max(1, settings.dead_after // config.batch_size), 2**31 - 1),
        bandwidth=settings.bandwidth,
        initial_threshold=settings.initial_threshold,
        target_active=settings.target_active,
        prefixes=settings.prefixes,
        axis_name=axis_name,
    )
    steps = settings.penalty_warmup_steps
    return SparseAutoencoder(
        generator=biased_dictionary(num_features, num_latents),
        autoencoder=family.make(num_features, num_latents, options),
        penalty=settings.penalty,
        penalty_warmup=(lambda step: schedules.warmup(step, 0.0, 0, 1 / steps)) if steps else None,
    )


def build_generator(config: Config, num_features: int, axis_name: str | None) -> Generator:
    """A conv network for images that have one, else a dictionary."""
    architecture = ARCHITECTURES.get(config.data.name)
    if architecture is None:
        return dictionary_generator(num_features, config.num_latents, config.generator.initial_norm)
    return conv_generator(
        architecture, config.num_latents, axis_name=axis_name, dtype=compute_dtype(config)
    )


def build_encoder(
    config: Config, posterior: Posterior, num_features: int, axis_name: str | None
) -> Encoder:
    """A conv network for images that have one, else the encoder of `encoder.name`."""
    architecture, dtype = ARCHITECTURES.get(config.data.name), compute_dtype(config)
    if architecture is not None:
        share = config.hyperparameters().sparsity if config.encoder.lifetime_sparsity else None
        return conv_encoder(
            architecture,
            config.num_latents,
            posterior.heads,
            lifetime_sparsity=share,
            axis_name=axis_name,
            dtype=dtype,
        )
    return ENCODERS[config.encoder.name](config, posterior, num_features, dtype)


def _mlp_encoder(config: Config, posterior: Posterior, num_features: int, dtype: Any) -> Encoder:
    settings = config.encoder
    offsets = tuple(posterior.prior.values()) if settings.start_at_prior else ()
    heads = posterior.heads
    return mlp_encoder(num_features, config.num_latents, heads, settings.hidden, dtype, offsets)


# Encoders of a dictionary: (settings, posterior, D, type of its computations) -> encoder
ENCODERS: dict[str, Callable[[Config, Posterior, int, Any], Encoder]] = {
    "mlp": _mlp_encoder,
    "linear": lambda config, posterior, num_features, dtype: linear_encoder(
        num_features, config.num_latents, posterior.prior
    ),
    "unrolled": lambda config, posterior, num_features, dtype: unrolled_encoder(
        num_features,
        config.num_latents,
        posterior.prior,
        config.encoder.steps,
        config.encoder.corrects,
    ),
    "message_passing": lambda config, posterior, num_features, dtype: message_passing_encoder(
        config.num_latents, posterior.prior, config.encoder.steps
    ),
}


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


def frobenius_weight(config: Config) -> float:
    """Weight of the dictionary's norm; zero for a generator that is a network."""
    return 0.0 if config.has_network_generator else config.generator.frobenius


def solve_dictionary(limits: dict[str, Any], positive: bool) -> Solve:
    """Codes under a dictionary by FISTA."""

    def solve(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> Float[Array, "B K"]:
        del statistics
        return fista(data, parameters.generator, penalty, positive=positive, **limits).codes

    return solve


def solve_network(generator: Generator, num_latents: int, limits: dict[str, Any]) -> Solve:
    """Codes under a network by proximal gradient steps through it."""

    def solve(
        parameters: Parameters,
        statistics: Statistics,
        data: Float[Array, "B D"],
        penalty: Float[Array, ""],
    ) -> Float[Array, "B K"]:
        def data_term(codes: Float[Array, "B K"]) -> Float[Array, " B"]:
            images, _ = generator.apply(parameters.generator, statistics.generator, codes, False)
            return half_squared_norm(data - images)

        start = jnp.zeros((data.shape[0], num_latents), data.dtype)
        return proximal_gradient(data_term, start, penalty, **limits).codes

    return solve


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
    """What evaluation samples with: no warm-up, the lowest temperature (appendix D)."""
    return Annealing(1.0, config.annealing.temperature_minimum)


def build_infer(config: Config, model: Model) -> Infer:
    """Codes of data as an evaluation infers them, and what is measured with them.

    Raises:
      UserError: if `eval.only_nonzeros` is asked for and Numba not installed.
    """
    return make_infer(model, config.eval.chunk, build_infer_chunk(config, model))


def build_infer_chunk(config: Config, model: Model, training: bool = False) -> InferChunk | None:
    """Inference on the host, where a run has one; else None, for the compiled one.

    That is by drawing non-zeros alone, where `eval.only_nonzeros` asks for it in an evaluation, and
    by the fastest solver for method=lasso (arguments as for `build_model`).
    """
    if config.learns_online:
        return partial(_infer_by_fastest_lasso, config, solver_limits(config, training))
    if training or not config.eval.only_nonzeros:
        return None
    assert isinstance(model, Variational)  # Config refuses others
    return make_nonzero_infer_chunk(model, config.hyperparameters().threshold)


def _infer_by_fastest_lasso(
    config: Config,
    limits: dict[str, Any],
    parameters: Parameters,
    statistics: Statistics,
    data: Shaped[Array, "B D"],
    key: Key[Array, ""],
    first: ArrayLike,
) -> Inference:
    del statistics, key, first
    positive = config.lasso.positive_codes
    given: Any = {"positive": positive} | limits
    data, atoms = as_float(data), parameters.generator
    return Inference(jnp.asarray(fastest_lasso(data, atoms, config.fista.penalty, **given).codes))
