"""The sections of a run's settings: frozen, each value in its range (pydantic)."""

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from jvsc.model.empirical_bayes import NoiseRule
from jvsc.solvers.online_dictionary import FORGETTING


class Section(BaseModel):
    """Base of all settings: immutable, no unknown key, no silent conversion, no NaN."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        # What stands under a field is its line of `--help`.
        use_attribute_docstrings=True,
    )


# NumPy and JAX take no larger one.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Steps are counted in int32 on a device.
Steps = Annotated[int, Field(ge=0, lt=2**31)]
AnySection = TypeVar("AnySection", bound=Section)


class DataConfig(Section):
    """Which data, and how much of it."""

    name: Literal["patches", "fashion_mnist", "celeba", "images", "activations"] = "patches"
    """Which data."""
    path: str = ""
    """A file or folder of the user's; by default what jvsc or the system brings."""
    tfds_dir: str = ""
    """Where tensorflow-datasets keeps its data; by default its own folder."""
    cache_dir: str = ""
    """Where decoded images are kept; by default jvsc in the user's cache folder."""
    patch_size: PositiveInt = 16
    """Side of a patch, in pixels."""
    num_train: PositiveInt = 80_000
    """Training data, N."""
    num_validation: PositiveInt = 16_000
    """Validation data, M."""
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the photographs that is kept for validation."""
    seed: Seed = 0
    """Of the places where patches are cut, and of a subset."""
    device_memory_fraction: float = Field(default=0.5, ge=0, le=1)
    """Data up to this share of a device's memory live there; larger ones are streamed."""


class EncoderConfig(Section):
    """Encoder's optimiser, on one cycle by default: SGD with Nesterov's momentum, or Adam.

    Adam's first decay rate is the momentum. A generator that is a network, and a sparse
    autoencoder's, take the same steps. `hidden` are the widths of an encoder of dense layers,
    whose posterior begins near the prior with `start_at_prior`, else near heads of zero. `name`
    chooses the encoder of a dictionary: dense layers, one of them alone, or `steps` steps of
    inference that read the dictionary; `corrects` lets each have a matrix of its own beside it. A
    deterministic code ends with `support_steps` towards the least squares of its non-zeros. With
    `lifetime_sparsity` a conv encoder's gates are normalised over the data, each latent's alike.
    """

    name: Literal["mlp", "linear", "unrolled", "message_passing"] = "mlp"
    """Dense layers, one linear layer, or steps of inference that read the dictionary."""
    steps: PositiveInt = 10
    """Of unrolled and message_passing."""
    corrects: bool = False
    """Whether each step has a matrix of its own beside the dictionary."""
    support_steps: NonNegativeInt = 2
    """Towards the least squares of the non-zeros, of a deterministic code."""
    lifetime_sparsity: bool = False
    """Whether each latent is in use for about sparsity of the data (conv, inferred_threshold)."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Of encoder and network generator; Adam's first decay rate is the momentum."""
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    """Of the learning rate."""
    hidden: tuple[PositiveInt, ...] = (512, 1024, 512, 256)
    """Widths of the dense layers."""
    learning_rate: PositiveFloat = 0.01
    """At its highest."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Nesterov's, or Adam's first decay rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty of the weights in each step."""
    max_gradient_norm: PositiveFloat | None = None
    """Longer gradients are shortened to it."""
    start_at_prior: bool = False
    """Begin near the prior instead of near heads of zero."""


class GeneratorConfig(Section):
    """Dictionary's start, and its optimiser: plain steps or Adam.

    The rate falls each epoch, or goes through one cycle. With `unit_norm` atoms have norm 1 after
    each step. They start as random directions, or as random data of the training set.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    """Of the dictionary."""
    schedule: Literal["exponential", "one_cycle"] = "exponential"
    """Of its learning rate, which falls each epoch or goes through one cycle."""
    max_gradient_norm: PositiveFloat | None = None
    """Longer gradients are shortened to it."""
    unit_norm: bool = False
    """Whether atoms have norm 1 after each step."""
    start: Literal["random", "data"] = "random"
    """Of the atoms: random directions, or random training data."""
    learning_rate: PositiveFloat = 0.5
    """Of the dictionary, at its highest."""
    decay: float = Field(default=0.99, gt=0, le=1)
    """Factor of the rate an epoch (exponential)."""
    initial_norm: PositiveFloat = 1.0
    """Of the atoms."""
    frobenius: float = Field(default=1e-4, ge=0)
    """Weight of the dictionary's squared norm in the loss."""


class PriorConfig(Section):
    """Constants of the priors (appendix B and D)."""

    scale: PositiveFloat = 0.1
    """The Laplacian prior's b0."""
    variance: PositiveFloat = 0.1
    """Of the Gaussian prior."""
    threshold_concentration: PositiveFloat = 3.0
    """Of the Gamma prior over thresholds."""
    threshold_kl_weight: float = Field(default=0.1, ge=0)
    """Of the divergence of inferred thresholds."""
    learns_scale: bool = True
    """Whether the data decide the scale (inferred_threshold)."""
    learns_sparsity: bool = True
    """Whether the data decide the share of non-zeros (inferred_threshold)."""


class NoiseConfig(Section):
    """The noise of method=inferred_threshold (`jvsc.model.empirical_bayes`).

    Its variance is of an entry of the data; those of patches and activations have variance 1 on
    average, images lie in [0, 1]. The controller rests after a share of the training; at 1 never.
    """

    rule: NoiseRule = "controlled"
    """Whether the noise is given, held so that sparsity is met, or learned."""
    variance: PositiveFloat = 0.25
    """Of an entry of the data; at the start unless fixed."""
    control_until: float = Field(default=0.9, ge=0, le=1)
    """Share of the training after which the controller rests; at 1 never."""


class AnnealingConfig(Section):
    """Warm-up of the noise and of the KL weight, and temperature of the spike.

    The KL weight grows for so many steps, or for a share of the training.
    """

    warmup_start: float = Field(default=0.1, ge=0, le=1)
    """Factor of the samples' noise at the start."""
    warmup_begin: Steps = 1500
    """Step from which it grows."""
    warmup_increment: PositiveFloat = 2e-4
    """By which it grows a step."""
    kl_warmup_steps: Steps = 0
    """Over which the KL weight grows."""
    kl_warmup_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the training over which it grows, where kl_warmup_steps is 0."""
    temperature_decay: float = Field(default=0.9995, gt=0, le=1)
    """Factor a step of the spike's temperature."""
    temperature_minimum: PositiveFloat = 0.5
    """Where the temperature stays."""


class AutoencoderConfig(Section):
    """Sparse autoencoders (`jvsc.model.autoencoders`).

    `dead_after` counts data. Bandwidth and threshold are for data of mean squared norm 1.
    With `target_active` jump_relu's penalty is on the distance from so many non-zeros.
    `prefixes` are the shares of the latents that matryoshka's nested dictionaries have.
    """

    penalty: PositiveFloat = 1.0
    """Lambda of relu_l1 and jump_relu."""
    penalty_warmup_steps: Steps = 0
    """Over which the penalty grows."""
    active: PositiveInt = 32
    """Non-zeros of topk, batch_topk and matryoshka."""
    auxiliary_active: PositiveInt = 512
    """Dead latents that model their error."""
    auxiliary_weight: float = Field(default=1 / 32, ge=0)
    """Of their loss."""
    dead_after: int = Field(default=10_000_000, gt=0, lt=2**63)
    """Data after which a latent that was never active is dead."""
    bandwidth: PositiveFloat = 1e-3
    """Of jump_relu's pseudo-derivatives, for data of mean squared norm 1."""
    initial_threshold: PositiveFloat = 1e-3
    """Of jump_relu, for data of mean squared norm 1."""
    target_active: NonNegativeInt = 0
    """Non-zeros that jump_relu's penalty holds codes to; 0 penalises them by lambda alone."""
    prefixes: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (
        1 / 32,
        3 / 32,
        7 / 32,
        15 / 32,
        1.0,
    )
    """Shares of the latents, the first of which matryoshka's losses reconstruct from."""


class FistaConfig(Section):
    """Sparse coding by FISTA: the baseline's training, and every method's validation loss.

    Penalty, tolerance and most iterations are those of method=lasso, too.
    """

    penalty: PositiveFloat = 20.0
    """Lambda of objective (10)."""
    tolerance: PositiveFloat = 1e-3
    """Relative duality gap that ends a solver in a training."""
    max_iterations: PositiveInt = 500
    """After which it ends in any case."""
    warmup_start: float = Field(default=0.1, gt=0, le=1)
    """Factor of the penalty at the start of a training by FISTA."""
    warmup_increment: PositiveFloat = 1e-4
    """By which it grows a step."""


class LassoConfig(Section):
    """Online dictionary learning, of method=lasso (`jvsc.solvers.learn_dictionary`).

    Its penalty, tolerance and most iterations are `fista`'s; the penalty is not warmed up.
    """

    positive_codes: bool = False
    """Whether codes may not be negative."""
    positive_atoms: bool = False
    """Whether atoms may not be negative."""
    bounded_atoms: bool = False
    """Whether atoms' norm may be less than 1; else it is 1."""
    forgetting: float = Field(default=FORGETTING, ge=0)
    """Batch i of t counts (i / t) to this power; at 0 all count alike."""


class EvalConfig(Section):
    """What an evaluation computes; may differ from one evaluation of a run to the next."""

    chunk: PositiveInt = 1000
    """Data inferred at once."""
    fista_tolerance: PositiveFloat = 1e-5
    """Relative duality gap of the optimum that codes are compared with."""
    fista_max_iterations: PositiveInt = 20_000
    """After which that ends in any case."""
    num_edges: PositiveInt = 20
    """Bins' edges of a latent in multi-information."""
    mutual_information: bool = True
    """Whether the dependence between latents is measured."""
    num_validation: PositiveInt | None = None
    """Data measured; by default all."""
    iwae_samples: PositiveInt = 100
    """J of the importance-weighted bound."""
    snr_draws: PositiveInt = 100
    """Gradients drawn for a batch; of one alone there is no ratio."""
    snr_batches: PositiveInt = 5
    """Batches of the gradients' signal-to-noise ratio."""
    snr_batch_size: PositiveInt = 100
    """Data of such a batch."""
    jaccard_draws: int = Field(default=20, ge=2)
    """Codes drawn for a datum's Jaccard consistency."""
    best_draws: PositiveInt = 200
    """J of the best of many draws."""
    only_nonzeros: bool = False
    """Draw the non-zeros alone: thresholded_laplacian, many atoms, a CPU."""
    refine_steps: tuple[PositiveInt, ...] = (1, 3, 10)
    """Numbers of refining steps after which codes are measured."""
    probe_train: PositiveInt = 10_000
    """Data that a linear probe is trained on."""
    baseline: str = ""
    """Workdir of another run whose codes are probed too."""
    seed: Seed = 0
    """Of the draws."""


class FidConfig(Section):
    """Frechet distances of images; as `EvalConfig`, not a part of the run's identity."""

    weights: str = ""
    """Inception's, .safetensors or .pth; without them a small classifier's features serve."""
    num_images: PositiveInt = 10_000
    """Compared."""
    cache_dir: str = ""
    """Where features are kept; by default jvsc in the user's cache folder."""


class ParallelConfig(Section):
    """How the devices share the work; as `EvalConfig`, not a part of the run's identity.

    The latents of encoder, posterior and generator are spread over `latent_shards` devices, the
    batch over the rest.
    """

    latent_shards: PositiveInt = 1
    """Neighbouring devices among which the latents are divided."""


class EarlyStoppingConfig(Section):
    """Ends a training when its validation loss has stopped falling.

    That is when no seed's has been lower by more than `min_delta` than its lowest before, in
    `patience` validations in a row. 0 trains all epochs.
    """

    patience: NonNegativeInt = 0
    """Validations without a lower loss until training ends; 0 trains all epochs."""
    min_delta: float = Field(default=0.0, ge=0)
    """By how much a loss must be lower to count."""


class OutputConfig(Section):
    """When a run validates, keeps checkpoints and draws, and what shows its numbers."""

    validate_every: PositiveInt = 1
    """Epochs between validations."""
    checkpoint_every: PositiveInt = 1
    """Epochs between checkpoints."""
    keep_last: PositiveInt = 2
    """Newest checkpoints kept, beside the best."""
    draw_epochs: tuple[PositiveInt, ...] = ()
    """Epochs after which the generator is drawn."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Programs that show the numbers of each epoch."""
