"""How good dictionaries are over the seconds of their learning: jvsc, SPAMS, scikit-learn.

    JVSC_IMAGES=IMAGES.mat python -m benchmarks dictionary

K = 256, on 80,000 whitened patches at 13 non-zeros and on 1,400 of scikit-learn's digits at 25. A
dictionary's quality is the R^2 of the lasso's codes of held-out data at a penalty that gives them
so many non-zeros; `jvsc.solvers.lasso` codes for everyone. Each learner has its own defaults, and
the penalty that is best for it of those that are tried; of patches SPAMS takes 512 a step.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import spams
from matplotlib.ticker import LogLocator, NullFormatter
from sklearn.decomposition import MiniBatchDictionaryLearning

from benchmarks.lasso import penalty_of
from benchmarks.timing import THREADS, timed
from benchmarks.workload import digits, patches
from jvsc import SparseCoder
from jvsc.solvers import lasso

NUM_ATOMS, BATCH, HELD_OUT = 256, 512, 4000


class Learned(NamedTuple):
    """A dictionary.

    Attributes:
      data: what it was learned on.
      learner: by whom.
      seconds: how long that took.
      r2: of the lasso's codes of held-out data.
    """

    data: str
    learner: str
    seconds: float
    r2: float


def quality(dictionary: np.ndarray, data: np.ndarray, non_zeros: int) -> float:
    """R^2 of the lasso's codes that have so many non-zeros."""
    atoms = np.ascontiguousarray(dictionary, np.float32)
    atoms /= np.maximum(np.linalg.norm(atoms, axis=1, keepdims=True), 1e-12)
    penalty = penalty_of(non_zeros / NUM_ATOMS, data[:1000], atoms)
    codes = lasso(data, atoms, penalty, tolerance=1e-4).codes
    return float(1 - np.sum((data - codes @ atoms) ** 2) / np.sum(data**2))


def by_jvsc(train: np.ndarray, non_zeros: float, passes: int | None = None) -> np.ndarray:
    """SparseCoder's."""
    options: Any = {"sparsity": non_zeros / NUM_ATOMS, "max_iter": passes, "random_state": 0}
    return SparseCoder(NUM_ATOMS, method="lasso", **options).fit(train).components_


def by_spams(train: np.ndarray, seconds: int, penalty: float) -> np.ndarray:
    """SPAMS's trainDL for so many seconds."""
    np.random.seed(0)
    columns = np.asfortranarray(train.T)
    learned: Any = spams.trainDL(
        columns, K=NUM_ATOMS, lambda1=penalty, numThreads=THREADS, batchsize=BATCH,
        iter=-seconds, verbose=False,
    )  # fmt: skip
    return learned.T


def by_scikit_learn(train: np.ndarray, penalty: float, **options: Any) -> np.ndarray:
    """Its MiniBatchDictionaryLearning, by LARS."""
    options = {"alpha": penalty, "n_jobs": THREADS, "random_state": 0} | options
    return MiniBatchDictionaryLearning(NUM_ATOMS, **options).fit(train).components_


def of_patches() -> Iterator[Learned]:
    """80,000 whitened patches, at 13 non-zeros."""
    train, validation = patches()
    train, held_out = standardised(train, validation[:HELD_OUT])
    measured = partial(learned, "patches", held_out, 13)
    for passes in (1, 2, 4, None, 20):
        yield measured("jvsc", by_jvsc, train, 13, passes)
    for seconds in (1, 3, 6, 15, 60):
        # Few steps suit another penalty than many.
        penalties = (2.0, 2.4, 3.2) if seconds <= 6 else (2.4,)
        tried = [measured("SPAMS", by_spams, train, seconds, penalty) for penalty in penalties]
        yield max(tried, key=lambda one: one.r2)
    options: Any = {"max_iter": 1, "batch_size": BATCH}
    yield measured("scikit-learn, 4,000 data", by_scikit_learn, train[:4000], 2.4, **options)


def of_digits() -> Iterator[Learned]:
    """1,400 digits, at 25 non-zeros."""
    train, held_out = standardised(*digits())
    measured = partial(learned, "digits", held_out, 25)
    for passes in (10, 20, None):
        yield measured("jvsc", by_jvsc, train, 25, passes)
    for penalty in (0.25, 0.35, 0.5, 0.7, 1.0):
        yield measured(f"scikit-learn, alpha {penalty}", by_scikit_learn, train, penalty)


def learned(
    data: str,
    held_out: np.ndarray,
    non_zeros: int,
    learner: str,
    learn: Callable[..., np.ndarray],
    *arguments: Any,
    **options: Any,
) -> Learned:
    """Learns a dictionary, and measures it on held-out data at so many non-zeros."""
    dictionary, seconds = timed(learn, *arguments, **options)
    return Learned(data, learner, seconds, quality(dictionary, held_out, non_zeros))


def standardised(train: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both less the mean and divided by the deviation of the first."""
    mean, scale = train.mean(axis=0), train.std()
    one, other = ((rows - mean) / scale for rows in (train, held_out))
    return np.ascontiguousarray(one, np.float32), np.ascontiguousarray(other, np.float32)


def draw(found: list[Learned], path: Path) -> None:
    """R^2 over seconds, one panel for each data."""
    names = list(dict.fromkeys(one.data for one in found))
    figure, panels = plt.subplots(1, len(names), figsize=(10, 4), layout="constrained")
    for axes, data in zip(panels, names, strict=True):
        for learner in dict.fromkeys(one.learner for one in found if one.data == data):
            points = [(one.seconds, one.r2) for one in found if one[:2] == (data, learner)]
            axes.plot(*zip(*points, strict=True), "o-", label=learner)
        axes.set(xscale="log", xlabel="seconds of learning", ylabel="R² of the lasso's codes")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{data}, K = {NUM_ATOMS}", loc="left")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def run(output: Path) -> None:
    """Prints the table and draws the curves."""
    found: list[Learned] = []
    # The first fit in a process, with what it compiles, is the first of the digits.
    print("| data | learner | seconds | R2 |\n| --- | --- | --- | --- |")
    for learn in (of_digits, of_patches):
        for one in learn():
            found.append(one)
            print(f"| {one.data} | {one.learner} | {one.seconds:.2f} | {one.r2:.4f} |", flush=True)
    draw(found, output / "dictionary.png")
