"""What codes are worth: variance explained over non-zeros, beside what people use.

    JVSC_IMAGES=IMAGES.mat JVSC_ACTIVATIONS=activations.npy python -m benchmarks quality

Patches and digits are always measured (patches of photographs in scikit-image where no file is
named), activations where they are (`benchmarks.make_activations`). R^2 is of data that no fit has
seen; every method is a curve over several sparsities, and curves are compared at equal mean
non-zeros of a datum, by interpolation. Nothing is chosen on the held-out data.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import spams
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.linear_model import orthogonal_mp_gram

from benchmarks import workload
from benchmarks.timing import THREADS, timed
from jvsc import SparseCoder
from jvsc.data import load_patches

Data = Float[np.ndarray, "N D"]

PATCH_LEVELS = (5.9, 8.6, 12.9, 20.0, 30.0)
NUM_ATOMS, NUM_DIGIT_ATOMS, DIGIT_LEVEL = 256, 128, 13.0
# Squared errors that OMP codes digits to, as shares of the data's energy.
DIGIT_RESIDUALS = (0.07, 0.05, 0.04, 0.033, 0.025)
# Of activations; wanted of an inferred threshold, whose held-out codes take somewhat more, and of
# sparse autoencoders.
ACTIVATION_LEVELS, WIDE_LEVELS = (8.0, 15.0, 32.0), (8.0, 32.0)
WANTED_ACTIVE = {8.0: (7.2, 7.5), 15.0: (14.2, 15.0), 32.0: (31.5, 34.0)}
SAME_PICTURES = "patches of the training's pictures"
LEVELS = {
    "patches": PATCH_LEVELS,
    SAME_PICTURES: PATCH_LEVELS,
    "digits": (DIGIT_LEVEL,),
    "activations, K = 4 D": ACTIVATION_LEVELS,
    "activations, K = 16 D": WIDE_LEVELS,
}
# Wanted non-zeros of a fit: held-out data take somewhat more.
WANTED = (5.0, 7.0, 10.7, 17.0, 26.0)
SPAMS_SECONDS, SPAMS_PENALTY = 60, 2.0
LASSO_PENALTIES = (6.0, 4.0, 3.0, 2.2, 1.6, 1.1)
AUTOENCODERS = ("topk", "batch_topk", "jump_relu")
SHORT_FITS = {1: "one pass", 2: "two passes"}
# Held-out data that OMP and least squares on supports are measured on.
NUM_SLOW = 4000


class Point(NamedTuple):
    """One setting of a method on one data set.

    Attributes:
      data: name of the data set.
      method: name of the method.
      seed: of the fit.
      nonzeros: mean of a held-out datum.
      r2: variance of the held-out data explained.
      fit_seconds: compiling included.
      encode_microseconds: for a datum.
    """

    data: str
    method: str
    seed: int
    nonzeros: float
    r2: float
    fit_seconds: float
    encode_microseconds: float


def explained(data: Data, reconstruction: Data, mean: Float[np.ndarray, " D"]) -> float:
    """R^2 of all entries, against the training mean."""
    error = np.sum((data - reconstruction) ** 2, dtype=np.float64)
    return float(1 - error / np.sum((data - mean) ** 2, dtype=np.float64))


def of_coder(
    name: str, train: Data, test: Data, seed: int, refined: bool = True, **settings: Any
) -> Iterator[Point]:
    """SparseCoder as it is, and after ten refining steps."""
    method = settings.get("method", "inferred_threshold")
    refines = refined and method != "fista"
    coder = SparseCoder(random_state=seed, refine_steps=10 * refines, **settings)
    _, fitting = timed(coder.fit, train)
    if settings.get("max_iter") in SHORT_FITS:
        method += f", {SHORT_FITS[settings['max_iter']]}"
    steps = (0, 10) if refines else (0,)
    for count in steps:
        coder.set_params(refine_steps=count)
        coder.transform(test)  # compiles
        codes, seconds = timed(coder.transform, test)
        yield Point(
            name,
            f"jvsc {method}" + (", 10 refining steps" if count else ""),
            seed,
            float(np.mean(np.sum(codes != 0, axis=1))),
            coder.score(test),
            fitting,
            1e6 * seconds / len(test),
        )


def of_spams(name: str, train: Data, test: Data, seed: int) -> Iterator[Point]:
    """SPAMS's dictionary: its lasso codes, these refitted on their supports, and OMP."""
    mean, few = train.mean(axis=0), test[:NUM_SLOW]
    columns = np.asfortranarray((train - mean).T, dtype=np.float32)
    rows = np.asfortranarray((few - mean).T, dtype=np.float32)
    options = {"K": NUM_ATOMS, "lambda1": SPAMS_PENALTY, "batchsize": 512, "numThreads": THREADS}
    atoms, fitting = timed(spams.trainDL, columns, iter=-SPAMS_SECONDS, verbose=False, **options)
    threads = {"numThreads": THREADS}
    gram = atoms.T @ atoms

    def point(method: str, codes: Any, seconds: float) -> Point:
        dense = codes.toarray()
        r2 = explained(few, (atoms @ dense).T + mean, mean)
        nonzeros = float(np.mean(np.sum(dense != 0, axis=0)))
        return Point(name, method, seed, nonzeros, r2, fitting, 1e6 * seconds / len(few))

    for penalty in LASSO_PENALTIES:
        codes, seconds = timed(spams.lasso, rows, atoms, lambda1=penalty, mode=2, **threads)
        yield point("SPAMS, lasso", codes, seconds)
        refitted = codes.copy().tocsc()
        for n in range(len(few)):
            chosen = slice(refitted.indptr[n], refitted.indptr[n + 1])
            k = refitted.indices[chosen]
            products = gram[np.ix_(k, k)] + 1e-6 * np.eye(len(k))
            refitted.data[chosen] = np.linalg.solve(products, atoms[:, k].T @ rows[:, n])
        yield point("SPAMS, lasso refitted", refitted, float("nan"))
    energy = float(np.mean(np.sum(rows**2, axis=0)))
    for share in (0.6, 0.5, 0.42, 0.32, 0.24, 0.18, 0.12, 0.08):
        codes, seconds = timed(spams.omp, rows, atoms, eps=share * energy, L=200, **threads)
        yield point("SPAMS, OMP", codes, seconds)


def patches(seeds: tuple[int, ...]) -> Iterator[Point]:
    """Whitened patches of natural images, K = 256."""
    dataset = load_patches(os.environ.get("JVSC_IMAGES", ""))
    train, test = np.asarray(dataset.train), dataset.validation
    for seed in seeds:
        for wanted in WANTED:
            share = wanted / NUM_ATOMS
            yield from of_coder("patches", train, test, seed, n_components=256, sparsity=share)
        yield from of_coder(
            "patches", train, test, seed, sparsity=0.06, method="thresholded_laplacian"
        )
    for wanted in WANTED[1:4]:
        yield from of_coder("patches", train, test, 0, sparsity=wanted / NUM_ATOMS, max_iter=1)
    yield from of_coder("patches", train, test, 0, sparsity=0.05, method="fista")
    yield from of_spams("patches", train, test, 0)


def patches_of_the_same_pictures(seeds: tuple[int, ...]) -> Iterator[Point]:
    """Patches held out of the training's at random, which may overlap others of their picture."""
    dataset = load_patches(os.environ.get("JVSC_IMAGES", ""))
    every = np.random.default_rng(0).permutation(np.asarray(dataset.train))
    test, train = every[: 2 * NUM_SLOW], every[2 * NUM_SLOW :]
    for seed in seeds:
        for wanted in WANTED:
            yield from of_coder(SAME_PICTURES, train, test, seed, sparsity=wanted / NUM_ATOMS)
    yield from of_spams(SAME_PICTURES, train, test, 0)


def digits(seeds: tuple[int, ...]) -> Iterator[Point]:
    """scikit-learn's digits, K = 128, 1,400 of them to learn from."""
    train, test = workload.digits()
    for seed in seeds:
        for wanted in (8.5, 10.5, 13.0):
            share = wanted / NUM_DIGIT_ATOMS
            yield from of_coder(
                "digits", train, test, seed, n_components=NUM_DIGIT_ATOMS, sparsity=share
            )
        mean = train.mean(axis=0)
        learner = MiniBatchDictionaryLearning(NUM_DIGIT_ATOMS, random_state=seed)
        _, fitting = timed(learner.fit, train - mean)
        energy = float(np.mean(np.sum((test - mean) ** 2, axis=1)))
        for share in DIGIT_RESIDUALS:
            codes, seconds = timed(omp, test - mean, learner.components_, tol=share * energy)
            r2 = explained(test, codes @ learner.components_ + mean, mean)
            nonzeros = float(np.mean(np.sum(codes != 0, axis=1)))
            each = 1e6 * seconds / len(test)
            yield Point("digits", "scikit-learn, OMP", seed, nonzeros, r2, fitting, each)


def omp(data: Data, atoms: Float[np.ndarray, "K D"], **limit: Any) -> Float[np.ndarray, "N K"]:
    """scikit-learn's OMP to a squared error `tol`, so that data differ in non-zeros as ours do.

    Or with `n_nonzero_coefs` each.
    """
    squares = np.sum(data.astype(np.float64) ** 2, axis=1)
    codes = orthogonal_mp_gram(atoms @ atoms.T, atoms @ data.T, norms_squared=squares, **limit)
    return np.asarray(codes).T


def activations(seeds: tuple[int, ...]) -> Iterator[Point]:
    """A language model's activations: two passes of ours beside ten of sparse autoencoders."""
    data = np.load(os.environ["JVSC_ACTIVATIONS"], mmap_mode="r")
    train, test = data[:-NUM_SLOW], np.asarray(data[-NUM_SLOW:])
    for factor, levels in ((4, ACTIVATION_LEVELS), (16, WIDE_LEVELS)):
        count = factor * data.shape[1]
        name = f"activations, K = {factor} D"
        common = {"n_components": count, "batch_size": 256, "refined": False}
        for seed in seeds:
            for level in levels:
                ours, others = WANTED_ACTIVE[level]
                for method in AUTOENCODERS if factor == 4 else AUTOENCODERS[:1]:
                    settings = {"method": method, "max_iter": 10, "sparsity": others / count}
                    yield from of_coder(name, train, test, seed, **common, **settings)
                settings = {"max_iter": 2, "sparsity": ours / count}
                yield from of_coder(name, train, test, seed, **common, **settings)


def at_level(points: list[Point], level: float) -> float | None:
    """R^2 at so many non-zeros, between two points of a curve; None beyond its ends."""
    curve = sorted((point.nonzeros, point.r2) for point in points)
    nonzeros, values = np.array(curve).T
    if not nonzeros[0] <= level <= nonzeros[-1]:
        return None
    return float(np.interp(np.log(level), np.log(nonzeros), values))


def table_of(points: list[Point], name: str, levels: tuple[float, ...]) -> list[list[str]]:
    """A row a method: R^2 at each level (mean and range over seeds), seconds of a fit, encoding."""
    rows = []
    here = [point for point in points if point.data == name]
    for method in dict.fromkeys(point.method for point in here):
        mine = [point for point in here if point.method == method]
        cells = [method]
        for level in levels:
            seeds = sorted({point.seed for point in mine})
            found = [at_level([p for p in mine if p.seed == seed], level) for seed in seeds]
            known = [value for value in found if value is not None]
            spread = f" ±{(max(known) - min(known)) / 2:.3f}" if len(known) > 1 else ""
            cells.append(f"{np.mean(known):.3f}{spread}" if known else "-")
        if len(mine) == 1:
            cells[0] += f" ({mine[0].nonzeros:.1f}: {mine[0].r2:.3f})"
        known = [p.encode_microseconds for p in mine if not np.isnan(p.encode_microseconds)]
        cells.append(f"{np.median([p.fit_seconds for p in mine]):.1f}")
        cells.append(f"{np.median(known):.1f}" if known else "-")
        rows.append(cells)
    return rows


def draw(points: list[Point], file: Path) -> None:
    """A panel a data set: R^2 over non-zeros, a curve a method (the first seed)."""
    names = list(dict.fromkeys(point.data for point in points))
    figure, axes = plt.subplots(
        1, len(names), figsize=(6 * len(names), 5.6), layout="constrained", squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        here = [point for point in points if point.data == name and point.seed == 0]
        for method in dict.fromkeys(point.method for point in here):
            curve = sorted((p.nonzeros, p.r2) for p in here if p.method == method)
            style = "o-" if method.startswith("jvsc inferred") else "s--"
            axis.plot(*zip(*curve, strict=True), style, label=method, markersize=4)
        axis.set(title=name, xlabel="non-zeros of a datum", ylabel="R² of held-out data")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": 2}
        axis.legend(frameon=False, fontsize=8, **below)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def run(output: Path, num_seeds: int = 1) -> None:
    """Measures, and writes quality.json, quality.md and quality.png."""
    seeds = tuple(range(num_seeds))
    sets = [digits, patches, patches_of_the_same_pictures]
    if "JVSC_ACTIVATIONS" in os.environ:
        sets.append(activations)
    points: list[Point] = []
    console = Console()
    for measured in sets:
        for point in measured(seeds):
            points.append(point)
            console.print(
                f"{point.data}, {point.method}, seed {point.seed}: {point.nonzeros:.2f} non-zeros, "
                f"R2 {point.r2:.4f}, fit {point.fit_seconds:.1f} s, "
                f"{point.encode_microseconds:.1f} us a datum",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
            text = json.dumps([p._asdict() for p in points], indent=1) + "\n"
            (output / "quality.json").write_text(text, encoding="utf-8")
    write(points, output)


def write(points: list[Point], output: Path) -> None:
    """The tables, on the console and as quality.md, and quality.png."""
    console = Console()
    lines = []
    for name in dict.fromkeys(point.data for point in points):
        columns = [name, *(f"{level:g}" for level in LEVELS[name]), "fit s", "us a datum"]
        rows = table_of(points, name, LEVELS[name])
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        lines += [f"| {' | '.join(columns)} |", "|---|" + "--:|" * (len(columns) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    (output / "quality.md").write_text("\n".join(lines), encoding="utf-8")
    draw(points, output / "quality.png")
