"""An estimator's parameters, and a run's settings for them."""

import math
from typing import Any, Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from jvsc.errors import UserError, refuse_beyond_memory
from jvsc.model.methods import (
    METHODS,
    AutoencoderMethod,
    SolverMethod,
    VariationalMethod,
    finds_prior,
)
from jvsc.runs.config import Config, Section, make_config
from jvsc.runs.needs import FLOAT

ENCODER_RATE, DICTIONARY_RATE = 1e-3, 3e-3
# Of method="inferred_threshold": of its dictionary, and of encoders by name. With the unrolled one
# fewer steps are longer, up to a factor: as the square root of how many fewer they are than usual.
EXPLAINING_RATE, LARGEST_FACTOR = 1e-2, 2.0
EXPLAINING_RATES = {"mlp": 1e-3, "linear": 1e-2, "unrolled": 1e-2, "message_passing": 1e-2}
# Scale of the prior's slab for dense layers, in that of the other encoders at the start.
NARROW = 0.04
# Of a sparse autoencoder, whose latents are dead after so many steps without use.
AUTOENCODER_RATE, DEAD_STEPS = 3e-3, 250
# JumpReLU's, for data of mean squared norm 1: wide enough that a fit's few thousand steps move its
# thresholds.
BANDWIDTH = 0.1
# Its penalty grows over so many steps; published are 4% of a training, and Adam without momentum.
JUMP_WARMUP_STEPS = 100
# The method of online dictionary learning.
ONLINE = "lasso"
# Steps of a usual fit.
DEFAULT_STEPS = 3000
EncoderName = Literal["mlp", "linear", "unrolled", "message_passing"]
# The share of non-zeros that is wanted where nothing is said.
SPARSITY = 0.1
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
    alpha: PositiveFloat | None
    n_samples: PositiveInt
    refine_steps: NonNegativeInt
    kl_weight: PositiveFloat
    max_iter: PositiveInt | None
    batch_size: PositiveInt | None
    sparse_output: bool
    positive_code: bool
    allow_nan: bool
    encoder: EncoderName | None
    verbose: bool
    tol: NonNegativeFloat | None
    n_iter_no_change: PositiveInt


class Plan(NamedTuple):
    """What is trained, and how; programs are compiled for it.

    Attributes:
      config: a run's settings.
      sparsity: share of non-zeros that a controller holds; None where there is none, as with a
        given penalty.
      keeps_dictionary: whether the encoder alone is trained.
      positive: whether the lasso's codes may not be negative.
      learns_online: whether the dictionary is made of codes' moments, not by gradient steps.
      allows_nan: whether NaN is an entry that is not there.
    """

    config: Config
    sparsity: float | None
    keeps_dictionary: bool = False
    positive: bool = False
    learns_online: bool = False
    allows_nan: bool = False


def make_plan(
    settings: CoderSettings,
    num_features: int,
    batch_size: int,
    steps_per_epoch: int = 1,
    num_epochs: int | None = None,
) -> Plan:
    """What an estimator's parameters ask for; without `num_epochs` its rates stay constant.

    Raises:
      UserError: for a parameter that does not apply to the method.
    """
    check_parameters(settings)
    learns_online = settings.method == ONLINE
    if learns_online:
        settings = settings.model_copy(update={"method": "fista"})
    check_memory(settings, num_features, batch_size, learns_online)
    method = METHODS[settings.method]
    online = num_epochs is None
    common = {
        "method": settings.method,
        "num_epochs": num_epochs or 1,
        "batch_size": batch_size,
        "num_latents": settings.n_components,
        "num_samples": settings.n_samples,
        "seeds": (0,),
        "data": {"num_train": batch_size * steps_per_epoch},
        "annealing": {"warmup_start": 1.0},
    }
    if isinstance(method, AutoencoderMethod):
        special = _autoencoder_settings(settings, num_features, batch_size, online)
    elif finds_prior(method):
        num_steps = None if num_epochs is None else num_epochs * steps_per_epoch
        special = _explaining_settings(settings, num_features, num_steps)
    else:
        special = _drawn_or_solved_settings(settings, num_features, num_epochs)
    return Plan(
        make_config(common | special),
        None if settings.alpha else settings.sparsity,
        positive=settings.positive_code,
        learns_online=learns_online,
        allows_nan=settings.allow_nan,
    )


def check_parameters(settings: CoderSettings) -> None:
    """Refuses parameters that do not apply to the method.

    Raises:
      UserError: naming one, and what to do.
    """
    name = settings.method
    method = METHODS[name]
    solves, explains = isinstance(method, SolverMethod), finds_prior(method)
    if settings.alpha is not None and not solves:
        raise UserError(
            f"alpha does not apply to {name}, which has no such penalty; leave it None, or give "
            "method='lasso' or 'fista'"
        )
    if settings.alpha is not None and settings.sparsity not in (None, SPARSITY):
        raise UserError(
            f"alpha={settings.alpha} and sparsity={settings.sparsity} both decide how sparse codes "
            "are; give one of them"
        )
    if settings.sparsity is None and not (explains or settings.alpha):
        hint = "a share, or alpha" if solves else "a share"
        raise UserError(f"sparsity=None does not apply to {name}; give {hint}")
    if settings.encoder is not None and not isinstance(method, VariationalMethod):
        raise UserError(f"encoder does not apply to {name}; leave it None")
    if settings.encoder == "message_passing" and not explains:
        raise UserError(
            f"encoder='message_passing' does not apply to {name}; give another, or "
            "method='inferred_threshold'"
        )
    if settings.refine_steps and isinstance(method, AutoencoderMethod):
        raise UserError(f"refine_steps does not apply to {name}; leave it 0")
    if settings.allow_nan:
        _check_allow_nan(settings, solves, explains)
    if settings.positive_code and not solves:
        raise UserError(
            f"positive_code does not apply to {name}; leave it False, or give method='lasso' or "
            "'fista' (a sparse autoencoder's codes are never negative anyway)"
        )


def _check_allow_nan(settings: CoderSettings, solves: bool, explains: bool) -> None:
    if not (solves or explains):
        raise UserError(
            f"allow_nan=True does not apply to {settings.method}; fill what is missing, or give "
            "method='inferred_threshold', 'lasso' or 'fista'"
        )
    if settings.sparsity is None and explains:
        raise UserError(
            "sparsity=None learns the noise, and with it no code where much is NaN; give a share"
        )
    if settings.encoder == "message_passing":
        raise UserError("allow_nan=True does not apply to encoder='message_passing'; leave it None")
    if settings.refine_steps and explains:
        raise UserError("refine_steps would need the entries that are NaN; leave it 0")


def _hidden(num_features: int) -> tuple[int, ...]:
    """Widths of the layers of a dense encoder."""
    width = min(max(num_features, 32), 256)
    return 2 * width, 4 * width, 2 * width, width


def _drawn_or_solved_settings(
    settings: CoderSettings, num_features: int, num_epochs: int | None
) -> dict[str, Any]:
    """Of methods that draw their codes, or solve for them.

    The dictionary starts where codes of the prior have the data's variance, one a column. The KL is
    weighed against a dictionary that has it with the wanted share of non-zeros. By a given penalty
    atoms have norm 1: else they would grow until it counts for nothing.
    """
    lasso_codes = isinstance(METHODS[settings.method], SolverMethod)
    has_sparsity = METHODS[settings.method].has_sparsity
    wanted = settings.sparsity or SPARSITY
    share = wanted if has_sparsity or lasso_codes else START_SHARE
    norm = math.sqrt(num_features / (PRIOR["variance"] * settings.n_components * share))
    return {
        "sparsity": settings.sparsity if has_sparsity else None,
        "kl_weight": 2 * settings.kl_weight * norm / num_features,
        "prior": PRIOR,
        "fista": {"penalty": 1.0, "warmup_start": 1.0},
        "encoder": {
            "name": settings.encoder or "mlp",
            "optimizer": "adam",
            "schedule": "constant" if num_epochs is None else "one_cycle",
            "learning_rate": ENCODER_RATE,
            "max_gradient_norm": 1.0,
            "hidden": _hidden(num_features),
        },
        "generator": {
            "optimizer": "adam",
            "learning_rate": DICTIONARY_RATE,
            "decay": 1.0 if num_epochs is None else LAST_RATE ** (1 / num_epochs),
            "initial_norm": norm if lasso_codes else norm * (share / START_SHARE) ** 0.5,
            "frobenius": 0.0,
        }
        | ({"initial_norm": 1.0, "unit_norm": True} if settings.alpha else {}),
    }


def _explaining_settings(
    settings: CoderSettings, num_features: int, num_steps: int | None
) -> dict[str, Any]:
    """Of the method that finds its noise and prior, by default with an unrolled encoder.

    The prior's slab begins at the scale at which codes of the wanted share have half of the data's
    variance. Without a wanted share the noise's variance is learned, and decides it.
    """
    sparsity = FIRST_SPARSITY if settings.sparsity is None else settings.sparsity
    scale = math.sqrt(num_features / (4 * settings.n_components * sparsity))
    name, online = settings.encoder or "unrolled", num_steps is None
    # Dense layers must learn first where to open their gates, which a wide prior would close.
    narrow_prior = {"scale": NARROW * scale, "learns_scale": False, "learns_sparsity": False}
    factor = 1.0
    if name == "unrolled" and num_steps is not None:
        factor = min(max(1.0, math.sqrt(DEFAULT_STEPS / num_steps)), LARGEST_FACTOR)
    return {
        "sampling": "exact",
        "num_samples": 1,
        "sparsity": sparsity,
        "prior": {"scale": scale} if name != "mlp" else narrow_prior,
        "noise": {
            "rule": "learned" if settings.sparsity is None else "controlled",
            "control_until": 1.0 if online else 0.9,
        },
        "annealing": {"warmup_start": 1.0, "kl_warmup_share": 0.0 if online else 0.1},
        "encoder": {
            "name": name,
            "optimizer": "adam",
            "schedule": "constant" if online else "one_cycle",
            "learning_rate": factor * EXPLAINING_RATES[name],
            "max_gradient_norm": 1.0,
        }
        | ({"hidden": _hidden(num_features)[:1], "start_at_prior": True} if name == "mlp" else {}),
        "generator": {
            "optimizer": "adam",
            "schedule": "exponential" if online else "one_cycle",
            "learning_rate": factor * EXPLAINING_RATE,
            "decay": 1.0,
            "max_gradient_norm": 1.0,
            "unit_norm": True,
            "frobenius": 0.0,
        },
    }


def _autoencoder_settings(
    settings: CoderSettings, num_features: int, batch_size: int, online: bool
) -> dict[str, Any]:
    """Of sparse autoencoders; as many dead latents model the error as Gao et al. (2024) advise."""
    assert settings.sparsity is not None  # refused before
    active = max(1, round(settings.sparsity * settings.n_components))
    jumps = settings.method == "jump_relu"
    # JumpReLU's target counts against an error that is of the data's mean squared norm, D.
    holds = {
        "penalty": float(num_features),
        "penalty_warmup_steps": 0 if online else JUMP_WARMUP_STEPS,
        "target_active": active,
    }
    return {
        "encoder": {
            "optimizer": "adam",
            "schedule": "constant" if online else "one_cycle",
            "learning_rate": AUTOENCODER_RATE,
        }
        | ({"momentum": 0.0} if jumps else {}),
        "autoencoder": {
            "active": active,
            "auxiliary_active": max(1, num_features // 2),
            "dead_after": DEAD_STEPS * batch_size,
            "bandwidth": BANDWIDTH,
            "initial_threshold": BANDWIDTH,
        }
        | (holds if jumps else {}),
    }


def check_memory(
    settings: CoderSettings, num_features: int, batch_size: int, learns_online: bool = False
) -> None:
    """Refuses parameters whose arrays the machine cannot hold.

    Raises:
      UserError: naming them and what they would take.
    """
    latents = settings.n_components
    method = METHODS[settings.method]
    # Online the moments of codes, before a step and after it.
    moments = 2 * learns_online * latents**2 * FLOAT
    draws = isinstance(method, VariationalMethod) and not finds_prior(method)
    refuse_beyond_memory(
        {
            # The dictionary, its gradient, and Adam's two averages of it.
            "n_components": 4 * latents * num_features * FLOAT + moments,
            "n_components and batch_size": latents * batch_size * FLOAT,
            "n_samples, n_components and batch_size": draws
            * settings.n_samples
            * latents
            * batch_size
            * FLOAT,
        }
    )
