# Needs: the runs that try_here.sh has trained.
# Start: python launch/slurm/check_runs.py FOLDER EPOCHS
"""Whether two equal runs, one of them interrupted, are complete and came to the same numbers."""

import json
import sys
from pathlib import Path


def measured(run: Path, num_epochs: int) -> list[tuple]:
    """A complete run's numbers: those of every epoch, and those of the evaluation."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    epochs = [row["epoch"] for row in rows]
    if epochs != list(range(1, num_epochs + 1)):
        sys.exit(f"{run}: metrics.jsonl has epochs {epochs}, not 1 to {num_epochs}")
    if not (run / "checkpoints" / str(num_epochs)).is_dir():
        sys.exit(f"{run}: there is no checkpoint of epoch {num_epochs}")
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    if evaluation["epochs"] != [num_epochs]:
        sys.exit(f"{run}: epochs {evaluation['epochs']} were evaluated, not {num_epochs}")
    trained = [(row["loss"], row["validation_loss"]) for row in rows]
    return [*trained, tuple(evaluation["metrics"]["validation_loss"])]


def main() -> None:
    """Ends with a line and exit code 1 where something is missing or differs."""
    folder, num_epochs = Path(sys.argv[1]), int(sys.argv[2])
    one, other = (measured(folder / name, num_epochs) for name in ("1", "2"))
    if one != other:
        sys.exit(f"the interrupted run came to other numbers:\n{one}\n{other}")
    measured(folder / "pair", 1)


main()
