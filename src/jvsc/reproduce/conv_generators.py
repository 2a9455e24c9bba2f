"""The paper's results with conv generators, on Fashion-MNIST and CelebA: Figures 6 to 8."""

from collections.abc import Callable
from pathlib import Path

from jvsc.reproduce.drawings import draw_sweeps
from jvsc.reproduce.plan import PlannedRun, planned_run
from jvsc.reproduce.sections import PageSection, Records, display_name, gallery_section
from jvsc.reproduce.tables import Compared, Table, cells, compare, large_differences, measure_table
from jvsc.runs.report.measures import published
from jvsc.runs.report.record import RunRecord

SPARSE_METHODS = (
    "spike_and_slab",
    "thresholded_gaussian",
    "thresholded_gaussian_gamma",
    "thresholded_laplacian",
    "thresholded_laplacian_gamma",
)
CONFIG_FILES = {"fashion_mnist": "fmnist", "celeba": "celeba"}
SWEPT_LATENTS = {"fashion_mnist": (20, 64, 256, 1024), "celeba": (64, 512, 1024, 2048)}
SWEPT_SPARSITY = (0.05, 0.1, 0.2, 0.5)
PANELS = tuple(f"{data}_{sweep}" for data in SWEPT_LATENTS for sweep in ("latents", "sparsity"))
# The paper's Figures 6 and 8 compare a dense prior with sparse ones.
SHOWN_METHODS = ("gaussian", "thresholded_gaussian_gamma", "thresholded_laplacian")


def conv_run(scale: str, data: str, method: str, latents: int, sparsity: float = 0.1) -> PlannedRun:
    """A run on Fashion-MNIST or CelebA."""
    changes: dict[str, object] = {"num_latents": latents}
    parts = [method, f"K{latents}"]
    if method in SPARSE_METHODS:
        changes["sparsity"] = sparsity
        parts.append(f"sparsity{sparsity:g}")
    return planned_run(f"{data}/{'_'.join(parts)}", CONFIG_FILES[data], method, scale, changes)


def shown_runs(scale: str, panels: tuple[str, ...]) -> list[PlannedRun]:
    """A dense prior and sparse ones on each requested data set; Figure 7 uses these runs too."""
    requested = [data for data in SWEPT_LATENTS if any(panel.startswith(data) for panel in panels)]
    return [
        conv_run(scale, data, method, SWEPT_LATENTS[data][1])
        for data in requested
        for method in SHOWN_METHODS
    ]


def pictures_section(caption: str, heading: str, text: str) -> Callable[[Records, Path], list]:
    """A section with one kind of picture from every run that has it."""

    def present(records: Records, folder: Path) -> list[PageSection]:
        pictures = {
            name.replace("/", ", ").replace("_", " "): run.pictures[caption]
            for name, run in records.items()
            if caption in run.pictures
        }
        name = heading.split(":")[0].lower().replace(" ", "")
        return [gallery_section(heading, text, pictures, folder / f"{name}.png")]

    return present


def figure_7_runs(scale: str, panels: tuple[str, ...]) -> list[PlannedRun]:
    """All methods over K at 10% sparsity, and the sparse methods over the sparsity at one K."""
    runs = {}
    for panel in panels:
        data, _, sweep = panel.rpartition("_")
        for method in ("gaussian", *SPARSE_METHODS):
            if sweep == "latents":
                planned = [conv_run(scale, data, method, k) for k in SWEPT_LATENTS[data]]
            elif method == "gaussian":
                planned = [conv_run(scale, data, method, SWEPT_LATENTS[data][1])]
            else:
                fixed = SWEPT_LATENTS[data][1]
                planned = [conv_run(scale, data, method, fixed, p) for p in SWEPT_SPARSITY]
            runs |= {run.name: run for run in planned}
    return list(runs.values())


def present_figure_7(records: Records, folder: Path) -> list[PageSection]:
    """Squared error, multi-information and Frechet distance against K and against sparsity."""
    measures = {
        "mse": "squared error per pixel",
        "multi_information": "multi-information, bits",
        "frechet_reconstructions": "Fréchet distance",
        "mutual_information": "mutual information of two latents, bits",
    }
    sections = []
    for data, counts in SWEPT_LATENTS.items():
        fixed = counts[1]
        by_latents: dict[str, dict[float, RunRecord]] = {}
        by_sparsity: dict[str, dict[float, RunRecord]] = {}
        runs_on_data = {name: run for name, run in records.items() if name.startswith(f"{data}/")}
        for run in runs_on_data.values():
            method, settings = display_name(run.settings["method"]), run.settings
            if settings["sparsity"] in (None, 0.1):
                by_latents.setdefault(method, {})[settings["num_latents"]] = run
            if settings["num_latents"] == fixed:
                share = settings["sparsity"] or 1.0
                by_sparsity.setdefault(method, {})[share] = run
        panels = {
            "latents": (by_latents, "number of latents K"),
            "sparsity": (by_sparsity, f"requested share of non-zeros, K = {fixed}"),
        }
        for name, (sweep, xlabel) in panels.items():
            if any(len(runs) > 1 for runs in sweep.values()):
                path = draw_sweeps(sweep, measures, xlabel, folder / f"figure7_{data}_{name}.png")
                title = f"Figure 7: {display_name(data)}, {display_name(name)}"
                pictures = () if path is None else ((title, path),)
                sections.append(PageSection(title, pictures=pictures))
        if runs_on_data:
            heading = f"{display_name(data)}: values"
            sections.append(
                PageSection(
                    heading, table=measure_table(runs_on_data, tuple(measures), display_name)
                )
            )
        compared = published_columns(runs_on_data)
        if compared:
            sections.append(
                PageSection(
                    "Beside the published runs (three seeds, sparsity 10%)",
                    table=Table(
                        ["", "measure", "ours", "paper", "difference"],
                        [
                            [entry.label, measure, *cells(entry, measure)]
                            for measure, column in compared.items()
                            for entry in column
                        ],
                    ),
                    lines=tuple(large_differences(compared)),
                )
            )
    return sections


def published_columns(records: Records) -> dict[str, list[Compared]]:
    """Published values next to ours, for runs with the published settings."""
    columns: dict[str, list[Compared]] = {}
    for name, run in records.items():
        for measure, paper in published(run.settings).items():
            columns.setdefault(measure, []).append(compare(display_name(name), run, measure, paper))
    return columns
