"""The registry of the tables and figures."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jvsc.reproduce.conv_generators import (
    figure_7_runs,
    pictures_section,
    present_figure_7,
    shown_runs,
)
from jvsc.reproduce.natural_images import (
    figure_5_runs,
    patches_runs,
    present_figure_3,
    present_figure_4,
    present_figure_5,
    present_table_1,
    present_table_2,
    table_1_runs,
    table_2_runs,
)
from jvsc.reproduce.plan import PlannedRun
from jvsc.reproduce.sections import PageSection, Records


class Target(NamedTuple):
    """A table or figure of the paper.

    Attributes:
      title: what it shows.
      runs: scale and requested panels -> its runs, in order.
      present: records of finished runs by name, and the folder for pictures -> sections.
    """

    title: str
    runs: Callable[[str, tuple[str, ...]], list[PlannedRun]]
    present: Callable[[Records, Path], list[PageSection]]


TARGETS = {
    "table1": Target("Table 1: methods on natural images", table_1_runs, present_table_1),
    "table2": Target("Table 2: collapse under two estimators", table_2_runs, present_table_2),
    "figure3": Target("Figures 3 and 18: dictionaries", patches_runs, present_figure_3),
    "figure4": Target("Figure 4: gradient SNR", patches_runs, present_figure_4),
    "figure5": Target("Figure 5: Jaccard consistency", figure_5_runs, present_figure_5),
    "figure6": Target(
        "Figure 6: estimated dictionaries",
        shown_runs,
        pictures_section(
            "Estimated dictionary of the most used latents",
            "Figure 6: estimated dictionaries",
            "Entries of the most used latents, estimated from second moments of data and codes.",
        ),
    ),
    "figure7": Target("Figure 7: sweeps over K and sparsity", figure_7_runs, present_figure_7),
    "figure8": Target(
        "Figure 8: entries that go with attributes",
        shown_runs,
        pictures_section(
            "Estimated entries of the latents most correlated with each attribute",
            "Figure 8: attributes",
            "For each attribute, the entries of the latents most correlated with it.",
        ),
    ),
}
