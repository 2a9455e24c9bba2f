"""A run's settings: frozen, validated once, and refused with the nearest valid name."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any, Literal

import ml_collections
import pydantic
from ml_collections import config_dict
from pydantic import Field, PositiveFloat, PositiveInt

from jvsc.errors import UserError
from jvsc.model.autoencoders import COUNTING
from jvsc.model.methods import (
    LAPLACIAN_RULE,
    METHODS,
    AutoencoderMethod,
    Hyperparameters,
    Method,
    SolverMethod,
    VariationalMethod,
    finds_prior,
)
from jvsc.model.networks import ARCHITECTURES
from jvsc.model.sampling import BY_MOMENTS, Sampling
from jvsc.model.thresholding import SUBGRADIENTS, Estimator
from jvsc.runs.allowed import allowed_at
from jvsc.runs.sections import (
    AnnealingConfig,
    AnySection,
    AutoencoderConfig,
    DataConfig,
    EarlyStoppingConfig,
    EncoderConfig,
    EvalConfig,
    FidConfig,
    FistaConfig,
    GeneratorConfig,
    LassoConfig,
    NoiseConfig,
    OutputConfig,
    ParallelConfig,
    PriorConfig,
    Section,
    Seed,
)

# Of a value that is refused, so much is quoted.
QUOTED = 200
# pydantic's mistakes that name one end of a range, or a type without its range.
OUT_OF_RANGE = {
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number",
    "int_type", "float_type", "bool_type",
}  # fmt: skip


class Config(Section):
    """All settings of a run; the defaults are the paper's linear experiment."""

    method: str = "thresholded_laplacian"
    """One of the paper's, inferred_threshold, lasso, or a sparse autoencoder, such as topk."""
    num_epochs: PositiveInt = 300
    """Passes over the training data."""
    batch_size: PositiveInt = 100
    """Data a step, over all devices."""
    num_latents: PositiveInt = 256
    """K, atoms of the dictionary."""
    num_samples: PositiveInt = 1
    """J, draws for each datum."""
    sampling: Sampling = "max"
    """Which draws count: the best, all, by importance; or none: exact (a dictionary), moments."""
    sampling_chunk: PositiveInt | None = None
    """Of the J draws so many are scored at once: memory against speed."""
    estimator: Estimator = "straight_through"
    """Of the gradient through the threshold."""
    threshold: PositiveFloat | None = None
    """Lambda; follows from the sparsity if that is given."""
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    """Share of non-zeros in the prior; follows from the threshold if that is given."""
    kl_weight: float = Field(default=1e-2, ge=0)
    """Beta of the KL divergence."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Of the networks' products; auto is bfloat16 for CelebA on GPUs and TPUs."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Random keys of the trainings, which run together."""
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    generator: GeneratorConfig = GeneratorConfig()
    prior: PriorConfig = PriorConfig()
    noise: NoiseConfig = NoiseConfig()
    annealing: AnnealingConfig = AnnealingConfig()
    fista: FistaConfig = FistaConfig()
    lasso: LassoConfig = LassoConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
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
            if self.method in COUNTING and self.autoencoder.active > self.num_latents:
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
        self._check_estimator(method)
        self._check_encoder(method)
        self._check_moments(method)
        self._check_only_nonzeros()
        self._check_lasso()
        if self.num_latents % self.parallel.latent_shards:
            raise ValueError(
                f"num_latents is {self.num_latents} and parallel.latent_shards "
                f"{self.parallel.latent_shards}; give a multiple"
            )
        if self.batch_size > self.data.num_train:
            raise ValueError(
                f"batch_size is {self.batch_size} but data.num_train only {self.data.num_train}; "
                "lower the one or raise the other"
            )
        return self

    def _check_estimator(self, method: Method) -> None:
        """Refuses a subgradient where there is no threshold, or no Laplacian noise."""
        published = self.estimator == "subgradient_published"
        if (self.estimator in SUBGRADIENTS and method.rule is None) or (
            published and method.rule is not LAPLACIAN_RULE
        ):
            raise ValueError(f"estimator={self.estimator} does not apply to {self.method}")

    def _check_only_nonzeros(self) -> None:
        """Refuses to draw non-zeros alone where they are not those of the method's codes."""
        if not self.eval.only_nonzeros:
            return
        if self.method != "thresholded_laplacian" or self.has_network_generator:
            raise ValueError(
                "eval.only_nonzeros is for thresholded_laplacian on patches or activations, not "
                f"for {self.method} on {self.data.name}; leave it out"
            )
        if self.sampling == "iwae":
            raise ValueError("eval.only_nonzeros does not apply to sampling=iwae; leave it out")
        if self.estimator == "subgradient_published":
            raise ValueError("eval.only_nonzeros does not apply to estimator=subgradient_published")

    def _check_lasso(self) -> None:
        """Refuses settings of online dictionary learning elsewhere, and there what it has not."""
        if not self.learns_online:
            if self.lasso != LassoConfig():
                raise ValueError(f"lasso does not apply to {self.method}; leave it out")
            return
        if self.has_network_generator:
            raise ValueError(
                f"method=lasso is for patches or activations, not for {self.data.name}; give fista"
            )
        if self.generator.initial_norm != 1:
            raise ValueError(
                f"generator.initial_norm is {self.generator.initial_norm}, but lasso's atoms have "
                "norm 1; leave it out"
            )

    def _check_encoder(self, method: Method) -> None:
        """Refuses an encoder of dictionaries elsewhere, and gates that have nothing to hold."""
        if self.encoder.name == "message_passing" and not finds_prior(method):
            raise ValueError(
                "encoder.name=message_passing is for method=inferred_threshold, not for "
                f"{self.method}; give another"
            )
        if self.encoder.name != "mlp" and self.has_network_generator:
            raise ValueError(
                f"encoder.name={self.encoder.name} is for patches or activations, not for "
                f"{self.data.name}; leave it out"
            )
        if not self.encoder.lifetime_sparsity:
            return
        if not (self.has_network_generator and finds_prior(method)):
            raise ValueError(
                "encoder.lifetime_sparsity is for method=inferred_threshold with a generator that "
                "is a network; leave it out"
            )
        if self.noise.rule == "controlled":
            raise ValueError(
                "encoder.lifetime_sparsity holds the share of non-zeros, so noise.rule=controlled "
                "has nothing to hold; give learned or fixed"
            )
        if self.hyperparameters().sparsity >= 0.5:
            raise ValueError(
                f"sparsity is {self.sparsity}, but with encoder.lifetime_sparsity it must be less "
                "than 1/2"
            )

    def _check_moments(self, method: Method) -> None:
        """Refuses a bound by moments where there are none, or by those of another generator."""
        if self.sampling not in BY_MOMENTS:
            return
        if self.num_samples != 1:
            raise ValueError(
                f"num_samples is {self.num_samples}, but sampling={self.sampling} draws no code; "
                "leave it 1, or give max"
            )
        if self.sampling == "exact" and self.has_network_generator:
            raise ValueError(
                f"sampling=exact is for patches or activations, not for {self.data.name}; give "
                "moments"
            )
        if self.sampling == "moments" and not self.has_network_generator:
            raise ValueError("sampling=moments is for a generator that is a network; give exact")
        if not isinstance(method, VariationalMethod) or not method.has_moments:
            raise ValueError(
                f"sampling={self.sampling} does not apply to {self.method}; leave it out"
            )

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
    def learns_online(self) -> bool:
        """Whether a dictionary is made of codes' moments, not by gradient steps."""
        return isinstance(self.family, SolverMethod) and self.family.learns_online

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
    draws = isinstance(METHODS[config.method], VariationalMethod)
    if not draws or changes.get("sampling") in BY_MOMENTS:
        changes["num_samples"] = 1
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
        problems = [_explain(problem, kind) for problem in error.errors()]
        raise UserError("; ".join(problems)) from None


def differences(stored: Config, asked: Config, ignore: tuple[str, ...] = ()) -> list[str]:
    """The keys in which two configs differ, as `key: stored -> asked`.

    Args:
      stored: one config.
      asked: the other.
      ignore: keys that may differ, and sections.
    """
    one, other = flatten(stored.model_dump()), flatten(asked.model_dump())
    return [
        f"{key}: {one.get(key)!r} -> {other.get(key)!r}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key) and not {key, key.split(".")[0]} & {*ignore}
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


def _explain(problem: Any, kind: type[Section]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest_key(key)}"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return message
    given = repr(problem["input"])
    given = given if len(given) <= QUOTED else f"{given[:QUOTED]} ..."
    if problem["type"] in OUT_OF_RANGE and (values := allowed_at(kind, problem["loc"])):
        return f"{key} is {given}: must be {values}"
    return f"{key} is {given}: {message[0].lower()}{message[1:]}"
