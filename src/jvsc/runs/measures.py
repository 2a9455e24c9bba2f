"""The paper's measures, and ours, of one trained seed: settings and a model in, numbers out."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jvsc.data import Dataset
from jvsc.data.pixels import as_float
from jvsc.evaluation.code_measures import Values, measure_codes, measure_dictionary, objective_terms
from jvsc.evaluation.dense_gradients import dense_gradient_snr
from jvsc.evaluation.inference import (
    in_chunks,
    make_validate,
)
from jvsc.evaluation.posterior_draws import (
    make_best_of_draws,
    make_bound,
    make_consistency,
)
from jvsc.metrics import (
    explained_variance,
    gradient_snr,
)
from jvsc.model.model import Model
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.variational import Variational, needs_no_draw
from jvsc.runs.config import Config
from jvsc.runs.factories.models import solver_limits
from jvsc.runs.label_measures import make_frechet, make_labels
from jvsc.runs.subject import Compute, Make, Subject
from jvsc.solvers.fista import refine
from jvsc.solvers.lasso import fastest_lasso

HISTOGRAM_BINS = 40
# Of each of so many data, twenty supports are compared at once.
CONSISTENCY_CHUNK = 200


def make_codes(config: Config, model: Model, dataset: Dataset) -> Compute:
    """Measures of the codes, and what the run is validated by."""
    del dataset
    without_draws = needs_no_draw(model)

    def compute(subject: Subject) -> Values:
        inferred = subject.inferred
        values: Values = {"validation_loss": float(np.mean(inferred.validation_loss))}
        values |= measure_codes(inferred, config.eval.num_edges, config.eval.mutual_information)
        data = np.asarray(as_float(jnp.asarray(subject.data)))
        values["explained_variance"] = explained_variance(data, inferred.squared_error)
        if without_draws and model.generator.is_dictionary:
            values["zero_code_loss"] = float(np.mean(data.astype(np.float64) ** 2))
        return values

    return compute


def make_dictionary(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """Objective (10), and the optimum that codes could reach with the same dictionary."""
    del dataset
    if not model.generator.is_dictionary or needs_no_draw(model):
        return None
    settings, penalty = config.eval, config.fista.penalty
    positive, limits = config.lasso.positive_codes, solver_limits(config, training=False)

    def compute(subject: Subject) -> Values:
        dictionary = subject.parameters.generator

        def solve(rows: Float[Array, "B D"], first: int):
            del first
            return fastest_lasso(rows, dictionary, penalty, positive=positive, **limits)

        optimal, gap, iterations = in_chunks(solve, subject.data, settings.chunk)
        codes = subject.inferred.codes
        values = measure_dictionary(subject.data, codes, dictionary, penalty, optimal)
        return values | {
            "fista_gap": float(np.mean(gap)),
            "fista_iterations": float(np.mean(iterations)),
        }

    return compute


def make_refinement(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """How near to the dictionary's optimum codes come by drawing more, and by a solver's steps.

    `best_of_draws` is objective (10) of the best of `eval.best_draws` draws; `from_code_3` and
    `from_zero_3` are it after three FISTA steps from the code and from zero, and so for every
    number in `eval.refine_steps`.
    """
    del dataset
    if not (isinstance(model, Variational) and model.generator.is_dictionary):
        return None
    if needs_no_draw(model):
        return None
    settings, penalty = config.eval, config.fista.penalty
    best = make_best_of_draws(
        model,
        num_draws=settings.best_draws,
        annealing=model.final_annealing,
        penalty=penalty,
        chunk=settings.chunk,
    )

    def compute(subject: Subject) -> Values:
        data, dictionary = subject.data, subject.parameters.generator
        (least,) = best(subject.parameters, subject.statistics, data, subject.key)

        def after(steps: int, initial_codes: Float[np.ndarray, "M K"]) -> float:
            def refine_chunk(rows: Float[Array, "B D_and_K"], first: int):
                del first
                here, codes = jnp.split(rows, [data.shape[1]], axis=1)
                return (refine(here, dictionary, penalty, codes, steps),)

            rows = np.concatenate([data, initial_codes], axis=1)
            (codes,) = in_chunks(refine_chunk, rows, settings.chunk)
            return float(objective_terms(data, codes, dictionary, penalty).total())

        codes = subject.inferred.codes
        starts = {"from_code": codes, "from_zero": np.zeros_like(codes)}
        return {"best_of_draws": float(np.mean(least))} | {
            f"{name}_{steps}": after(steps, start)
            for name, start in starts.items()
            for steps in settings.refine_steps
        }

    return compute


def make_best_draw(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """What codes would be validated by if the best of J draws were used, of a run trained else."""
    del dataset
    if not isinstance(model, Variational) or needs_no_draw(model):
        return None
    if model.sampling not in ("avg", "iwae") or model.num_samples == 1:
        return None
    losses = make_validate(replace(model, sampling="max"), config.eval.chunk)

    def compute(subject: Subject) -> Values:
        draw_losses = losses(subject.parameters, subject.statistics, subject.data, subject.key)
        return {"best_draw_loss": float(np.mean(draw_losses))}

    return compute


def make_bounds(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """`iwae` and `elbo` in nats a datum, and the loss of the chosen draw that training descends."""
    del dataset
    if not isinstance(model, Variational) or model.kl_weight == 0:
        return None
    bound = make_bound(
        model,
        num_samples=config.eval.iwae_samples,
        annealing=model.final_annealing,
        chunk=config.eval.chunk,
    )

    def compute(subject: Subject) -> Values:
        iwae, elbo = bound(subject.parameters, subject.statistics, subject.data, subject.key)
        kl = subject.inferred.kl
        assert kl is not None
        weight = float(model.bound_weight(subject.statistics, subject.data.shape[1]))
        loss = subject.inferred.squared_error + weight * np.sum(kl, axis=-1)
        return {
            "iwae": float(np.mean(iwae)),
            "elbo": float(np.mean(elbo)),
            "beta_elbo_loss": float(np.mean(loss)),
        }

    return compute


def make_gradient(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """Signal-to-noise ratio of the gradient of encoder and generator, means over parameters.

    Over `eval.snr_draws` draws for each of `eval.snr_batches` batches of the validation data. None
    of an exact bound, whose gradient has no noise, and of a single draw.
    """
    del dataset
    if not isinstance(model, Variational) or model.sampling == "exact":
        return None
    if config.eval.snr_draws < 2:
        return None
    settings, annealing = config.eval, model.final_annealing
    dense = model.encoder.layers is not None and model.generator.is_dictionary
    one_code = model.sampling == "max" or model.num_samples == 1
    dense &= one_code and model.empirical_bayes is None

    def loss(parameters: Parameters, statistics: Statistics, data: Array, key: Key[Array, ""]):
        return model.bound(parameters, statistics, data, key, annealing)[0]

    @jax.jit
    def of_batch(parameters: Parameters, statistics: Statistics, batch: Array, key: Array):
        data, keys = as_float(batch), jax.random.split(key, settings.snr_draws)
        if dense:
            ratios = dense_gradient_snr(model, parameters, data, keys, annealing)
        else:
            gradient = partial(jax.grad(loss), parameters, statistics, data)
            ratios = gradient_snr(gradient, keys)
        return _mean(ratios.encoder), _mean(ratios.generator)

    def compute(subject: Subject) -> Values:
        size = min(settings.snr_batch_size, len(subject.data))
        ratios = []
        for index in range(min(settings.snr_batches, len(subject.data) // size)):
            batch = jnp.asarray(subject.data[index * size : (index + 1) * size])
            key = jax.random.fold_in(subject.key, index)
            ratios.append(of_batch(subject.parameters, subject.statistics, batch, key))
        encoder, generator = np.mean(ratios, axis=0)
        return {"encoder_snr": float(encoder), "generator_snr": float(generator)}

    return compute


def make_jaccard(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """Jaccard consistency (eq. 13), its mean and histogram over the data."""
    del dataset
    if not isinstance(model, Variational):
        return None
    measure = make_consistency(
        model,
        num_draws=config.eval.jaccard_draws,
        annealing=model.final_annealing,
        chunk=min(config.eval.chunk, CONSISTENCY_CHUNK),
    )

    def compute(subject: Subject) -> Values:
        (consistency,) = measure(subject.parameters, subject.statistics, subject.data, subject.key)
        counts, _ = np.histogram(consistency, bins=HISTOGRAM_BINS, range=(0, 1))
        return {"jaccard": float(np.mean(consistency)), "jaccard_histogram": counts.tolist()}

    return compute


def _mean(tree: Any) -> Array:
    """Mean of all numbers of a tree; NaN where it has none."""
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return jnp.float32(jnp.nan)
    return sum(jnp.sum(leaf) for leaf in leaves) / sum(leaf.size for leaf in leaves)  # type: ignore


MEASURES: dict[str, Make] = {
    "codes": make_codes,
    "dictionary": make_dictionary,
    "best_draw": make_best_draw,
    "refinement": make_refinement,
    "bounds": make_bounds,
    "gradient": make_gradient,
    "consistency": make_jaccard,
    "labels": make_labels,
    "frechet": make_frechet,
}
