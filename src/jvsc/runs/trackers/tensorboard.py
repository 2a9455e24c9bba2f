"""A run's numbers for TensorBoard, in the workdir."""

import time
from collections.abc import Mapping
from typing import Any

from jvsc.runs.trackers import Opening

FOLDER = "tensorboard"


class TensorBoard:
    """Writes from this thread, so that a full disk is the run's error."""

    def __init__(self, opening: Opening):
        self.run_id: str = ""
        self._folder, self._first_epoch = opening.workdir / FOLDER, opening.first_epoch
        self._events: Any = None

    def _open(self) -> Any:
        """Opens a new file of events, which replace those of the first epoch and later ones."""
        # Brings in PyTorch where there is one: not before the first step.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore

        self._folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(self._folder / "events"))
        self._write(self._first_epoch, session_log=SessionLog(status=SessionLog.START))
        return self._events

    def _write(self, epoch: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

        self._events.write_event(Event(wall_time=time.time(), step=epoch, **content))

    def add(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Writes numbers, and puts them on the disk."""
        events = self._events or self._open()
        from tensorboardX.summary import scalar

        for name, number in numbers.items():
            self._write(epoch, summary=scalar(name, number))
        events.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._events is not None:
            self._events.close()
