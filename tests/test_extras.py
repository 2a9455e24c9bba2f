"""What jvsc does without its extras: the library works, the command says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jvsc.data
import jvsc.errors
from jvsc.errors import UserError
from jvsc.main import EXIT_USER_ERROR, run
from jvsc.runs.report import MODULES

ROOT = Path(__file__).parents[1]
EXTRA = ("tensorboardX", *MODULES)
LIBRARY = f"""
import sys
import numpy as np
from jvsc import SparseCoder, load
from jvsc.solvers import fista
X = np.random.default_rng(0).laplace(size=(300, 8)).astype("float32")
coder = SparseCoder(n_components=12, sparsity=0.3, max_iter=2, random_state=0).fit(X)
codes = coder.transform(X)
assert codes.shape == (300, 12) and np.isfinite(codes).all() and (codes != 0).any()
brought_in = set({EXTRA!r}) & set(sys.modules)
assert not brought_in, brought_in
"""


def alone(*command, **options):
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, **options)


def succeed(*command, **options):
    done = alone(*command, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def without_extras(monkeypatch):
    monkeypatch.setattr(jvsc.errors, "find_spec", lambda module: None)


@pytest.mark.parametrize("mode", ["train", "evaluate", "compare"])
def test_the_command_names_what_is_missing_before_it_begins(
    mode, without_extras, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text("{}")
    runs = [f"--workdirs={workdir}"] if mode == "compare" else []
    assert run([f"--mode={mode}", f"--workdir={workdir}", *runs]) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert "matplotlib" in line
    assert "pip install 'jvsc[command]'" in line
    assert [path.name for path in workdir.iterdir()] == ["config.json"]


def test_pictures_as_data_name_what_is_missing(without_extras):
    with pytest.raises(UserError, match=r"load_patches needs PIL, skimage: .*'jvsc\[command\]'"):
        _ = jvsc.data.load_patches


def test_the_library_imports_nothing_of_the_commands_extra():
    succeed(sys.executable, "-c", LIBRARY)


@pytest.mark.slow
def test_a_wheel_fits_in_an_environment_of_its_requirements_alone(tmp_path):
    uv, python = Path(sys.executable).parent / "uv", tmp_path / "venv" / "bin" / "python"
    succeed(uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    succeed(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    lock = ROOT / "requirements.lock"
    succeed(uv, "pip", "install", "--quiet", "--python", python, "--constraint", lock, wheel)
    missing = f"from importlib.util import find_spec; print(*map(find_spec, {EXTRA!r}))"
    assert set(succeed(python, "-c", missing).split()) == {"None"}
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    surroundings = {"cwd": tmp_path, "env": environment}
    succeed(python, "-c", LIBRARY, **surroundings)
    assert "--workdir" in succeed(python, "-m", "jvsc.main", "--help", **surroundings)
    done = alone(python, "-m", "jvsc.main", **surroundings)
    assert done.returncode == EXIT_USER_ERROR
    assert done.stderr.splitlines()[-1].endswith("pip install 'jvsc[command]'")
