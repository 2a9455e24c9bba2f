"""SparseCoder beside scikit-learn's MiniBatchDictionaryLearning on real data.

    python -m benchmarks.sparse_coder [IMAGES.mat]

Digits are scikit-learn's own; patches come from the file, or from photographs in scikit-image.
Every fit has its defaults and 256 atoms, scikit-learn's batches of 128. Its codes come from
orthogonal matching pursuit with as many non-zeros as are wanted. R^2 is of data that no fit has
seen.
"""

import argparse
from typing import Any

import numpy as np
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode

from benchmarks.timing import timed
from benchmarks.workload import digits
from jvsc import SparseCoder
from jvsc.data import load_patches

SPARSITIES = (0.05, 0.1, 0.2)
COLUMNS = "| data | method | sparsity | share of non-zeros | R2 | fit s | transform ms a datum |"


def data_sets(path: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Training and test data of each set."""
    patches = load_patches(path, num_train=20_000, num_validation=1_000)
    return {
        "digits": digits(),
        "patches": (np.asarray(patches.train), patches.validation),
    }


def report(name: str, method: str, sparsity: float, codes: Any, r2: float, *seconds: float) -> None:
    """Prints a row of the table."""
    fit, transform = seconds
    share, each = np.mean(codes != 0), 1000 * transform / len(codes)
    print(
        f"| {name} | {method} | {sparsity} | {share:.3f} | {r2:.3f} | {fit:.0f} | {each:.2f} |",
        flush=True,
    )


def measure_jvsc(name: str, train: Any, test: Any, sparsity: float, method: str) -> None:
    """Rows of one method of jvsc; of an amortised one also after ten refining steps."""
    refine_steps = 0 if method == "fista" else 10
    coder = SparseCoder(method=method, sparsity=sparsity, refine_steps=refine_steps, random_state=0)
    _, fitting = timed(coder.fit, train)
    for steps in sorted({0, refine_steps}):
        coder.set_params(refine_steps=steps)
        coder.transform(test)
        codes, seconds = timed(coder.transform, test)
        label = f"{method}, {steps} refining steps" if steps else method
        report(name, label, sparsity, codes, coder.score(test), fitting, seconds)


def measure_opponent(name: str, train: np.ndarray, test: np.ndarray) -> None:
    """Rows of MiniBatchDictionaryLearning, one fit for all sparsities."""
    mean = train.mean(axis=0)
    scale = np.sqrt(np.mean(train.var(axis=0)))
    learner = MiniBatchDictionaryLearning(256, batch_size=128, random_state=0)
    _, fitting = timed(learner.fit, (train - mean) / scale)
    data = (test - mean) / scale
    for sparsity in SPARSITIES:
        wanted = round(256 * sparsity)
        codes, seconds = timed(
            lambda count: sparse_encode(
                data, learner.components_, algorithm="omp", n_nonzero_coefs=count
            ),
            wanted,
        )
        r2 = 1 - np.sum((data - codes @ learner.components_) ** 2) / np.sum(data**2)
        report(name, "MiniBatchDictionaryLearning, OMP", sparsity, codes, r2, fitting, seconds)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="SparseCoder on real data")
    parser.add_argument("images", nargs="?", default="", help="an Olshausen-style .mat file")
    print(COLUMNS, "|" + " --- |" * 7, sep="\n")
    for name, (train, test) in data_sets(parser.parse_args().images).items():
        for sparsity in SPARSITIES:
            for method in ("thresholded_laplacian", "fista"):
                measure_jvsc(name, train, test, sparsity, method)
        measure_opponent(name, train, test)


if __name__ == "__main__":
    main()
