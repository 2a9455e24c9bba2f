"""A run's numbers for Weights & Biases."""

import os
from collections.abc import Mapping
from typing import Any

from jvsc.runs.trackers import Opening


class WeightsAndBiases:
    """A run of the project that WANDB_PROJECT names, else "jvsc"; WANDB_MODE=offline keeps it here.

    Of epochs that a kill made a run repeat it keeps the numbers that came first.
    """

    def __init__(self, opening: Opening):
        import wandb  # pyright: ignore[reportMissingImports]

        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jvsc"),
            name=opening.workdir.resolve().name,
            dir=str(opening.workdir),
            config=dict(opening.settings),
            id=opening.run_id or None,
            resume="allow",
            # The terminal is the progress bar's.
            settings=wandb.Settings(console="off", silent=True),
        )
        self.run_id: str = self._run.id

    def add(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Logs numbers at the step of an epoch."""
        self._run.log(dict(numbers), step=epoch)

    def close(self) -> None:
        """Waits until all is uploaded, or on the disk."""
        self._run.finish()
