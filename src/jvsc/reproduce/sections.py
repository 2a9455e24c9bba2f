"""Sections of a results page: heading, text, table, remarks and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jvsc.reproduce.drawings import draw_gallery
from jvsc.reproduce.tables import Compared, Table, cells
from jvsc.runs.report.record import RunRecord

# Finished runs by their names.
Records = Mapping[str, RunRecord]


class PageSection(NamedTuple):
    """A section of a results page.

    Attributes:
      heading: its title.
      text: an explanation.
      table: cells; None without.
      lines: a list of remarks.
      pictures: PNGs with their captions.
    """

    heading: str
    text: str = ""
    table: Table | None = None
    lines: tuple[str, ...] = ()
    pictures: tuple[tuple[str, Path], ...] = ()


def display_name(name: str) -> str:
    """The display name of a run or method."""
    return name.rpartition("/")[2].replace("_gamma", "+Gamma").replace("_", " ")


def compared_table(columns: Mapping[str, list[Compared]], measure: str) -> Table:
    """Our value, the paper's and the difference: three cells for each column."""
    header = [""]
    for name in columns:
        header += [f"{name}: ours", "paper", "difference"]
    rows = []
    for entries in zip(*columns.values(), strict=True):
        rows.append([entries[0].label, *(cell for e in entries for cell in cells(e, measure))])
    return Table(header, rows)


def gallery_section(
    heading: str, text: str, pictures: Mapping[str, Path], path: Path, corner: float = 1.0
) -> PageSection:
    """A section with one grid of pictures."""
    drawn = draw_gallery(pictures, path, columns=4 if len(pictures) > 4 else 2, corner=corner)
    return PageSection(heading, text, pictures=() if drawn is None else ((heading, drawn),))
