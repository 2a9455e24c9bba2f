"""Evaluations on disk: whole ones, and what a killed one had finished, which goes on from there."""

import json
from pathlib import Path
from typing import Annotated, Any

import pydantic
from typing_extensions import TypedDict

from jvsc.data.atomic import write_atomically
from jvsc.errors import UserError
from jvsc.runs.report.measures import MEASURE_ROWS
from jvsc.runs.stored import UnreadableError, set_aside, stored_json

PARTIAL_FILE = "evaluation.partial.json"
EVALUATION_FILE = "evaluation.json"
SECONDS_FILE = "evaluation_seconds.json"
# Measures that are more than a number a seed.
VECTORS = ("active_latents", "latent_frequency", "jaccard_histogram")


class _Report(TypedDict):
    """What a page shows of evaluation.json; what else is there is not looked at."""

    __pydantic_config__ = pydantic.ConfigDict(extra="allow")  # type: ignore[misc]

    method: str
    seeds: list[int]
    num_samples: int
    sampling: str
    epochs: list[int]
    data: str
    diverged: dict[str, dict[str, Any]]
    num_validation: int
    metrics: Annotated[dict[str, list[Any]], pydantic.AfterValidator(lambda m: _of_their_kinds(m))]


class _Entry(TypedDict):
    values: dict[str, Any]
    seconds: float


class _Partial(TypedDict):
    identity: dict[str, Any]
    entries: dict[str, _Entry]


_REPORT, _PARTIAL = pydantic.TypeAdapter(_Report), pydantic.TypeAdapter(_Partial)
_NUMBERS = pydantic.TypeAdapter(list[float | None])
_VECTORS = pydantic.TypeAdapter(list[list[float] | None])
_TEXTS = pydantic.TypeAdapter(list[str | None])
_KINDS: dict[str, Any] = {
    **{row.name: _NUMBERS for row in MEASURE_ROWS},
    **dict.fromkeys(VECTORS, _VECTORS),
    "frechet_features": _TEXTS,
}
_SECONDS = pydantic.TypeAdapter(dict[str, list[float | None]])


def read_evaluation(workdir: Path) -> dict[str, Any] | None:
    """What evaluation.json holds; None where there is none.

    Raises:
      UserError: if it cannot be read.
    """
    file = workdir / EVALUATION_FILE
    try:
        report = stored_json(file, _REPORT)
    except UnreadableError as error:
        raise UserError(
            f"{file} cannot be read ({error}); remove it and evaluate the run again"
        ) from None
    return None if report is None else dict(report)


def _of_their_kinds(metrics: dict[str, list[Any]]) -> dict[str, list[Any]]:
    for name in metrics.keys() & _KINDS.keys():
        try:
            _KINDS[name].validate_python(metrics[name], strict=True)
        except pydantic.ValidationError as error:
            raise ValueError(f"{name}: {error.errors()[0]['msg']}") from None
    return metrics


def read_evaluation_seconds(workdir: Path) -> float:
    """How long the measures of a run's evaluation took in all; zero if it is not known."""
    try:
        seconds = stored_json(workdir / SECONDS_FILE, _SECONDS) or {}
    except UnreadableError:
        return 0.0
    return sum(value for values in seconds.values() for value in values if value)


class EvaluationStore:
    """Finished groups of measures of one state under one set of settings."""

    def __init__(self, workdir: Path, identity: dict[str, Any]):
        """Opens what an evaluation of the same identity left behind; anything else is dropped.

        Args:
          workdir: the run's.
          identity: what the values depend on: the checkpoint and the settings.
        """
        self._file = workdir / PARTIAL_FILE
        # As they come back from JSON, where a tuple is a list.
        self._identity = json.loads(json.dumps(identity))
        self._entries: dict[str, Any] = {}
        try:
            stored = stored_json(self._file, _PARTIAL)
            if stored is not None and stored["identity"] == self._identity:
                self._entries = dict(stored["entries"])
        except UnreadableError:
            set_aside(self._file)  # not a whole one: everything is computed

    def get(self, name: str) -> dict[str, Any] | None:
        """The values of a group, and the seconds they took; None if it is not finished."""
        return self._entries.get(name)

    def put(self, name: str, values: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Keeps a finished group; returns its entry."""
        self._entries[name] = {"values": values, "seconds": seconds}
        content = {"identity": self._identity, "entries": self._entries}
        write_atomically(self._file, json.dumps(content) + "\n")
        return self._entries[name]

    def clear(self) -> None:
        """Removes the file: the evaluation is whole."""
        self._file.unlink(missing_ok=True)
