"""Whatever lives in a workdir: settings, training, checkpoints, evaluation, export, reports."""
