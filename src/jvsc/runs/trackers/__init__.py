"""Where a run's numbers go beside metrics.jsonl: programs that show them while it trains."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import pydantic

from jvsc.data.atomic import write_atomically
from jvsc.errors import UserError, require_extra
from jvsc.runs.stored import UnreadableError, set_aside, stored_json

# The runs that trackers know this one by, so that a run that goes on is one run there too.
RUNS_FILE = "trackers.json"
_RUNS = pydantic.TypeAdapter(dict[str, str])


@runtime_checkable
class Tracker(Protocol):
    """Takes numbers, an epoch at a time.

    Attributes:
      run_id: what it knows the run by; "" where the workdir is enough.
    """

    run_id: str

    def add(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Takes an epoch's numbers, by names such as "loss/seed_0"."""
        ...

    def close(self) -> None:
        """Waits until what was added is kept."""
        ...


class Opening(NamedTuple):
    """What a tracker is opened with.

    Attributes:
      workdir: the run's.
      first_epoch: the first that it will be given; what it has of later ones is out of date.
      settings: the run's, by dotted keys.
      run_id: what it knew the run by before; "" for a new one.
    """

    workdir: Path
    first_epoch: int
    settings: Mapping[str, Any]
    run_id: str = ""


class TrackerKind(NamedTuple):
    """A tracker that can be asked for.

    Attributes:
      extra: of jvsc's extras the one that brings its package.
      module: its package.
      place: where its class is: a module, and the name in it.
    """

    extra: str
    module: str
    place: tuple[str, str]

    def open(self, opening: Opening) -> Tracker:
        """Opens it."""
        module, name = self.place
        make: Callable[[Opening], Tracker] = getattr(import_module(module), name)
        return make(opening)


TRACKERS = {
    "tensorboard": TrackerKind(
        "command", "tensorboardX", ("jvsc.runs.trackers.tensorboard", "TensorBoard")
    ),
    "wandb": TrackerKind(
        "wandb", "wandb", ("jvsc.runs.trackers.weights_and_biases", "WeightsAndBiases")
    ),
    "mlflow": TrackerKind("mlflow", "mlflow", ("jvsc.runs.trackers.mlflow_runs", "MLflow")),
}


def require_trackers(names: Sequence[str]) -> None:
    """Raises `UserError` if the package of a tracker is not installed."""
    for name in names:
        kind = TRACKERS[name]
        require_extra(kind.extra, f"output.trackers={name}", [kind.module])


@contextmanager
def open_trackers(names: Sequence[str], opening: Opening) -> Iterator[list[Tracker]]:
    """Opens trackers, each at the run that it had of this workdir, and closes them at the end.

    Raises:
      UserError: if one cannot be opened, such as without an account.
    """
    file = opening.workdir / RUNS_FILE
    try:
        runs: dict[str, str] = stored_json(file, _RUNS) or {}
    except UnreadableError:
        set_aside(file)
        runs = {}
    with ExitStack() as stack:
        opened: list[Tracker] = []
        for name in dict.fromkeys(names):
            try:
                tracker = TRACKERS[name].open(opening._replace(run_id=runs.get(name, "")))
            except OSError:
                raise
            except Exception as error:  # whatever a server or a missing account makes it raise
                reason = " ".join(str(error).split())
                raise UserError(
                    f"output.trackers={name} cannot be opened ({reason}); change that, or leave it "
                    "out of output.trackers"
                ) from error
            stack.callback(tracker.close)
            opened.append(tracker)
            if tracker.run_id and tracker.run_id != runs.get(name):
                runs[name] = tracker.run_id
                write_atomically(file, json.dumps(runs) + "\n")
        yield opened
