"""Everything that a workdir holds: settings, training, checkpoints, evaluation, export, reports."""
