"""How measures are named and written for readers, in tables of the terminal and of the report."""

from typing import Any, NamedTuple


class MeasureRow(NamedTuple):
    """A measure in a table.

    Attributes:
      name: its key in evaluation.json.
      label: what a reader calls it.
      percent: whether it is a share, written in percent.
      brief: whether it stands in the terminal's table too.
      note: what it means, for the report.
    """

    name: str
    label: str
    percent: bool = False
    brief: bool = False
    note: str = ""


MEASURE_ROWS = (
    MeasureRow(
        "validation_loss", "validation loss", brief=True, note="what the run is validated by"
    ),
    MeasureRow(
        "best_draw_loss",
        "validation loss of the best draw",
        brief=True,
        note="of J, where a run was trained by another scheme than the best draw's",
    ),
    MeasureRow(
        "reconstruction",
        "reconstruction term",
        brief=True,
        note="0.5 |x - sA|², objective (10)",
    ),
    MeasureRow("l1", "penalty term", brief=True, note="λ |s|₁, objective (10)"),
    MeasureRow(
        "fista_optimum",
        "FISTA's optimum, same dictionary",
        brief=True,
        note="the least that any codes can reach",
    ),
    MeasureRow(
        "best_of_draws",
        "best of many draws",
        note="objective (10) of the best of `eval.best_draws` draws of each datum's code",
    ),
    *(
        MeasureRow(
            f"from_{start}_{steps}", f"after {steps} FISTA step{'s' * (steps > 1)} from {called}"
        )
        for start, called in (("code", "the code"), ("zero", "zero"))
        for steps in (1, 3, 10)
    ),
    MeasureRow("dictionary_norm", "mean norm of an atom"),
    MeasureRow("dictionary_energy", "‖A‖² of the dictionary"),
    MeasureRow(
        "published_loss",
        "loss as Table 1 prints it",
        note="objective (10) + 0.001 ‖A‖², as the published code sums it",
    ),
    MeasureRow("zero_code_loss", "loss of the zero code", brief=True),
    MeasureRow("mse", "squared error per entry", brief=True),
    MeasureRow("explained_variance", "explained variance", percent=True, brief=True),
    MeasureRow("nonzero_fraction", "share of non-zeros", percent=True, brief=True),
    MeasureRow("l0", "L0", note="non-zeros of a datum's code"),
    MeasureRow("dead_latents", "dead latents", percent=True, note="zero for all validation data"),
    MeasureRow("kl", "KL, summed over latents", brief=True, note="nats"),
    MeasureRow(
        "multi_information",
        "multi-information, bits",
        brief=True,
        note="plug-in; its joint term is at most log₂ N",
    ),
    MeasureRow(
        "mutual_information",
        "mutual information of two latents, bits",
        note="mean over pairs, bias taken off",
    ),
    MeasureRow(
        "iwae",
        "importance-weighted bound, nats",
        brief=True,
        note="on log p(x), of the densities where the KL acts; not the paper's IWAE column",
    ),
    MeasureRow("elbo", "evidence lower bound, nats", note="of the same densities"),
    MeasureRow("beta_elbo_loss", "β-ELBO loss", note="squared error + β KL, of the chosen draw"),
    MeasureRow("posterior_collapse", "posterior collapse", percent=True, note="eq. 15, of latents"),
    MeasureRow("feature_collapse", "feature collapse", percent=True, note="eq. 16, of latents"),
    MeasureRow("encoder_snr", "gradient SNR, encoder", note="mean over parameters"),
    MeasureRow("generator_snr", "gradient SNR, generator", note="mean over parameters"),
    MeasureRow("jaccard", "Jaccard consistency", note="eq. 13, of codes drawn for the same datum"),
    MeasureRow(
        "attribute_correlation",
        "largest correlation with an attribute",
        note="point-biserial, mean over attributes",
    ),
    MeasureRow(
        "probe_accuracy", "linear probe's accuracy", percent=True, note="labels read off codes"
    ),
    MeasureRow(
        "baseline_probe_accuracy",
        "the same of the baseline's codes",
        percent=True,
        note="eval.baseline",
    ),
    MeasureRow(
        "frechet_reconstructions",
        "Fréchet distance of reconstructions",
        note="to the data, in the features named below",
    ),
    MeasureRow("frechet_prior", "Fréchet distance of prior samples", note="likewise"),
)


def written(row: MeasureRow, value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if row.percent else f"{value:.4g}"


def mean_of(values: list[float | None] | None) -> float | None:
    """Mean over the seeds that have a value; None if none has."""
    numbers = [value for value in values or [] if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


# method -> measure -> its value in each of two settings
Published = dict[str, dict[str, tuple[float | None, float | None]]]
# Table 1 of the paper (J = 1, J = 20), whose losses are objective (10) + 0.001 ||A||_F^2, and the
# published Fashion-MNIST runs (K = 20, K = 64; sparsity 10%, J = 20).
TABLE_1: Published = {
    "fista": {"published_loss": (101, None), "multi_information": (87.5, None)},
    "gaussian": {"published_loss": (1350, 1350), "multi_information": (734, 736)},
    "laplacian": {"published_loss": (596, 579), "multi_information": (536, 534)},
    "spike_and_slab": {"published_loss": (252, 239), "multi_information": (194, 196)},
    "thresholded_gaussian": {"published_loss": (232, 230), "multi_information": (167, 176)},
    "thresholded_gaussian_gamma": {
        "published_loss": (285, 270),
        "multi_information": (235, 229),
    },
    "thresholded_laplacian": {"published_loss": (198, 194), "multi_information": (180, 191)},
    "thresholded_laplacian_gamma": {
        "published_loss": (223, 211),
        "multi_information": (238, 233),
    },
}
FASHION_MNIST: Published = {
    "gaussian": {"mse": (0.0279, 0.0286), "multi_information": (56.3, 207)},
    "spike_and_slab": {"mse": (0.0305, 0.0290), "multi_information": (5.7, 36.9)},
    "thresholded_gaussian": {"mse": (0.0289, 0.0243), "multi_information": (7.8, 38.4)},
    "thresholded_gaussian_gamma": {"mse": (0.0275, 0.0249), "multi_information": (12.9, 72.9)},
    "thresholded_laplacian": {"mse": (0.0282, 0.0284), "multi_information": (8.6, 36.7)},
    "thresholded_laplacian_gamma": {"mse": (0.0282, 0.0285), "multi_information": (10.4, 58.7)},
}


# Table 1's IWAE column (J = 1, J = 20): to show, not to compare (docs/RESULTS.md).
TABLE_1_IWAE = {
    "gaussian": (0.257, 0.216),
    "laplacian": (0.220, 0.222),
    "spike_and_slab": (0.241, 0.212),
    "thresholded_gaussian": (1.52, 1.33),
    "thresholded_gaussian_gamma": (1.17, 1.13),
    "thresholded_laplacian": (0.930, 1.13),
    "thresholded_laplacian_gamma": (0.981, 1.12),
}
# Table 2, of posterior and features, as it is printed.
TABLE_2 = {
    ("straight_through", 1): ("4.17%", "0%"),
    ("straight_through", 20): ("4.56%", "0%"),
    ("subgradient", 1): ("NaN", "NaN"),
    ("subgradient", 20): ("100%", "100%"),
}


def published(settings: dict[str, Any]) -> dict[str, float]:
    """The paper's values for a run's method, where it has the paper's K, and on patches its J.

    Args:
      settings: the run's, as config.json has them. Neither data nor epochs are compared.
    """
    method, latents, samples = (settings[key] for key in ("method", "num_latents", "num_samples"))
    if settings["data"]["name"] == "patches":
        table, columns, column = TABLE_1, (1, 20), samples
        alike = latents == 256
    else:
        table, columns, column = FASHION_MNIST, (20, 64), latents
        alike = settings["data"]["name"] == "fashion_mnist" and settings["sparsity"] in (None, 0.1)
    if not alike or column not in columns or method not in table:
        return {}
    place = columns.index(column)
    values = {name: pair[place] for name, pair in table[method].items()}
    return {name: float(value) for name, value in values.items() if value is not None}
