"""A run's numbers for MLflow."""

import os
import time
from collections.abc import Mapping
from typing import Any

from jvsc.runs.trackers import Opening

# No server takes longer values of a setting, or more settings at once.
LONGEST_VALUE, MOST_AT_ONCE = 500, 100


class MLflow:
    """A run of the experiment MLFLOW_EXPERIMENT_NAME, else "jvsc", where MLFLOW_TRACKING_URI says.

    Of epochs that a kill made a run repeat MLflow keeps both numbers, of which the last counts.
    """

    def __init__(self, opening: Opening):
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        self._client: Any = MlflowClient()
        self.run_id: str = opening.run_id if self._goes_on(opening.run_id) else self._new(opening)

    def _goes_on(self, run_id: str) -> bool:
        """Whether a run is there, and goes on."""
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

        if not run_id:
            return False
        try:
            there = self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False  # of another server
        if there:
            self._client.update_run(run_id, status="RUNNING")
        return there

    def _new(self, opening: Opening) -> str:
        from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "jvsc")
        experiment = self._client.get_experiment_by_name(name)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run = self._client.create_run(identity, run_name=opening.workdir.resolve().name)
        settings = [Param(k, str(v)[:LONGEST_VALUE]) for k, v in opening.settings.items()]
        for start in range(0, len(settings), MOST_AT_ONCE):
            some = settings[start : start + MOST_AT_ONCE]
            self._client.log_batch(run.info.run_id, params=some)
        return run.info.run_id

    def add(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Logs numbers at the step of an epoch."""
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

        now = int(1000 * time.time())
        metrics = [Metric(name, float(number), now, epoch) for name, number in numbers.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self.run_id)
