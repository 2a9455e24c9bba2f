"""The lasso of 16,000 patches on 256 atoms, against the solvers that users have on a CPU."""

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import spams
from celer import Lasso
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning

from benchmarks.timing import THREADS, compare
from benchmarks.workload import Comparison, patches
from jvsc.solvers import fista, lasso

NUM_ATOMS, NUM_DATA, FEW = 256, 16_000, 20
# Data that solvers are given which take long for all, or very long.
SOME, SLOW = 2000, 200
TOLERANCE = 1e-5
# Shares of non-zeros that are asked for, with the target against SPAMS.
TARGETS = {0.09: 1.5, 0.25: 3.0}


def measure() -> list[Comparison]:
    """Jvsc's two solvers and the peers, at two penalties, all checked against the optimum."""
    train, validation = patches()
    data = np.ascontiguousarray(validation[:NUM_DATA])
    dictionary = learn_dictionary(train)
    rows: list[Comparison] = []
    for share, target in TARGETS.items():
        rows += _at(data, dictionary, penalty_of(share, data[:500], dictionary), target)
    return rows


def learn_dictionary(train: np.ndarray) -> np.ndarray:
    """Atoms [K, D] that SPAMS learns from the patches, of norm one."""
    columns = np.asfortranarray(train.T)
    np.random.seed(0)
    learned: Any = spams.trainDL(
        columns, K=NUM_ATOMS, lambda1=3.0, numThreads=THREADS, batchsize=500, iter=60, verbose=False
    )
    return np.ascontiguousarray(learned.T, np.float32)


def penalty_of(share: float, data: np.ndarray, dictionary: np.ndarray) -> float:
    """The penalty at which the given share of codes is not zero, by bisection."""
    high = float(np.abs(data @ dictionary.T).max())
    low = high / 1000
    for _ in range(12):
        middle = (low * high) ** 0.5
        dense = np.mean(lasso(data, dictionary, middle).codes != 0) > share
        low, high = (middle, high) if dense else (low, middle)
    return high


def objective(codes: np.ndarray, data: np.ndarray, dictionary: np.ndarray, penalty: float):
    """Objective (10) of each datum, in float64."""
    codes, data, dictionary = (part.astype(np.float64) for part in (codes, data, dictionary))
    error = data - codes @ dictionary
    return 0.5 * np.sum(error**2, axis=1) + penalty * np.abs(codes).sum(axis=1)


def _at(data: np.ndarray, dictionary: np.ndarray, penalty: float, target: float):
    columns, atoms = np.asfortranarray(data.T), np.asfortranarray(dictionary.T)

    def by_spams() -> Any:
        return spams.lasso(columns, atoms, lambda1=penalty, mode=2, numThreads=THREADS)

    ours = partial(lasso, data, dictionary, penalty, tolerance=TOLERANCE)
    codes = ours().codes
    share = np.mean(codes != 0)
    few = data[:FEW]
    best = objective(
        lasso(few.astype(np.float64), dictionary, penalty, tolerance=1e-10).codes,
        few,
        dictionary,
        penalty,
    )

    def excess(found: np.ndarray) -> str:
        worst = np.max(objective(found, few, dictionary, penalty) / best) - 1
        return f"{worst:.0e} above the optimum at worst"

    def row(opponent: str, own: float, theirs: float, first: float, note: str, aim: float | None):
        name = f"lasso, {len(data):,} data, {share:.0%} non-zeros"
        return Comparison(name, opponent, own, theirs, "s", first, aim, note=note)

    times = compare({"jvsc": ours, "spams": by_spams})
    found = f"jvsc {excess(codes[:FEW])}, SPAMS {excess(by_spams().T.toarray()[:FEW])}"
    rows = [
        row("spams.lasso, float32", times["jvsc"].median, times["spams"].median,
            times["jvsc"].first, found, target),
    ]  # fmt: skip
    for name, solve in slow_solvers(dictionary, penalty).items():
        some = data[:SOME] if "FISTA" in name or "lasso_cd" in name else data[:SLOW]
        solve(some)  # compiles, or starts its processes
        start = time.perf_counter()
        solved = solve(some)
        seconds = len(data) / len(some) * (time.perf_counter() - start)
        note = f"from {len(some)} data, once; {excess(solved[:FEW])}"
        rows.append(row(name, times["jvsc"].median, seconds, times["jvsc"].first, note, None))
    return rows


def slow_solvers(
    dictionary: np.ndarray, penalty: float
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Solvers that take long for all data, which are given some of them."""
    model = Lasso(alpha=penalty / dictionary.shape[1], fit_intercept=False, tol=TOLERANCE)

    def by_celer(data: np.ndarray) -> np.ndarray:
        return np.stack([model.fit(dictionary.T, datum).coef_ for datum in data])

    def by_scikit_learn(data: np.ndarray, algorithm: str) -> np.ndarray:
        # In float32 its tolerance, which is absolute, is rarely met, and all sweeps are made.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return sparse_encode(
                data.astype(np.float64),
                dictionary.astype(np.float64),
                algorithm=algorithm,
                alpha=penalty,
                n_jobs=THREADS,
            )

    def by_fista(data: np.ndarray) -> np.ndarray:
        return np.asarray(fista(data, dictionary, penalty, tolerance=TOLERANCE).codes)

    return {
        "jvsc's FISTA (jitted, any device)": by_fista,
        "scikit-learn lasso_cd, float64": partial(by_scikit_learn, algorithm="lasso_cd"),
        "scikit-learn lasso_lars, float64": partial(by_scikit_learn, algorithm="lasso_lars"),
        "celer, one thread": by_celer,
    }
