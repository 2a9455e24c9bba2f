"""The lasso's time beside SPAMS's over features, atoms and shares of non-zeros.

    python -m benchmarks.lasso_grid IMAGES.mat [--sides 8 16 32]

Data are whitened patches; atoms are patches too, each with a fifth of their deviation in noise, so
that many are alike. Both solve to their usual tolerances with all cores; the least of a few runs.
Where SPAMS takes long it solves fewer data, and the time is scaled up but for its Gram matrix.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import spams

from benchmarks.lasso import penalty_of
from benchmarks.timing import THREADS
from jvsc.data import load_patches
from jvsc.solvers import lasso

SHARES = (0.01, 0.03, 0.1, 0.25, 0.5)
NUM_DATA, FEW, WORK = 4000, 400, 2e9


def least(solve: Callable[[], object], budget: float = 1.0) -> float:
    """Seconds of the fastest of two to five runs."""
    solve()
    times: list[float] = []
    while len(times) < 2 or (sum(times) < budget and len(times) < 5):
        start = time.perf_counter()
        solve()
        times.append(time.perf_counter() - start)
    return min(times)


def by_spams(data: np.ndarray, atoms: np.ndarray, penalty: float) -> float:
    """Its seconds for all data."""
    columns, matrix = np.asfortranarray(data.T), np.asfortranarray(atoms.T)

    def solve(count: int) -> object:
        some = np.asfortranarray(columns[:, :count])
        return spams.lasso(some, matrix, lambda1=penalty, mode=2, numThreads=THREADS)

    some = least(lambda: solve(FEW), 0)
    if some * len(data) / FEW < 3:
        return least(lambda: solve(len(data)))
    gram = least(lambda: solve(4), 0)
    return gram + (some - gram) * (len(data) - 4) / (FEW - 4)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="the lasso beside SPAMS")
    parser.add_argument("images")
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 32])
    arguments = parser.parse_args()
    print("| D | K | non-zeros | data | jvsc ms | SPAMS ms | ratio |\n" + "| --- " * 7 + "|")
    for side in arguments.sides:
        size = side * side
        found = load_patches(
            arguments.images, patch_size=side, num_train=20_000, num_validation=NUM_DATA
        )
        train = np.asarray(found.train, np.float32).reshape(-1, size)
        random = np.random.default_rng(0)
        for num_atoms in (size // 2, size, 4 * size, 16 * size):
            chosen = train[random.permutation(len(train))[:num_atoms]]
            noise = random.standard_normal(chosen.shape).astype(np.float32)
            atoms = chosen + 0.2 * train.std() * noise
            atoms = np.ascontiguousarray(atoms / np.linalg.norm(atoms, axis=1, keepdims=True))
            count = max(FEW, min(NUM_DATA, int(WORK / (num_atoms * size))))
            data = np.asarray(found.validation[:count], np.float32).reshape(-1, size)
            for share in SHARES:
                if not 1 <= share * num_atoms <= 0.8 * size:
                    continue
                penalty = penalty_of(share, data[:60], atoms)
                ours = least(partial(lasso, data, atoms, penalty))
                theirs = by_spams(data, atoms, penalty)
                nonzeros = (lasso(data, atoms, penalty).codes != 0).sum(axis=1).mean()
                print(
                    f"| {size} | {num_atoms} | {nonzeros:.1f} | {count} | {1e3 * ours:.1f} | "
                    f"{1e3 * theirs:.1f} | {theirs / ours:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
