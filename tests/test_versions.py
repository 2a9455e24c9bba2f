"""The version is the tag's, in whatever form the sources come."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).parent / "uv"
# What an installation needs of the sources.
PARTS = (
    "pyproject.toml", "README.md", "LICENSE", "src", "configs", ".git_archival.txt",
    ".gitattributes",
)  # fmt: skip


def execute(*command, folder):
    words = [str(word) for word in command]
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("GIT_")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def git(folder, *arguments):
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    execute("git", *author, *arguments, folder=folder)


def built_version(folder):
    execute(UV, "build", "--quiet", "--wheel", "--out-dir", "dist", folder=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    shutil.rmtree(folder / "dist")
    return wheel.name.split("-")[1]


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
        copy(ROOT / part, folder / part)
    (folder / ".gitignore").write_text("dist/\n")
    return folder


@pytest.mark.slow
def test_sources_without_history_have_the_fallback(sources):
    assert built_version(sources) == "0.1.dev0"


@pytest.mark.slow
def test_a_clone_has_its_tags_version_or_a_development_version(sources, tmp_path):
    git(sources, "init", "--quiet")
    git(sources, "add", "--all")
    git(sources, "commit", "--quiet", "--message=one")
    assert built_version(sources).startswith("0.1.dev1+g")
    git(sources, "tag", "v1.2.3")
    assert built_version(sources) == "1.2.3"
    git(sources, "archive", "--prefix=archived/", f"--output={tmp_path / 'archived.tar'}", "HEAD")
    git(sources, "commit", "--quiet", "--allow-empty", "--message=two")
    assert built_version(sources).startswith("1.2.4.dev1+g")
    shutil.unpack_archive(tmp_path / "archived.tar", tmp_path)
    assert built_version(tmp_path / "archived") == "1.2.3"
