"""When a run ends before its last epoch, as its validation losses have stopped falling."""

import math

from jvsc.runs.config import Config
from jvsc.runs.logs import LogRow
from jvsc.runs.sections import EarlyStoppingConfig
from jvsc.training.patience import Patience


def patience_after(
    row: LogRow, patience: tuple[Patience, ...], settings: EarlyStoppingConfig
) -> tuple[Patience, ...]:
    """The seeds' patience after a validation, whose losses are in its row of the log."""
    return tuple(
        seed.after(math.nan if loss is None else loss, settings.min_delta)
        for seed, loss in zip(patience, row["validation_loss"], strict=True)
    )


def has_stopped_falling(patience: tuple[Patience, ...], settings: EarlyStoppingConfig) -> bool:
    """Whether no seed's validation loss has fallen for as long as is waited."""
    return min(seed.waited for seed in patience) >= settings.patience


def ended_early(rows: list[LogRow], config: Config) -> bool:
    """Whether a run's log ends where its loss had stopped falling."""
    if not config.early_stopping.patience:
        return False
    patience = (Patience(),) * len(config.seeds)
    for row in rows:
        if "validation_loss" in row:
            patience = patience_after(row, patience, config.early_stopping)
    return has_stopped_falling(patience, config.early_stopping)
