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

from jvsc.model.autoencoders import SparseAutoencoder
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.posteriors import Posterior, Thresholded
from jvsc.model.solver_coded import SolverCoded
from jvsc.model.thresholds import FixedThreshold, TrackedThreshold
from jvsc.model.variational import Variational
from jvsc.runs.config import Config
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.runs.factories.optimizers import build_encoder_optimizer
from jvsc.solvers import fista
from jvsc.solvers.problem import norms_of
from jvsc.sparse_coder.settings import START_SHARE, Plan
from jvsc.sparse_coder.tracking import (
    Adjust,
    lower_spike,
    scale_threshold,
    set_threshold,
    tracked_autoencoder,
    tracked_encoder,
    tracked_generator,
)
from jvsc.training.batches import Prepare, make_prepare
from jvsc.training.epoch import Loss
from jvsc.training.mesh import DATA_AXIS
from jvsc.training.online import moments_in_place_of_gradients
from jvsc.training.state import TrainState, init_state
from jvsc.training.unit_atoms import atoms_of

# A training step of FISTA's dictionary needs no exact codes; the codes that users get are better.
TRAINING_LIMITS: dict[str, Any] = {"tolerance": 1e-2, "max_iterations": 100}
# Draws held at once for a chunk of data: so many numbers.
DRAWN_NUMBERS = 1 << 22


class Coder(NamedTuple):
    """What trains a model and what its codes are, for one choice of settings and width of data.

    Attributes:
      model: the method, with its controller.
      optimizer: of all parameters.
      loss: what training descends.
      prepare: data as they are.
      init: `keys [S] -> TrainState` before the first step, compiled.
      codes: `(parameters, statistics, data [B, D], key) -> codes [B, K]`, compiled; not of a
        solver.
      probability: `(parameters, statistics, data [B, D]) -> P(code != 0)`, [B, K]; of a posterior.
    """

    model: SolverCoded | Variational | SparseAutoencoder
    optimizer: optax.GradientTransformation
    loss: Loss
    prepare: Prepare
    init: Any
    codes: Any
    probability: Any


def make_coder(plan: Plan, num_features: int) -> Coder:
    """The programs of a plan, compiled when first called and kept.

    Args:
      plan: what is trained; its generator is a dictionary.
      num_features: D.
    """
    # pydantic makes frozen settings hashable, which their type does not tell.
    return _make_coder(plan, num_features)  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=32)
def _make_coder(plan: Plan, num_features: int) -> Coder:
    config = plan.config
    model = tracked_model(plan, num_features)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    if plan.learns_online:
        optimizer = moments_in_place_of_gradients()
    elif plan.keeps_dictionary:
        trained = build_encoder_optimizer(config, config.steps_per_epoch)
        optimizer = optax.partition(
            {"trained": trained, "kept": optax.set_to_zero()}, Parameters("trained", "kept")
        )
    codes = probability = None
    if not isinstance(model, SolverCoded):
        codes = jax.jit(partial(infer_codes, model=model, config=config))
    if isinstance(model, Variational):
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


def tracked_model(plan: Plan, num_features: int) -> SolverCoded | Variational | SparseAutoencoder:
    """The method's model, with a controller of the share of its codes' non-zeros."""
    config = plan.config
    model = build_model(config, num_features, DATA_AXIS, training=True)
    if isinstance(model, Variational) and model.empirical_bayes is not None:
        return replace(model, has_missing=plan.allows_nan)
    if isinstance(model, SolverCoded):
        generator = tracked_generator(model.generator, plan.sparsity, initial_log_penalty(config))
        solve = partial(solve_roughly, positive=plan.positive, has_missing=plan.allows_nan)
        return replace(
            model,
            generator=generator,
            solve=solve,
            has_missing=plan.allows_nan,
            penalty_factor=tracked_factor,
        )
    assert plan.sparsity is not None  # refused of other methods
    if isinstance(model, SparseAutoencoder):
        if config.method != "relu_l1":  # the others' losses hold a number of non-zeros
            return model
        tracked = tracked_autoencoder(model.autoencoder, plan.sparsity)
        return replace(model, autoencoder=tracked)
    assert isinstance(model, Variational)
    posterior, adjust, start = tracked_posterior(config, model.posterior)
    at_prior = config.encoder.name != "mlp"
    encoder = tracked_encoder(model.encoder, posterior, adjust, plan.sparsity, start, at_prior)
    return replace(model, posterior=posterior, encoder=encoder)


def tracked_posterior(
    config: Config, posterior: Posterior
) -> tuple[Posterior, Adjust | None, float]:
    """The method's posterior, what its controller changes in it, and where that starts."""
    constants = config.hyperparameters()
    if isinstance(posterior, Thresholded) and isinstance(posterior.threshold, FixedThreshold):
        tracking = replace(posterior, threshold=TrackedThreshold(constants.threshold))
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


def tracked_factor(statistics: Statistics) -> Float[Array, ""]:
    """What the controller has made of the penalty."""
    return jnp.exp(statistics.generator["control"])


def solve_roughly(
    parameters: Parameters,
    statistics: Statistics,
    data: Float[Array, "B D"],
    penalty: Float[Array, ""],
    positive: bool = False,
    has_missing: bool = False,
) -> Float[Array, "B K"]:
    """FISTA's codes for a training step."""
    del statistics
    present = ~jnp.isnan(data) if has_missing else None
    given: Any = {"positive": positive, "present": present} | TRAINING_LIMITS
    return fista(data, parameters.generator, penalty, **given).codes


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
    model: Variational | SparseAutoencoder,
    config: Config,
) -> Float[Array, "B K"]:
    """The best of J codes of each datum (eq. 9), or the one that needs no draw."""
    if isinstance(model, SparseAutoencoder) or model.code == "deterministic":
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


def with_atoms(state: TrainState, atoms: Float[np.ndarray, "K D"], keep_norms: bool) -> TrainState:
    """A state before the first step whose dictionary is a given one, with a leading axis of one.

    Args:
      state: as it begins by itself.
      atoms: the dictionary, none of them zero.
      keep_norms: whether atoms get the norms of those that they replace.
    """
    encoder, generator = state.parameters
    if keep_norms:
        norms = np.linalg.norm(np.asarray(atoms_of(generator)[0], np.float64), axis=1)
        atoms = atoms / norms_of(atoms) * norms[:, None]
    given = jnp.asarray(atoms[None], jnp.float32)
    if isinstance(generator, dict):
        encoder = encoder | {"kernel": jnp.swapaxes(given, 1, 2)}
        generator = generator | {"dictionary": given}
    else:
        generator = given
    return state._replace(parameters=Parameters(encoder, generator))


def with_penalty(state: TrainState, penalty: float) -> TrainState:
    """A state of a solver's dictionary whose codes are solved for at this penalty."""
    control = jnp.full(1, math.log(penalty), jnp.float32)
    generator = state.statistics.generator | {"control": control}
    return state._replace(statistics=state.statistics._replace(generator=generator))
