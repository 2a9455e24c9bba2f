"""Which settings a run reads, so that one which would do nothing is refused where it is given."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from jvsc.errors import UserError
from jvsc.model.autoencoders import COUNTING
from jvsc.model.methods import AutoencoderMethod, SolverMethod, VariationalMethod, finds_prior
from jvsc.model.sampling import BY_MOMENTS
from jvsc.runs.config import Config


class Readers(NamedTuple):
    """The runs that read a setting.

    Attributes:
      whether: whether a run is one of them.
      words: what they are.
    """

    whether: Callable[[Config], bool]
    words: str


def readers_of(key: str, config: Config) -> str:
    """In words the runs that read a setting, if a run is none of them; else "".

    Args:
      key: dotted, such as "noise.variance"; what holds of its section holds of it.
      config: the run's settings.
    """
    for name in (key.split(".")[0], key):
        readers = READERS.get(name)
        if readers is not None and not readers.whether(config):
            return readers.words
    return ""


def check_applicable(keys: Iterable[str], config: Config) -> None:
    """Refuses settings that the run does not read.

    Raises:
      UserError: naming one, and the runs that read it.
    """
    for key in keys:
        if readers := readers_of(key, config):
            raise UserError(f"--config.{key} does nothing here: it is for {readers}; leave it out")


def _is_variational(config: Config) -> bool:
    return isinstance(config.family, VariationalMethod)


def _is_autoencoder(config: Config) -> bool:
    return isinstance(config.family, AutoencoderMethod)


def _is_solver(config: Config) -> bool:
    return isinstance(config.family, SolverMethod)


def _of_methods(*names: str) -> Readers:
    return Readers(lambda config: config.method in names, f"method={' or '.join(names)}")


def _of_constant(name: str, words: str) -> Readers:
    """Runs whose posterior changes with a constant of its prior."""

    def whether(config: Config) -> bool:
        family, constants = config.family, config.hyperparameters()
        if not isinstance(family, VariationalMethod):
            return False
        changed = constants._replace(**{name: 2 * getattr(constants, name) + 1})
        return family.posterior(changed) != family.posterior(constants)

    return Readers(whether, words)


def _with_encoder(*names: str) -> Readers:
    """Runs with a dictionary and one of the named encoders."""
    return Readers(
        lambda config: (
            _is_variational(config)
            and not config.has_network_generator
            and config.encoder.name in names
        ),
        f"encoder.name={' or '.join(names)}",
    )


_VARIATIONAL = Readers(_is_variational, "methods that have a posterior")
_FINDING = Readers(lambda config: finds_prior(config.family), "method=inferred_threshold")
_GRADIENT_STEPS = Readers(
    lambda config: (
        not (config.learns_online or _is_autoencoder(config) or config.has_network_generator)
    ),
    "dictionaries of the methods that have a posterior, and of fista",
)
_WARMED = Readers(
    lambda config: (
        config.family.warms_up or config.method in ("spike_and_slab", "inferred_threshold")
    ),
    "Laplacian noise, and spike_and_slab",
)
_COUNTING = _of_methods(*COUNTING)
_PENALISED = _of_methods("relu_l1", "jump_relu")

READERS: dict[str, Readers] = {
    "num_samples": _VARIATIONAL,
    "sampling": _VARIATIONAL,
    "sampling_chunk": Readers(
        lambda config: _is_variational(config) and config.sampling not in BY_MOMENTS,
        "methods that draw codes",
    ),
    "estimator": Readers(lambda config: config.family.rule is not None, "thresholded methods"),
    "kl_weight": Readers(
        lambda config: _is_variational(config) and not finds_prior(config.family),
        "methods that have a posterior and do not learn their noise, which else stands for it",
    ),
    "compute_dtype": Readers(
        lambda config: config.has_network_generator or _with_encoder("mlp").whether(config),
        "networks that are convolutions or encoder.name=mlp",
    ),
    "encoder": Readers(
        lambda config: not _is_solver(config) or config.has_network_generator,
        "methods that have an encoder",
    ),
    "encoder.name": _VARIATIONAL,
    "encoder.steps": _with_encoder("unrolled", "message_passing"),
    "encoder.corrects": _with_encoder("unrolled"),
    "encoder.hidden": _with_encoder("mlp"),
    "encoder.start_at_prior": _with_encoder("mlp"),
    "encoder.support_steps": Readers(
        lambda config: finds_prior(config.family) and not config.has_network_generator,
        "method=inferred_threshold with a dictionary",
    ),
    "generator.optimizer": _GRADIENT_STEPS,
    "generator.schedule": _GRADIENT_STEPS,
    "generator.max_gradient_norm": _GRADIENT_STEPS,
    "generator.unit_norm": _GRADIENT_STEPS,
    "generator.learning_rate": _GRADIENT_STEPS,
    "generator.decay": Readers(
        lambda config: (
            _GRADIENT_STEPS.whether(config) and config.generator.schedule == "exponential"
        ),
        "generator.schedule=exponential",
    ),
    "generator.initial_norm": _GRADIENT_STEPS,
    "generator.frobenius": _GRADIENT_STEPS,
    "generator.start": Readers(
        lambda config: not (_is_autoencoder(config) or config.has_network_generator),
        "dictionaries of other methods than sparse autoencoders",
    ),
    "prior.scale": _of_constant("scale", "Laplacian priors"),
    "prior.variance": _of_constant("variance", "Gaussian priors and slabs"),
    "prior.threshold_concentration": _of_constant("threshold_concentration", "Gamma thresholds"),
    "prior.threshold_kl_weight": _of_constant("threshold_kl_weight", "Gamma thresholds"),
    "prior.learns_scale": _FINDING,
    "prior.learns_sparsity": _FINDING,
    "noise": _FINDING,
    "noise.control_until": Readers(
        lambda config: config.noise.rule == "controlled", "noise.rule=controlled"
    ),
    "annealing": _VARIATIONAL,
    "annealing.warmup_start": _WARMED,
    "annealing.warmup_begin": _WARMED,
    "annealing.warmup_increment": _WARMED,
    "annealing.temperature_decay": _of_methods("spike_and_slab"),
    "annealing.temperature_minimum": _of_methods("spike_and_slab"),
    "autoencoder": Readers(_is_autoencoder, "sparse autoencoders"),
    "autoencoder.penalty": _PENALISED,
    "autoencoder.penalty_warmup_steps": _PENALISED,
    "autoencoder.active": _COUNTING,
    "autoencoder.auxiliary_active": _COUNTING,
    "autoencoder.auxiliary_weight": _COUNTING,
    "autoencoder.dead_after": _COUNTING,
    "autoencoder.bandwidth": _of_methods("jump_relu"),
    "autoencoder.initial_threshold": _of_methods("jump_relu"),
    "autoencoder.target_active": _of_methods("jump_relu"),
    "autoencoder.prefixes": _of_methods("matryoshka"),
    "fista.tolerance": Readers(_is_solver, "method=fista or lasso"),
    "fista.max_iterations": Readers(_is_solver, "method=fista or lasso"),
    "fista.warmup_start": _of_methods("fista"),
    "fista.warmup_increment": _of_methods("fista"),
}
