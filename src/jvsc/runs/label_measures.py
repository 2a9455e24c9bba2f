"""Measures with labels, and Frechet distances of images, of one trained seed."""

from collections.abc import Callable
from functools import cache

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Shaped

from jvsc.data import Dataset
from jvsc.data.paths import default_cache, user_path
from jvsc.errors import UserError
from jvsc.evaluation.code_measures import Values
from jvsc.evaluation.features.frechet_features import Features, load_inception, own_classifier
from jvsc.evaluation.inference import (
    in_chunks,
    inference_key,
)
from jvsc.evaluation.posterior_draws import (
    prior_codes,
)
from jvsc.metrics import (
    frechet_distance_of_moments,
    linear_probe,
    moments,
    point_biserial,
)
from jvsc.metrics.frechet import Moments
from jvsc.model.model import Model
from jvsc.model.variational import Variational
from jvsc.runs.config import Config, differences
from jvsc.runs.factories.models import build_infer
from jvsc.runs.restore import restore_state, seed_variables
from jvsc.runs.subject import Compute, Subject
from jvsc.runs.trained_model import seed_index
from jvsc.runs.workdir import FREE, read_config

TOP_LATENTS = 4


def make_labels(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """Correlation of latents with attributes, and how well a linear probe reads them."""
    if dataset.read_labels is None:
        return None
    labels = dataset.read_labels()
    probe_data, probe_labels = probed(
        np.asarray(dataset.train), labels.train, config.eval.probe_train
    )
    infer, infer_baseline = build_infer(config, model), baseline_inference(config, dataset)
    data = dataset.validation[: config.eval.num_validation]
    here = labels.validation[: len(data)]
    key = inference_key(config.eval.seed)
    # Another key than the validation codes'.
    probe_key = jax.random.fold_in(key, 1)

    def accuracy(seen: Float[np.ndarray, "P K"], codes: Float[np.ndarray, "M K"]) -> float:
        return linear_probe(seen, probe_labels, codes, here, labels.exclusive)

    @cache
    def of_baseline() -> Values:
        if infer_baseline is None:
            return {}
        codes = infer_baseline(probe_data, probe_key), infer_baseline(data, key)
        return {"baseline_probe_accuracy": accuracy(*codes)}

    def compute(subject: Subject) -> Values:
        codes = subject.inferred.codes
        correlation = point_biserial(codes, here)
        top = np.argsort(-np.abs(correlation), axis=0, kind="stable")[:TOP_LATENTS]
        seen = infer(subject.parameters, subject.statistics, probe_data, probe_key).codes
        return {
            "attribute_correlation": float(np.abs(correlation).max(axis=0).mean()),
            "top_latents": {
                name: [[int(k), round(float(correlation[k, index]), 4)] for k in top[:, index]]
                for index, name in enumerate(labels.names)
            },
            "probe_accuracy": accuracy(seen, codes),
            **of_baseline(),
        }

    return compute


def make_frechet(config: Config, model: Model, dataset: Dataset) -> Compute | None:
    """Frechet distances of a network's reconstructions and prior samples to the data.

    In Inception's features where `fid.weights` names them; else in those of a small classifier of
    the data's own labels; else the reason why there are none.
    """
    if not config.has_network_generator:
        return None
    features = build_features(config, dataset)
    if features is None:
        reason = "no Frechet distance: give fid.weights, Inception's, or data with labels"
        return lambda subject: {"frechet_features": reason}
    data = dataset.validation[: config.eval.num_validation][: config.fid.num_images]
    generate = jax.jit(lambda *arguments: model.generator.apply(*arguments)[:1], static_argnums=3)

    # The same for all seeds, and minutes of Inception's work.
    @cache
    def of_data() -> Moments:
        return moments(features.of(data))

    def compute(subject: Subject) -> Values:
        codes = subject.inferred.codes[: len(data)]

        def distance(codes: Float[np.ndarray, "N K"]) -> float:
            variables = (subject.parameters.generator, subject.statistics.generator)
            (images,) = in_chunks(
                lambda rows, first: generate(*variables, rows, False), codes, config.eval.chunk
            )
            return frechet_distance_of_moments(moments(features.of(images)), of_data())

        values: Values = {
            "frechet_features": features.description,
            "frechet_reconstructions": distance(codes),
        }
        if isinstance(model, Variational):
            found = subject.statistics.prior
            drawn = prior_codes(model.posterior, len(data), codes.shape[1], found)
            values["frechet_prior"] = distance(np.asarray(drawn))
        return values

    return compute


def build_features(config: Config, dataset: Dataset) -> Features | None:
    """The features that images are compared in; None where there are neither weights nor labels."""
    if config.fid.weights:
        return load_inception(user_path(config.fid.weights, "fid.weights"), dataset.shape)
    if dataset.read_labels is None:
        return None
    folder = (
        user_path(config.fid.cache_dir, "fid.cache_dir")
        if config.fid.cache_dir
        else default_cache()
    )
    return own_classifier(dataset, dataset.read_labels(), config.data.name, folder)


def baseline_inference(
    config: Config, dataset: Dataset
) -> Callable[[Shaped[np.ndarray, "N D"], Key[Array, ""]], Float[np.ndarray, "N K"]] | None:
    """Codes of the run in `eval.baseline`, as a function; None without one.

    Of its first seed that did not diverge. It may be trained meanwhile: it is only read.

    Raises:
      UserError: if there is no such run, or it was trained on other data.
    """
    if not config.eval.baseline:
        return None
    workdir = user_path(config.eval.baseline, "eval.baseline")
    other = read_config(workdir)
    differing = differences(other, config, ignore=FREE)
    if any(line.startswith("data.") for line in differing):
        raise UserError(f"eval.baseline={workdir} is a run on other data; give one on the same")
    model, state = restore_state(other, workdir, dataset.train.shape[1], reading=True)
    variables = seed_variables(state, seed_index(other, workdir))
    infer = build_infer(other, model)
    return lambda data, key: infer(*variables, data, key).codes


def probed(
    data: Shaped[np.ndarray, "N D"], labels: Bool[np.ndarray, "N A"], count: int
) -> tuple[Shaped[np.ndarray, "P D"], Bool[np.ndarray, "P A"]]:
    """`count` training data, evenly spread, for a probe to be fitted on, and their labels."""
    chosen = np.linspace(0, len(data) - 1, min(count, len(data))).astype(int)
    return data[chosen], labels[chosen]
