"""The documentation's notebooks run as they are shown, and what is shown came of them."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.ipynb"))
NAMES = [notebook.stem for notebook in NOTEBOOKS]


def kinds(notebook):
    """What each code cell puts out: its streams, and its pictures."""
    return [
        [output.get("name") or sorted(output["data"]) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_there_are_three():
    assert NAMES == ["activations", "own_posterior", "photographs"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_small_and_whole(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 200_000
    assert any(kinds(notebook))
    # Of no machine, and without warnings.
    assert not re.search(r"/(home|root|tmp|usr|site-packages)/", path.read_text())
    assert "stderr" not in str(kinds(notebook))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_to_what_is_shown(path, tmp_path):
    shown = nbformat.read(path, as_version=4)
    run = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(run, timeout=500, kernel_name="python3", resources=folder).execute()
    assert kinds(run) == kinds(shown)
