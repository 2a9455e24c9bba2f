"""How good dictionaries are over the seconds of their learning: jvsc, SPAMS, scikit-learn.

    JVSC_IMAGES=IMAGES.mat python -m benchmarks.dictionary [--output DIR] [--longest SECONDS]

Whitened patches, K = 256. A dictionary's quality is the R^2 of the lasso's codes of 4,000 held-out
patches at a penalty that gives them 13 non-zeros; `jvsc.solvers.lasso` codes for everyone. Each
learner learns at a penalty of 13 non-zeros on its training data, in batches of 512.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import spams
from sklearn.decomposition import MiniBatchDictionaryLearning

from benchmarks.lasso import penalty_of
from benchmarks.workload import patches
from jvsc import SparseCoder
from jvsc.solvers import lasso

NUM_ATOMS, NON_ZEROS, BATCH, HELD_OUT, THREADS = 256, 13, 512, 4000, 2


def quality(dictionary: np.ndarray, data: np.ndarray) -> tuple[float, float]:
    """R^2 of the lasso's codes at the wanted non-zeros, and how many there are."""
    atoms = np.ascontiguousarray(dictionary, np.float32)
    atoms /= np.maximum(np.linalg.norm(atoms, axis=1, keepdims=True), 1e-12)
    penalty = penalty_of(NON_ZEROS / NUM_ATOMS, data[:1000], atoms)
    codes = lasso(data, atoms, penalty, tolerance=1e-4).codes
    error = np.sum((data - codes @ atoms) ** 2) / np.sum(data**2)
    return float(1 - error), float((codes != 0).sum(axis=1).mean())


def by_jvsc(train: np.ndarray, passes: int) -> np.ndarray:
    """SparseCoder's."""
    coder = SparseCoder(
        NUM_ATOMS, method="lasso", sparsity=NON_ZEROS / NUM_ATOMS, max_iter=passes, random_state=0
    )
    return coder.fit(train).components_


def by_spams(train: np.ndarray, seconds: int, penalty: float) -> np.ndarray:
    """SPAMS's trainDL for so many seconds."""
    np.random.seed(0)
    columns = np.asfortranarray(train.T)
    learned: Any = spams.trainDL(
        columns, K=NUM_ATOMS, lambda1=penalty, numThreads=THREADS, batchsize=BATCH,
        iter=-seconds, verbose=False,
    )  # fmt: skip
    return learned.T


def by_scikit_learn(train: np.ndarray, passes: int, penalty: float) -> np.ndarray:
    """Its MiniBatchDictionaryLearning, by LARS."""
    options: Any = {"alpha": penalty, "batch_size": BATCH, "n_jobs": THREADS, "random_state": 0}
    learner = MiniBatchDictionaryLearning(NUM_ATOMS, max_iter=passes, **options)
    return learner.fit(train).components_


def main() -> None:
    """Prints the table and draws the curves."""
    parser = argparse.ArgumentParser(description="dictionaries over the seconds of their learning")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of SPAMS at most")
    arguments = parser.parse_args()
    train, validation = patches()
    mean, scale = train.mean(axis=0), train.std()
    train = np.ascontiguousarray((train - mean) / scale, np.float32)
    held_out = np.ascontiguousarray((validation[:HELD_OUT] - mean) / scale, np.float32)
    by_jvsc(train[:2000], 1)  # compiles
    found: dict[str, list[tuple[float, float]]] = {}
    print("| learner | seconds | R2 | non-zeros |\n| --- | --- | --- | --- |")

    def add(name: str, learn: Callable[[], np.ndarray]) -> np.ndarray:
        start = time.perf_counter()
        dictionary = learn()
        seconds = time.perf_counter() - start
        r2, count = quality(dictionary, held_out)
        found.setdefault(name, []).append((seconds, r2))
        print(f"| {name} | {seconds:.2f} | {r2:.4f} | {count:.1f} |", flush=True)
        return dictionary

    for passes in (1, 2, 4, 10):
        add("jvsc", lambda passes=passes: by_jvsc(train, passes))
    # SPAMS's best of three penalties, each for a second: it learns at a fixed one.
    tried = {p: quality(by_spams(train, 1, p), held_out)[0] for p in (2.0, 2.6, 3.2)}
    penalty = max(tried, key=lambda p: tried[p])
    print(f"SPAMS learns at penalty {penalty}, of {tried}")
    for seconds in (1, 3, 6, 15, 60):
        if seconds <= arguments.longest:
            add("SPAMS", lambda seconds=seconds: by_spams(train, seconds, penalty))
    add("scikit-learn, 4,000 data", lambda: by_scikit_learn(train[:4000], 1, penalty))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, points in found.items():
        axes.plot(*zip(*points, strict=True), "o-", label=name)
    axes.set(xscale="log", xlabel="seconds of learning", ylabel="R² of the lasso's codes")
    axes.set_title(f"Dictionaries of 80,000 patches, {NON_ZEROS} non-zeros", loc="left")
    axes.legend(frameon=False)
    arguments.output.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output / "dictionary.png", dpi=120)


if __name__ == "__main__":
    main()
