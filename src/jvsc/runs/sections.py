"""The sections of a run's settings: frozen, each value in its range (pydantic)."""

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from jvsc.model.empirical_bayes import NoiseRule


class Section(BaseModel):
    """Base of all settings: immutable, no unknown key, no silent conversion, no NaN."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


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
    """When a run validates, keeps checkpoints and draws, and what shows its numbers."""

    validate_every: PositiveInt = 1
    checkpoint_every: PositiveInt = 1
    keep_last: PositiveInt = 2
    draw_epochs: tuple[PositiveInt, ...] = ()
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
