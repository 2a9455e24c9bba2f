"""What an evaluation has finished so far, on disk, so that a killed one goes on from there."""

import json
from pathlib import Path
from typing import Any

from jvsc.runs.workdir import write_atomically

PARTIAL_FILE = "evaluation.partial.json"


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
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            if stored["identity"] == self._identity:
                self._entries = stored["entries"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none, or not a whole one: everything is computed

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
