"""A run's settings: frozen, validated once, and refused with the nearest valid name."""

import difflib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import ml_collections
import pydantic
from ml_collections import config_dict
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from jvsc.errors import UserError
from jvsc.model.empirical_bayes import NoiseRule
from jvsc.model.methods import (
    METHODS,
    AutoencoderMethod,
    Hyperparameters,
    Method,
    VariationalMethod,
)
from jvsc.model.networks import ARCHITECTURES
from jvsc.model.sampling import Sampling
from jvsc.model.thresholding import Estimator


class Section(BaseModel):
    """Base of all settings: immutable, no unknown key, no silent conversion, no NaN."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


# Of a value that is refused, so much is quoted.
QUOTED = 200
# NumPy and JAX take no larger one.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
AnySection = TypeVar("AnySection", bound=Section)


class DataConfig(Section):
    """Which data, and how much of it."""

    name: Literal["patches", "fashion_mnist", "celeba", "activations"] = "patches"
    path: str = ""
    tfds_dir: str = ""
    cache_dir: str = ""
    patch_size: PositiveInt = 16
    num_train: PositiveInt = 80_000
    num_validation: PositiveInt = 16_000
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: Seed = 0
    device_memory_fraction: float = Field(default=0.5, ge=0, le=1)


class EncoderConfig(Section):
    """Encoder's optimiser, on one cycle by default: SGD with Nesterov's momentum, or Adam.

    Adam's first decay rate is the momentum. A generator that is a network, and a sparse
    autoencoder's, take the same steps. `hidden` are the widths of an encoder of dense layers,
    whose posterior begins near the prior with `start_at_prior`, else near heads of zero. `name`
    chooses the encoder of a dictionary: dense layers, one of them alone, or `steps` steps of
    inference that read the dictionary; `corrects` lets each have a matrix of its own beside it. A
    deterministic code ends with `support_steps` towards the least squares of its non-zeros.
    """

    name: Literal["mlp", "linear", "unrolled", "message_passing"] = "mlp"
    steps: PositiveInt = 10
    corrects: bool = False
    support_steps: NonNegativeInt = 2
    optimizer: Literal["sgd", "adam"] = "sgd"
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    hidden: tuple[PositiveInt, ...] = (512, 1024, 512, 256)
    learning_rate: PositiveFloat = 0.01
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: PositiveFloat | None = None
    start_at_prior: bool = False


class GeneratorConfig(Section):
    """Dictionary's start, and its optimiser: plain steps or Adam.

    The rate falls each epoch, or goes through one cycle. With `unit_norm` atoms have norm 1 after
    each step. They start as random directions, or as random data of the training set.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    schedule: Literal["exponential", "one_cycle"] = "exponential"
    max_gradient_norm: PositiveFloat | None = None
    unit_norm: bool = False
    start: Literal["random", "data"] = "random"
    learning_rate: PositiveFloat = 0.5
    decay: float = Field(default=0.99, gt=0, le=1)
    initial_norm: PositiveFloat = 1.0
    frobenius: float = Field(default=1e-4, ge=0)


class PriorConfig(Section):
    """Constants of the priors (appendix B and D)."""

    scale: PositiveFloat = 0.1
    variance: PositiveFloat = 0.1
    threshold_concentration: PositiveFloat = 3.0
    threshold_kl_weight: float = Field(default=0.1, ge=0)
    learns_scale: bool = True
    learns_sparsity: bool = True


class NoiseConfig(Section):
    """The noise of method=inferred_threshold (`jvsc.model.empirical_bayes`).

    Its variance is of an entry of the data, which have variance 1 on average. The controller rests
    after a share of the training; at 1 never.
    """

    rule: NoiseRule = "controlled"
    variance: PositiveFloat = 0.25
    control_until: float = Field(default=0.9, ge=0, le=1)


class AnnealingConfig(Section):
    """Warm-up of the noise and of the KL weight, and temperature of the spike.

    The KL weight grows for so many steps, or for a share of the training.
    """

    warmup_start: float = Field(default=0.1, ge=0, le=1)
    warmup_begin: NonNegativeInt = 1500
    warmup_increment: PositiveFloat = 2e-4
    kl_warmup_steps: NonNegativeInt = 0
    kl_warmup_share: float = Field(default=0.0, ge=0, le=1)
    temperature_decay: float = Field(default=0.9995, gt=0, le=1)
    temperature_minimum: PositiveFloat = 0.5


class AutoencoderConfig(Section):
    """Sparse autoencoders (`jvsc.model.autoencoders`).

    `dead_after` counts data. Bandwidth and threshold are for data of mean squared norm 1.
    """

    penalty: PositiveFloat = 1.0
    penalty_warmup_steps: NonNegativeInt = 0
    active: PositiveInt = 32
    auxiliary_active: PositiveInt = 512
    auxiliary_weight: float = Field(default=1 / 32, ge=0)
    dead_after: PositiveInt = 10_000_000
    bandwidth: PositiveFloat = 1e-3
    initial_threshold: PositiveFloat = 1e-3


class FistaConfig(Section):
    """Sparse coding by FISTA: the baseline's training, and every method's validation loss."""

    penalty: PositiveFloat = 20.0
    tolerance: PositiveFloat = 1e-3
    max_iterations: PositiveInt = 500
    warmup_start: float = Field(default=0.1, gt=0, le=1)
    warmup_increment: PositiveFloat = 1e-4


class EvalConfig(Section):
    """What an evaluation computes; may differ from one evaluation of a run to the next."""

    chunk: PositiveInt = 1000
    fista_tolerance: PositiveFloat = 1e-5
    fista_max_iterations: PositiveInt = 20_000
    num_edges: PositiveInt = 20
    mutual_information: bool = True
    num_validation: PositiveInt | None = None
    iwae_samples: PositiveInt = 100
    snr_draws: PositiveInt = 100
    snr_batches: PositiveInt = 5
    snr_batch_size: PositiveInt = 100
    jaccard_draws: int = Field(default=20, ge=2)
    best_draws: PositiveInt = 200
    only_nonzeros: bool = False
    refine_steps: tuple[PositiveInt, ...] = (1, 3, 10)
    probe_train: PositiveInt = 10_000
    baseline: str = ""
    seed: Seed = 0


class FidConfig(Section):
    """Frechet distances of images; as `EvalConfig`, not a part of the run's identity."""

    weights: str = ""
    num_images: PositiveInt = 10_000
    cache_dir: str = ""


class ParallelConfig(Section):
    """How the devices share the work; as `EvalConfig`, not a part of the run's identity.

    The latents of encoder, posterior and generator are spread over `latent_shards` devices, the
    batch over the rest.
    """

    latent_shards: PositiveInt = 1


class OutputConfig(Section):
    """When a run validates, keeps checkpoints and draws."""

    validate_every: PositiveInt = 1
    checkpoint_every: PositiveInt = 1
    keep_last: PositiveInt = 2
    draw_epochs: tuple[PositiveInt, ...] = ()


class Config(Section):
    """All settings of a run; the defaults are the paper's linear experiment."""

    method: str = "thresholded_laplacian"
    num_epochs: PositiveInt = 300
    batch_size: PositiveInt = 100
    num_latents: PositiveInt = 256
    num_samples: PositiveInt = 1
    sampling: Sampling = "max"
    sampling_chunk: PositiveInt | None = None
    estimator: Estimator = "straight_through"
    threshold: PositiveFloat | None = None
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    kl_weight: float = Field(default=1e-2, ge=0)
    compute_dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    seeds: tuple[Seed, ...] = (0, 1, 2)
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    generator: GeneratorConfig = GeneratorConfig()
    prior: PriorConfig = PriorConfig()
    noise: NoiseConfig = NoiseConfig()
    annealing: AnnealingConfig = AnnealingConfig()
    fista: FistaConfig = FistaConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    eval: EvalConfig = EvalConfig()
    fid: FidConfig = FidConfig()
    output: OutputConfig = OutputConfig()
    parallel: ParallelConfig = ParallelConfig()

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> "Config":
        check_method(self.method)
        method = self.family
        if isinstance(method, AutoencoderMethod):
            if self.has_network_generator:
                raise ValueError(f"{self.method} does not apply to data.name={self.data.name}")
            if self.method == "topk" and self.autoencoder.active > self.num_latents:
                raise ValueError(
                    f"autoencoder.active is {self.autoencoder.active} but num_latents only "
                    f"{self.num_latents}; lower the one or raise the other"
                )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; give one or more different numbers")
        if self.threshold is not None and method.rule is None:
            raise ValueError(f"threshold does not apply to {self.method}; leave it out")
        if self.sparsity is not None and not method.has_sparsity:
            raise ValueError(f"sparsity does not apply to {self.method}; leave it out")
        if self.threshold is not None and self.sparsity is not None:
            raise ValueError("both threshold and sparsity are given; give one of them")
        if self.estimator == "subgradient" and method.rule is None:
            raise ValueError(f"estimator=subgradient does not apply to {self.method}")
        self._check_dictionary_alone(method)
        if self.eval.only_nonzeros and (
            self.method != "thresholded_laplacian" or self.has_network_generator
        ):
            raise ValueError(
                "eval.only_nonzeros is for thresholded_laplacian on patches or activations, not "
                f"for {self.method} on {self.data.name}; leave it out"
            )
        if self.batch_size > self.data.num_train:
            raise ValueError(
                f"batch_size is {self.batch_size} but data.num_train only {self.data.num_train}; "
                "lower the one or raise the other"
            )
        return self

    def _check_dictionary_alone(self, method: Method) -> None:
        """Refuses what is for a dictionary, or for posteriors with moments, elsewhere."""
        if self.encoder.name != "mlp" and self.has_network_generator:
            raise ValueError(
                f"encoder.name={self.encoder.name} is for patches or activations, not for "
                f"{self.data.name}; leave it out"
            )
        if self.sampling != "exact":
            return
        if self.has_network_generator:
            raise ValueError(
                f"sampling=exact is for patches or activations, not for {self.data.name}; give max"
            )
        if not isinstance(method, VariationalMethod) or not method.has_moments:
            raise ValueError(f"sampling=exact does not apply to {self.method}; leave it out")

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the training data."""
        return self.data.num_train // self.batch_size

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self.num_epochs * self.steps_per_epoch

    @property
    def family(self) -> Method:
        """The method's entry in `jvsc.model.methods.METHODS`."""
        return METHODS[self.method]

    @property
    def has_network_generator(self) -> bool:
        """Whether the generator is a network; else it is a dictionary."""
        return self.data.name in ARCHITECTURES

    def hyperparameters(self) -> Hyperparameters:
        """Constants of the posterior, with threshold and sparsity both known (appendix D)."""
        constants = Hyperparameters(
            scale=self.prior.scale,
            variance=self.prior.variance,
            threshold_concentration=self.prior.threshold_concentration,
            threshold_kl_weight=self.prior.threshold_kl_weight,
            estimator=self.estimator,
        )
        rule = self.family.rule
        sparsity = 0.1 if self.sparsity is None else self.sparsity
        if rule is None:
            return constants._replace(sparsity=sparsity)
        if self.threshold is None:
            threshold = rule.threshold_of(sparsity, constants)
            return constants._replace(sparsity=sparsity, threshold=threshold)
        sparsity = rule.sparsity_of(self.threshold, constants)
        return constants._replace(sparsity=sparsity, threshold=self.threshold)


def check_method(name: str, known: Collection[str] = tuple(METHODS)) -> None:
    """Refuses a method that is not a known one, naming the nearest.

    Raises:
      UserError: if there is no such method.
    """
    if name not in known:
        raise UserError(f"unknown method {name!r}; {_nearest(name, known)}")


def default_config() -> ml_collections.ConfigDict:
    """The settings with their defaults as a ConfigDict, for `configs/` to change."""
    config = ml_collections.ConfigDict(Config().model_dump())
    for key, kind in (("threshold", float), ("sparsity", float), ("sampling_chunk", int)):
        config[key] = config_dict.placeholder(kind)
    sections: Any = config
    sections["eval"].num_validation = config_dict.placeholder(int)
    for name in ("encoder", "generator"):
        sections[name].max_gradient_norm = config_dict.placeholder(float)
    return config


def experiment_config(
    arguments: str,
    settings: Mapping[str, Any],
    method_settings: Mapping[str, Mapping[str, Any]],
    sizes: Mapping[str, Mapping[str, Any]],
) -> ml_collections.ConfigDict:
    """The settings of an experiment, for a file of `configs/`.

    Args:
      arguments: what stands behind the file's name: "METHOD", "METHOD,SIZE" or "".
      settings: dotted keys in which the experiment differs from the defaults.
      method_settings: further ones of some methods.
      sizes: further ones of each named size.

    Raises:
      UserError: for an unknown method or size.
    """
    method, _, size = arguments.partition(",")
    config = default_config()
    config.method = method or "thresholded_laplacian"
    check_method(config.method)
    if size and size not in sizes:
        raise UserError(f"unknown size {size!r} behind the method; {_nearest(size, sizes)}")
    changes = {**settings, **method_settings.get(config.method, {}), **sizes.get(size, {})}
    config.update_from_flattened_dict(changes)
    return config


def make_config(settings: Mapping[str, Any]) -> Config:
    """Validates settings.

    Args:
      settings: nested mapping, such as a ConfigDict's `to_dict()` or a workdir's config.json.

    Raises:
      UserError: one line naming the key, what was given and what is allowed.
    """
    return validated(Config, settings)


def validated(kind: type[AnySection], settings: Mapping[str, Any]) -> AnySection:
    """Settings of some kind.

    Args:
      kind: which.
      settings: its fields.

    Raises:
      UserError: one line naming the key, what was given and what is allowed.
    """
    try:
        return kind.model_validate(_tuples(settings))
    except pydantic.ValidationError as error:
        raise UserError("; ".join(_explain(problem) for problem in error.errors())) from None


def differences(stored: Config, asked: Config, ignore: tuple[str, ...] = ()) -> list[str]:
    """The keys in which two configs differ, as `key: stored -> asked`.

    Args:
      stored: one config.
      asked: the other.
      ignore: first-level keys that may differ.
    """
    one, other = flatten(stored.model_dump()), flatten(asked.model_dump())
    return [
        f"{key}: {one.get(key)!r} -> {other.get(key)!r}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key) and key.split(".")[0] not in ignore
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one with dotted keys."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nearest_key(name: str) -> str:
    """What to say of an unknown dotted key."""
    return _nearest(name, flatten(Config().model_dump()))


def _nearest(name: str, valid: Any) -> str:
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"give one of {', '.join(sorted(valid))}"


def _tuples(value: Any) -> Any:
    """JSON has no tuples; strict validation wants them."""
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _explain(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest_key(key)}"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return message
    given = repr(problem["input"])
    given = given if len(given) <= QUOTED else f"{given[:QUOTED]} ..."
    return f"{key} is {given}: {message[0].lower()}{message[1:]}"
