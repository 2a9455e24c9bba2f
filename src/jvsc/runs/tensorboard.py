"""A run's numbers for TensorBoard."""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.summary import scalar


class ScalarEvents:
    """Numbers for TensorBoard, written by this thread, so that a full disk is the run's error."""

    def __init__(self, folder: Path, first_epoch: int):
        """Opens a new file of events, which replace those of `first_epoch` and later ones."""
        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(wall_time=time.time(), step=first_epoch, session_log=start))

    def add(self, name: str, number: float, epoch: int) -> None:
        """Adds a number."""
        summary = scalar(name, number)
        self._events.write_event(Event(wall_time=time.time(), step=epoch, summary=summary))

    def flush(self) -> None:
        """Puts on the disk what was added."""
        self._events.flush()

    def close(self) -> None:
        """Flushes, and closes the file."""
        self._events.close()
