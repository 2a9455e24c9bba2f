"""The documentation's examples run as they are printed, shorter."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


def told_by(example, *arguments):
    line = [sys.executable, EXAMPLES / example, *arguments]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def share(told, name):
    return float(re.search(rf"{name}: ([\d.]+)%", told).group(1)) / 100


@pytest.mark.slow
def test_photographs_give_sparse_codes_and_a_picture_of_atoms(tmp_path):
    picture = tmp_path / "atoms.png"
    sizes = ("--num-train=2000", "--n-components=32", "--max-iter=50")
    told = told_by("photographs.py", f"--atoms={picture}", *sizes)
    # The controller holds the share of non-zeros that was asked, a tenth.
    assert 0.07 < share(told, "non-zeros") < 0.13
    assert share(told, "variance explained") > 0.1
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_missing_pixels_are_filled_in(tmp_path):
    picture = tmp_path / "inpainted.png"
    told = told_by("inpainting.py", f"--picture={picture}", "--num-train=4000", "--max-iter=30")
    assert share(told, "missing pixels explained") > 0.8
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_language_model_keeps_most_of_its_cross_entropy():
    sizes = ("--steps=150", "--num-train=12800", "--n-components=128", "--max-iter=6")
    told = told_by("language_model.py", *sizes)
    clean, ablated = map(float, re.search(r"character: ([\d.]+), .*: ([\d.]+)", told).groups())
    assert clean < ablated - 0.5
    counts = []
    for method in ("inferred_threshold", "topk"):
        assert share(told, f"{method}, cross-entropy recovered") > 0.5
        counts.append(float(re.search(rf"{method}, non-zeros: ([\d.]+)", told).group(1)))
    assert counts[0] == pytest.approx(counts[1], rel=0.15)


def test_the_method_on_one_screen_gives_sparse_codes():
    told = told_by("train_by_hand.py", "--steps=60")
    assert 0 < share(told, "non-zeros") < 0.5
    assert re.search(r"objective \(10\): [\d.]+, of zero codes 32.0", told)


@pytest.mark.slow
def test_a_posterior_of_ones_own_gives_codes_that_are_never_negative(tmp_path):
    sizes = ("--num-train=2000", f"--workdir={tmp_path}")
    told = told_by("own_model.py", "--num-epochs=4", *sizes)
    assert "smallest code: 0.0" in told
    assert 0.05 < share(told, "non-zeros") < 0.5
    explained = share(told, "variance explained")
    assert explained > 0.2
    continued = told_by("own_model.py", "--num-epochs=8", *sizes)
    assert "epoch 4:" not in continued
    assert "epoch 8:" in continued
    assert share(continued, "variance explained") > explained
