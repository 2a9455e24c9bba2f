"""An estimator's settings as compiled programs, made once for all estimators that share them."""

import math
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from jvsc.errors import UserError
from jvsc.model.methods import METHODS, SolverMethod, VariationalMethod
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors import Posterior, Thresholded
from jvsc.model.solver_coded import SolverCoded
from jvsc.model.thresholds import FixedThreshold, TrackedThreshold
from jvsc.model.variational import Variational
from jvsc.runs.config import Config, Section, make_config
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.solvers import fista
from jvsc.sparse_coder.tracking import (
    Adjust,
    lower_spike,
    scale_threshold,
    set_threshold,
    tracked_encoder,
    tracked_generator,
)
from jvsc.training.batches import Prepare, make_prepare
from jvsc.training.epoch import Loss
from jvsc.training.mesh import DATA_AXIS
from jvsc.training.state import TrainState, init_state

# A training step of FISTA's dictionary needs no exact codes; the codes that users get are better.
TRAINING_LIMITS: dict[str, Any] = {"tolerance": 1e-2, "max_iterations": 100}
# Draws held at once for a chunk of data: so many numbers.
DRAWN_NUMBERS = 1 << 22
ENCODER_RATE, DICTIONARY_RATE = 1e-3, 3e-3
# Of an encoder whose few numbers are shared by all latents, and of its dictionary.
UNROLLED_RATE = 1e-2
# The prior's share of non-zeros at the start, where none is wanted.
FIRST_SPARSITY = 0.05


# Scale of the Laplacian prior and variance of the Gaussian with its variance; codes are in these
# units, and nothing depends on them: the dictionary's start is made to fit.
PRIOR = {"scale": 1.0, "variance": 2.0}
# Share of non-zeros that a training begins with. While most latents are zero the straight-through
# gradient, which reaches them all, would first drive the codes to many times the data.
START_SHARE = 0.9
# The dictionary's last learning rate, as a share of its first.
LAST_RATE = 0.1


class CoderSettings(Section):
    """What a user may give a `SparseCoder`."""

    n_components: PositiveInt
    method: str
    sparsity: float | None = Field(gt=0, lt=1)
    n_samples: PositiveInt
    refine_steps: NonNegativeInt
    kl_weight: PositiveFloat
    max_iter: PositiveInt | None
    batch_size: PositiveInt
    sparse_output: bool


def coder_config(
    settings: CoderSettings,
    num_features: int,
    batch_size: int,
    steps_per_epoch: int = 1,
    num_epochs: int | None = None,
) -> Config:
    """A run's settings for an estimator's; without `num_epochs` its rates stay constant.

    The dictionary starts where codes of the prior have the data's variance, one a column. The KL is
    weighed against a dictionary that has it with the wanted share of non-zeros.
    """
    method = METHODS[settings.method]
    if isinstance(method, VariationalMethod) and method.finds_prior:
        return _explaining_config(settings, num_features, batch_size, steps_per_epoch, num_epochs)
    if settings.sparsity is None:
        raise UserError(f"sparsity=None does not apply to {settings.method}; give a share")
    lasso_codes = isinstance(METHODS[settings.method], SolverMethod)
    has_sparsity = METHODS[settings.method].has_sparsity
    share = settings.sparsity if has_sparsity or lasso_codes else START_SHARE
    norm = math.sqrt(num_features / (PRIOR["variance"] * settings.n_components * share))
    width = min(max(num_features, 32), 256)
    online = num_epochs is None
    return make_config(
        {
            "method": settings.method,
            "num_epochs": num_epochs or 1,
            "batch_size": batch_size,
            "num_latents": settings.n_components,
            "num_samples": settings.n_samples,
            "sparsity": settings.sparsity if has_sparsity else None,
            "kl_weight": 2 * settings.kl_weight * norm / num_features,
            "seeds": (0,),
            "data": {"num_train": batch_size * steps_per_epoch},
            "prior": PRIOR,
            "annealing": {"warmup_start": 1.0},
            "fista": {"penalty": 1.0, "warmup_start": 1.0},
            "encoder": {
                "optimizer": "adam",
                "schedule": "constant" if online else "one_cycle",
                "learning_rate": ENCODER_RATE,
                "max_gradient_norm": 1.0,
                "hidden": (2 * width, 4 * width, 2 * width, width),
            },
            "generator": {
                "optimizer": "adam",
                "learning_rate": DICTIONARY_RATE,
                "decay": 1.0 if num_epochs is None else LAST_RATE ** (1 / num_epochs),
                "initial_norm": norm if lasso_codes else norm * (share / START_SHARE) ** 0.5,
                "frobenius": 0.0,
            },
        }
    )


def _explaining_config(
    settings: CoderSettings,
    num_features: int,
    batch_size: int,
    steps_per_epoch: int,
    num_epochs: int | None,
) -> Config:
    """`coder_config` of the method that finds its noise and prior, with an unrolled encoder.

    The prior's slab begins at the scale at which codes of the wanted share have half of the data's
    variance. Without a wanted share the noise's variance is learned, and decides it.
    """
    sparsity = FIRST_SPARSITY if settings.sparsity is None else settings.sparsity
    scale = math.sqrt(num_features / (4 * settings.n_components * sparsity))
    online = num_epochs is None
    return make_config(
        {
            "method": settings.method,
            "num_epochs": num_epochs or 1,
            "batch_size": batch_size,
            "num_latents": settings.n_components,
            "num_samples": settings.n_samples,
            "sampling": "exact",
            "sparsity": sparsity,
            "seeds": (0,),
            "data": {"num_train": batch_size * steps_per_epoch},
            "prior": {"scale": scale},
            "noise": {
                "rule": "learned" if settings.sparsity is None else "controlled",
                "control_until": 1.0 if online else 0.9,
            },
            "annealing": {"warmup_start": 1.0, "kl_warmup_share": 0.0 if online else 0.1},
            "encoder": {
                "name": "unrolled",
                "optimizer": "adam",
                "schedule": "constant" if online else "one_cycle",
                "learning_rate": UNROLLED_RATE,
                "max_gradient_norm": 1.0,
            },
            "generator": {
                "optimizer": "adam",
                "schedule": "exponential" if online else "one_cycle",
                "learning_rate": UNROLLED_RATE,
                "decay": 1.0,
                "max_gradient_norm": 1.0,
                "unit_norm": True,
                "frobenius": 0.0,
            },
        }
    )


def usable_batch_size(wanted: int, num_data: int) -> int:
    """The batch that a user wants, or for fewer data the largest power of two.

    A remainder waits for its turn in the next epoch, and few sizes have to be compiled.
    """
    return wanted if num_data >= wanted else 1 << (num_data.bit_length() - 1)


class Coder(NamedTuple):
    """What trains a model and what its codes are, for one choice of settings and width of data.

    Attributes:
      model: the method, with its controller.
      optimizer: of all parameters.
      loss: what training descends.
      prepare: data as they are.
      init: `keys [S] -> TrainState` before the first step, compiled.
      codes: `(parameters, statistics, data [B, D], key) -> codes [B, K]`, compiled; not for FISTA.
      probability: `(parameters, statistics, data [B, D]) -> P(code != 0)`, [B, K]; not for FISTA.
    """

    model: SolverCoded | Variational
    optimizer: optax.GradientTransformation
    loss: Loss
    prepare: Prepare
    init: Any
    codes: Any
    probability: Any


def make_coder(config: Config, num_features: int) -> Coder:
    """The programs of some settings, compiled when first called and kept.

    Args:
      config: validated settings; its generator is a dictionary.
      num_features: D.
    """
    # pydantic makes frozen settings hashable, which their type does not tell.
    return _make_coder(config, num_features)  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=32)
def _make_coder(config: Config, num_features: int) -> Coder:
    model = tracked_model(config, num_features)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    codes = probability = None
    if isinstance(model, Variational):
        codes = jax.jit(partial(infer_codes, model=model, config=config))
        probability = jax.jit(partial(support_probability, model=model))
    return Coder(
        model=model,
        optimizer=optimizer,
        loss=model.loss,
        prepare=make_prepare((1, num_features), mirrored=False),
        init=jax.jit(jax.vmap(partial(init_state, model=model, optimizer=optimizer))),
        codes=codes,
        probability=probability,
    )


def tracked_model(config: Config, num_features: int) -> SolverCoded | Variational:
    """The method's model, with a controller of the share of its codes' non-zeros."""
    model = build_model(config, num_features, DATA_AXIS, training=True)
    sparsity = config.hyperparameters().sparsity
    if isinstance(model, SolverCoded):
        generator = tracked_generator(model.generator, sparsity, initial_log_penalty(config))
        return replace(model, generator=generator, solve=solve_tracked)
    assert isinstance(model, Variational)  # the estimator refuses others
    if model.empirical_bayes is not None:
        return model
    posterior, adjust, start = tracked_posterior(config, model.posterior)
    encoder = tracked_encoder(model.encoder, posterior, adjust, sparsity, start)
    return replace(model, posterior=posterior, encoder=encoder)


def tracked_posterior(
    config: Config, posterior: Posterior
) -> tuple[Posterior, Adjust | None, float]:
    """The method's posterior, what its controller changes in it, and where that starts."""
    constants = config.hyperparameters()
    if isinstance(posterior, Thresholded) and isinstance(posterior.threshold, FixedThreshold):
        tracking = replace(posterior, threshold=TrackedThreshold())
        return tracking, set_threshold, math.log(method_threshold(config, START_SHARE))
    if config.family.rule is not None:
        ratio = method_threshold(config, START_SHARE) / constants.threshold
        return posterior, scale_threshold, math.log(ratio)
    if config.family.has_sparsity:
        return posterior, lower_spike, math.log(constants.sparsity / START_SHARE)
    return posterior, None, 0.0


def method_threshold(config: Config, sparsity: float) -> float:
    """The analytic rule of a method that has one (appendix D)."""
    rule = config.family.rule
    assert rule is not None
    return rule.threshold_of(sparsity, config.hyperparameters())


def initial_log_penalty(config: Config) -> float:
    """The norm of an atom: a datum of unit variance then correlates with it about so much."""
    return math.log(config.generator.initial_norm)


def solve_tracked(
    parameters: Parameters,
    statistics: Statistics,
    data: Float[Array, "B D"],
    penalty: Float[Array, ""],
) -> Float[Array, "B K"]:
    """FISTA's codes at the controller's penalty, in units of `penalty`."""
    tracking = penalty * jnp.exp(statistics.generator["control"])
    return fista(data, parameters.generator, tracking, **TRAINING_LIMITS).codes


def content_keys(key: Key[Array, ""], data: Float[Array, "B D"]) -> Key[Array, " B"]:
    """One key a datum that follows from its values alone, not from its place among others.

    Every value's bits are mixed with an odd number of their own, and their sum is the key's number;
    the sum of integers does not depend on its order.
    """
    zeros_alike = jnp.where(data == 0, 0.0, data)
    bits = jax.lax.bitcast_convert_type(zeros_alike, jnp.uint32)
    odd = jax.random.bits(key, (data.shape[1],), jnp.uint32) | jnp.uint32(1)
    mixed = bits * odd
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x2C1B3C6D)
    numbers = jnp.sum(mixed ^ (mixed >> 13), axis=1, dtype=jnp.uint32)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def infer_codes(
    parameters: Parameters,
    statistics: Statistics,
    data: Float[Array, "B D"],
    key: Key[Array, ""],
    *,
    model: Variational,
    config: Config,
) -> Float[Array, "B K"]:
    """The best of J codes of each datum (eq. 9), or the one that needs no draw."""
    if model.code == "deterministic":
        return model.infer(parameters, statistics, data, content_keys(key, data)).codes
    heads, _ = model.heads(parameters, statistics, data)
    return model.best_draws(
        parameters,
        statistics,
        data,
        heads,
        content_keys(key, data),
        model.final_annealing,
        max(1, DRAWN_NUMBERS // (data.shape[0] * config.num_latents)),
    )[0]


def support_probability(
    parameters: Parameters, statistics: Statistics, data: Float[Array, "B D"], *, model: Variational
) -> Float[Array, "B K"]:
    """Probability of each datum's latents to be non-zero under its posterior."""
    heads, _ = model.heads(parameters, statistics, data)
    return model.posterior.support_probability(heads)


def packed(state: TrainState) -> TrainState:
    """A state as NumPy arrays, which can be pickled."""
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def unpacked(state: TrainState) -> TrainState:
    """What `packed` packed."""
    return state._replace(key=jax.random.wrap_key_data(jnp.asarray(state.key)))
