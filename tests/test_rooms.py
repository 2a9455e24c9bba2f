"""The order of the rooms: a room imports only from rooms below it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def broken_contracts(source: Path) -> str:
    """What import-linter says of a copy of the sources; empty where the contract is kept."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [*command, "--config", ROOT / "pyproject.toml"],
        env=environment, cwd=source, capture_output=True, text=True,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout


def test_rooms_import_downwards_only_and_a_violation_is_found(tmp_path):
    shutil.copytree(ROOT / "src" / "jvsc", tmp_path / "jvsc")
    assert not broken_contracts(tmp_path)
    with (tmp_path / "jvsc" / "solvers" / "fista.py").open("a") as file:
        file.write("\nimport jvsc.runs.config  # noqa\n")
    assert "jvsc.solvers.fista -> jvsc.runs.config" in broken_contracts(tmp_path)
