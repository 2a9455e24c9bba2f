"""A finished run as a report sees it: the files in its workdir."""

from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from jvsc.errors import UserError
from jvsc.runs.evaluation_store import EVALUATION_FILE, read_evaluation
from jvsc.runs.logs import LogRow, read_log
from jvsc.runs.report.gallery import SPRITES, read_gallery
from jvsc.runs.report.measures import published
from jvsc.runs.workdir import read_config

PICTURES = {
    "reconstructions.png": "Data and reconstructions",
    "dictionary.png": "Dictionary, an atom a tile",
    "estimated_dictionary.png": "Estimated dictionary of the most used latents",
    "attributes.png": "Estimated entries of the latents most correlated with each attribute",
    "traversals.png": "Traversals: each row sweeps one of the most used latents",
    "prior_samples.png": "Samples of the prior",
}


class RunRecord(NamedTuple):
    """What a run's workdir tells.

    Attributes:
      name: the workdir's.
      settings: config.json.
      report: evaluation.json.
      rows: metrics.jsonl.
      pictures: captions and PNGs.
      published: the paper's values beside the run's.
      damage: what is wrong with rows that could not be read.
      gallery: latents.json; None where there is none.
      sprites: its pictures by their names.
    """

    name: str
    settings: dict[str, Any]
    report: dict[str, Any]
    rows: list[LogRow]
    pictures: dict[str, Path]
    published: dict[str, float]
    damage: str = ""
    gallery: dict[str, Any] | None = None
    sprites: dict[str, Path] = {}  # noqa: RUF012

    def values(self, name: str) -> list[Any]:
        """A measure's values, one a seed that has one."""
        return [value for value in self.report["metrics"].get(name, []) if value is not None]


def read_record(workdir: Path) -> RunRecord:
    """Reads a run that has been evaluated.

    Raises:
      UserError: if it has not been, or what it left cannot be read.
    """
    report = read_evaluation(workdir)
    if report is None:
        raise UserError(
            f"{workdir} holds no evaluated run (no {EVALUATION_FILE}); evaluate it first"
        )
    settings = read_config(workdir).model_dump()
    pictures = {
        caption: workdir / name
        for name, caption in PICTURES.items()
        if (workdir / name).exists() or (workdir / name).is_symlink()
    }
    gallery = read_gallery(workdir)
    sprites = {name: workdir / SPRITES[name] for name in (gallery or {}).get("tiles", {})}
    for picture in (*pictures.values(), *sprites.values()):
        _check_picture(picture)
    rows, damage = read_log(workdir)
    paper = published(settings)
    return RunRecord(
        workdir.name, settings, report, rows, pictures, paper, damage, gallery, sprites
    )


def _check_picture(path: Path) -> None:
    try:
        if not path.is_file():
            raise OSError("not a file")
        with Image.open(path) as picture:
            picture.load()
            if picture.format != "PNG":
                raise OSError(f"a {picture.format}")
    except Exception as error:  # image readers raise almost anything
        raise UserError(
            f"{path} is not a readable PNG ({error}); remove it and evaluate the run again"
        ) from None
