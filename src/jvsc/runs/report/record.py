"""A finished run as a report sees it: the files in its workdir."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from jvsc.errors import UserError
from jvsc.runs.logs import Row, read_metrics
from jvsc.runs.report.measures import published

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
    """

    name: str
    settings: dict[str, Any]
    report: dict[str, Any]
    rows: list[Row]
    pictures: dict[str, Path]
    published: dict[str, float]

    def values(self, name: str) -> list[Any]:
        """A measure's values, one a seed that has one."""
        return [value for value in self.report["metrics"].get(name, []) if value is not None]


def read_record(workdir: Path) -> RunRecord:
    """Reads a run that has been evaluated.

    Raises:
      UserError: if it has not been.
    """
    try:
        settings = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
        report = json.loads((workdir / "evaluation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{workdir} holds no evaluated run ({error}); "
            f"run `python -m jvsc.main --mode=evaluate --workdir={workdir}` first"
        ) from None
    pictures = {
        caption: workdir / name for name, caption in PICTURES.items() if (workdir / name).exists()
    }
    rows = read_metrics(workdir)
    return RunRecord(workdir.name, settings, report, rows, pictures, published(settings))
