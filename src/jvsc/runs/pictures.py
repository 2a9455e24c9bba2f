"""What a run's pictures show: made here from its model, drawn in `report`."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jvsc.data import Dataset
from jvsc.data.pixels import as_float
from jvsc.evaluation.posterior_draws import prior_codes
from jvsc.metrics import estimated_dictionary
from jvsc.model.model import Model
from jvsc.model.networks import Generator
from jvsc.model.parameters import Parameters, Statistics
from jvsc.model.variational import Variational
from jvsc.runs.config import Config
from jvsc.runs.evaluate import Evaluation
from jvsc.runs.report.figures import draw_images, draw_rows, grey_at_zero
from jvsc.solvers import fista

NUM_SHOWN = 16
NUM_TRAVERSED = 10
NUM_PRIOR_SAMPLES = 64
NUM_ATOMS = 64


def draw_run(config: Config, workdir: Path, dataset: Dataset, evaluation: Evaluation) -> list[Path]:
    """Draws a run's generator, its reconstructions, and what its latents stand for.

    Returns:
      The PNGs' paths; none if all seeds diverged, or if the data are not images.
    """
    if evaluation.inferred is None or len(dataset.shape) == 1:
        return []
    paths = []
    model, variables = evaluation.model, (evaluation.parameters, evaluation.statistics)
    codes = evaluation.inferred.codes
    chosen = np.linspace(0, len(codes) - 1, NUM_SHOWN).astype(int)
    rows = {"data": np.asarray(as_float(jnp.asarray(dataset.validation[chosen])))}
    shown = {config.method.replace("_", "\n"): jnp.asarray(codes[chosen])}
    is_dictionary = model.generator.is_dictionary
    # Codes that a solver shrinks are shown beside those of a method that weighs (10), as it does.
    if is_dictionary and isinstance(model, Variational) and model.empirical_bayes is None:
        dictionary = jnp.asarray(evaluation.parameters.generator)
        shown["FISTA"] = fista(jnp.asarray(rows["data"]), dictionary, config.fista.penalty).codes
    for name, some in shown.items():
        rows[name] = generated(model, *variables, some)
    path = workdir / "reconstructions.png"
    paths.append(draw_rows(rows, dataset.shape, path, signed=dataset.signed))
    if is_dictionary:
        atoms = np.asarray(evaluation.parameters.generator)
        return [*paths, draw_images(atoms, dataset.shape, workdir / "dictionary.png", signed=True)]
    images = generated(model, *variables, traversal(codes, int(chosen[0])))
    labelled = {f"latent {k}": row for k, row in zip(most_used(codes), images, strict=True)}
    paths.append(draw_rows(labelled, dataset.shape, workdir / "traversals.png"))
    if isinstance(model, Variational):
        images = prior_images(model, *variables)
        paths.append(draw_images(images, dataset.shape, workdir / "prior_samples.png"))
    return [*paths, *draw_estimated(dataset, evaluation, codes, workdir)]


def draw_estimated(
    dataset: Dataset, evaluation: Evaluation, codes: Float[np.ndarray, "M K"], workdir: Path
) -> list[Path]:
    """Draws the estimated dictionary, and its entries that go with each attribute (Figures 6, 8).

    An entry is shown with the sign of its latent's correlation with the attribute.
    """
    data = np.asarray(as_float(jnp.asarray(dataset.validation[: len(codes)])))
    atoms = estimated_dictionary(data, codes)
    shown = atoms[most_used(codes, NUM_ATOMS)]
    path = workdir / "estimated_dictionary.png"
    paths = [draw_images(shown, dataset.shape, path, signed=True)]
    tops = [top for top in evaluation.report["metrics"].get("top_latents", []) if top]
    if tops:
        rows = {}
        for name, latents in tops[0].items():
            oriented = np.stack([np.sign(r) * atoms[k] for k, r in latents])
            rows[f"{name}, {latents[0][1]:+.2f}"] = grey_at_zero(oriented)
        paths.append(draw_rows(rows, dataset.shape, workdir / "attributes.png"))
    return paths


def draw_epoch(
    epoch: int,
    model: Model,
    parameters: Parameters,
    statistics: Statistics,
    dataset: Dataset,
    workdir: Path,
) -> Path | None:
    """Draws a dictionary, or samples of a network's prior, as they are after an epoch."""
    if len(dataset.shape) == 1:
        return None
    if model.generator.is_dictionary:
        path = workdir / f"dictionary_epoch_{epoch:04d}.png"
        return draw_images(np.asarray(parameters.generator), dataset.shape, path, signed=True)
    if not isinstance(model, Variational):
        return None
    path = workdir / f"prior_samples_epoch_{epoch:04d}.png"
    return draw_images(prior_images(model, parameters, statistics), dataset.shape, path)


def prior_images(
    model: Variational, parameters: Parameters, statistics: Statistics
) -> Float[np.ndarray, "N D"]:
    """Data generated from codes of the prior."""
    num_latents = jax.tree.leaves(parameters.encoder["loc"])[0].shape[-1]
    codes = prior_codes(model.posterior, NUM_PRIOR_SAMPLES, num_latents, statistics.prior)
    return generated(model, parameters, statistics, codes)


def generated(
    model: Model, parameters: Parameters, statistics: Statistics, codes: Float[Array, "*B K"]
) -> Float[np.ndarray, "*B D"]:
    """What codes generate; in one program, as a network's operations take seconds one by one."""
    network = model.generator
    return np.asarray(_apply(network, parameters.generator, statistics.generator, codes))


@partial(jax.jit, static_argnums=0)
def _apply(
    network: Generator, parameters: Any, statistics: Any, codes: Float[Array, "*B K"]
) -> Float[Array, "*B D"]:
    return network.apply(parameters, statistics, codes, False)[0]


def most_used(codes: Float[np.ndarray, "N K"], count: int = NUM_TRAVERSED) -> list[int]:
    """The latents of the largest mean square, the largest first."""
    return np.argsort(-np.mean(codes**2, axis=0), kind="stable")[:count].tolist()


def traversal(codes: Float[np.ndarray, "N K"], datum: int) -> Float[Array, "L T K"]:
    """One datum's code with each of the most used latents swept in turn.

    A latent sweeps evenly between plus and minus the 99th percentile of its size.
    """
    latents = most_used(codes)
    limits = np.percentile(np.abs(codes[:, latents]), 99, axis=0)
    swept = np.tile(codes[datum], (len(latents), NUM_SHOWN, 1))
    for row, (latent, limit) in enumerate(zip(latents, limits, strict=True)):
        swept[row, :, latent] = np.linspace(-limit, limit, NUM_SHOWN)
    return jnp.asarray(swept)
