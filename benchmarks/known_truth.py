"""Codes whose truth is known: are the atoms found, and do the probabilities mean what they say?

    python -m benchmarks.known_truth [--noise=0.1] [--picture=calibration.png]

Data are sums of 5% of 128 random atoms in 64 dimensions with Laplacian sizes, and noise with a
tenth of their variance. SparseCoder at the true share and with a learned noise (`sparsity=None`),
approximate message passing (`encoder.name=message_passing`, noise and prior learned), SPAMS's
dictionary, and OMP on the true one, to the noise that made the data or with as many non-zeros of
every datum.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import ml_collections
import numpy as np
import spams
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table

from benchmarks.quality import omp
from benchmarks.timing import THREADS
from configs import activations
from jvsc import SparseCoder
from jvsc.model.variational import Variational
from jvsc.runs.config import make_config
from jvsc.runs.train import train
from jvsc.runs.trained_model import load

DIMENSIONS, ATOMS, SHARE, NUM_TRAIN, NUM_TEST = 64, 128, 0.05, 50_000, 5_000
# An atom counts as found where one learned has such a cosine with it.
COSINE = 0.95
NUM_BINS = 15


class Truth(NamedTuple):
    """Data made of known atoms.

    Attributes:
      atoms: of norm 1.
      train: to learn from.
      test: others.
      support: where the codes of `test` are not zero.
      noise_energy: mean squared norm of a datum's noise.
    """

    atoms: Float[np.ndarray, "K D"]
    train: Float[np.ndarray, "N D"]
    test: Float[np.ndarray, "M D"]
    support: Bool[np.ndarray, "M K"]
    noise_energy: float


def make_truth(noise: float, seed: int = 0) -> Truth:
    """Data with a share `noise` of the signal's variance as noise."""
    random = np.random.default_rng(seed)
    atoms = random.normal(size=(ATOMS, DIMENSIONS))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    shape = (NUM_TRAIN + NUM_TEST, ATOMS)
    support = random.random(shape) < SHARE
    signal = (support * random.laplace(size=shape)) @ atoms
    deviation = np.sqrt(noise * signal.var())
    data = (signal + deviation * random.normal(size=signal.shape)).astype(np.float32)
    parts = data[:NUM_TRAIN], data[NUM_TRAIN:], support[NUM_TRAIN:]
    return Truth(atoms, *parts, float(DIMENSIONS * deviation**2))


def matched(
    truth: Truth, dictionary: Float[np.ndarray, "K D"]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Share of true atoms found, their places, and the learned atoms that they are nearest to."""
    unit = dictionary / np.linalg.norm(dictionary, axis=1, keepdims=True)
    cosine = np.abs(truth.atoms @ unit.T)
    found = cosine.max(axis=1) > COSINE
    return float(found.mean()), np.flatnonzero(found), cosine.argmax(axis=1)[found]


class Curve(NamedTuple):
    """Probabilities in equal bins, of those that hold any.

    Attributes:
      said: mean of each bin.
      true: share of them that came true.
      size: how many they are.
    """

    said: Float[np.ndarray, " n"]
    true: Float[np.ndarray, " n"]
    size: Float[np.ndarray, " n"]

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return float(np.average(np.abs(self.said - self.true), weights=self.size))


def calibration(probability: Float[np.ndarray, " N"], truth: Bool[np.ndarray, " N"]) -> Curve:
    """Said and true."""
    bins = np.minimum((probability * NUM_BINS).astype(int), NUM_BINS - 1)
    count, said, true = (
        np.bincount(bins, weights, NUM_BINS).astype(np.float64)
        for weights in (None, probability, truth)
    )
    some = count > 0
    return Curve(said[some] / count[some], true[some] / count[some], count[some])


def draw(curves: dict[str, Curve], file: Path) -> None:
    """Said over true probability, and how many are said of each, a column a method."""
    figure, axes = plt.subplots(
        2, len(curves), figsize=(4 * len(curves), 5.2), sharex=True, sharey="row",
        height_ratios=(3, 1), layout="constrained", squeeze=False,
    )  # fmt: skip
    for (above, below), (name, curve) in zip(axes.T, curves.items(), strict=True):
        above.plot((0, 1), (0, 1), color="0.7", linewidth=1)
        above.plot(curve.said, curve.true, "o-", markersize=4)
        above.set_title(f"{name}\nexpected calibration error {curve.error:.3f}", fontsize=10)
        below.bar(curve.said, curve.size / curve.size.sum(), 0.8 / NUM_BINS)
        below.set(yscale="log", xlabel="probability of a non-zero, as said")
        for axis in (above, below):
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("share that is not zero in truth")
    axes[1, 0].set_ylabel("share of them")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def row_of(
    name: str, truth: Truth, dictionary: np.ndarray, probability: np.ndarray, seconds: float
) -> tuple[list[str], Curve]:
    """A row of the table, and the calibration curve."""
    share, true, learned = matched(truth, dictionary)
    said, real = probability[:, learned], truth.support[:, true]
    curve = calibration(said.ravel(), real.ravel())
    doubtful = said > 0.02
    shown = calibration(said[doubtful], real[doubtful]).error
    chosen = said > 0.5
    precision, recall = real[chosen].mean(), chosen[real].mean()
    cells = [f"{100 * share:.1f}%", f"{curve.error:.4f}", f"{shown:.4f}", f"{precision:.3f}"]
    nonzeros = np.sum(probability > 0.5, axis=1).mean()
    return [name, *cells, f"{recall:.3f}", f"{nonzeros:.2f}", f"{seconds:.1f}"], curve


def by_message_passing(truth: Truth, folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Dictionary and probabilities of a run with noise and prior learned."""
    settings: ml_collections.ConfigDict = activations.get_config("inferred_threshold")
    changes: dict[str, Any] = {
        "num_latents": ATOMS,
        "data.path": str(folder / "data.npy"),
        "data.num_train": NUM_TRAIN,
        "data.num_validation": NUM_TEST,
        "num_epochs": 6,
        "sparsity": SHARE,
        "noise.rule": "learned",
        "noise.variance": 0.5,
        "encoder.name": "message_passing",
        "encoder.steps": 8,
        "generator.learning_rate": 1e-2,
    }
    settings.update_from_flattened_dict(changes)
    np.save(folder / "data.npy", np.concatenate([truth.train, truth.test]))
    config = make_config(settings.to_dict())
    start = time.perf_counter()
    trained = train(config, folder / "run", Console(quiet=True))
    seconds = time.perf_counter() - start
    found = load(folder / "run")
    model = found.model
    assert isinstance(model, Variational)
    data = trained.dataset.validation
    heads, _ = jax.jit(model.heads)(found.parameters, found.statistics, data)
    probability = np.asarray(model.posterior.support_probability(heads))
    return np.asarray(found.parameters.generator), probability, seconds


def by_spams(truth: Truth) -> tuple[np.ndarray, float]:
    """SPAMS's dictionary after 1,000 iterations."""
    columns = np.asfortranarray(truth.train.T)
    start = time.perf_counter()
    atoms: Any = spams.trainDL(
        columns, K=ATOMS, lambda1=0.5, iter=1000, batchsize=512, numThreads=THREADS, verbose=False
    )
    return atoms.T, time.perf_counter() - start


def by_omp(truth: Truth) -> Iterator[tuple[str, np.ndarray]]:
    """Codes on the true dictionary: to shares of the noise's energy, or as many of each datum."""
    for share in (1.2, 1.0, 0.8):
        codes = omp(truth.test, truth.atoms, tol=share * truth.noise_energy)
        yield f"OMP to {share} of the noise, true dictionary", codes
    for count in (4, 6):
        codes = omp(truth.test, truth.atoms, n_nonzero_coefs=count)
        yield f"OMP, {count} each, true dictionary", codes


def main() -> None:
    """Prints a table and the calibration curves."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.known_truth")
    parser.add_argument("--noise", type=float, default=0.1, help="share of the signal's variance")
    parser.add_argument("--picture", type=Path, help="where the calibration curves are drawn")
    arguments = parser.parse_args()
    truth = make_truth(arguments.noise)
    table = Table("", "atoms found", "ECE", "ECE, P > .02", "precision", "recall", "non-zeros", "s")
    curves = {}

    for sparsity in (SHARE, None):
        start = time.perf_counter()
        coder = SparseCoder(ATOMS, sparsity=sparsity, random_state=0).fit(truth.train)
        seconds = time.perf_counter() - start
        name = f"SparseCoder, sparsity={sparsity}"
        probability = coder.predict_support_proba(truth.test)
        cells, curves[name] = row_of(name, truth, coder.components_, probability, seconds)
        table.add_row(*cells)

    with tempfile.TemporaryDirectory() as folder:
        dictionary, probability, seconds = by_message_passing(truth, Path(folder))
    name = "message passing, all learned"
    cells, curves[name] = row_of(name, truth, dictionary, probability, seconds)
    table.add_row(*cells)

    dictionary, seconds = by_spams(truth)
    share = f"{100 * matched(truth, dictionary)[0]:.1f}%"
    table.add_row("SPAMS", share, *["-"] * 5, f"{seconds:.1f}")

    for name, codes in by_omp(truth):
        chosen = codes != 0
        precision, recall = truth.support[chosen].mean(), chosen[truth.support].mean()
        table.add_row(
            name, "-", "-", "-", f"{precision:.3f}", f"{recall:.3f}",
            f"{chosen.sum(axis=1).mean():.2f}", "-",
        )  # fmt: skip
    Console(width=140).print(table)
    for name, curve in curves.items():
        pairs = (
            f"{said:.2f}/{true:.2f}" for said, true in zip(curve.said, curve.true, strict=True)
        )
        print(f"{name}, said/true: {' '.join(pairs)}")
    if arguments.picture is not None:
        draw(curves, arguments.picture)


if __name__ == "__main__":
    main()
