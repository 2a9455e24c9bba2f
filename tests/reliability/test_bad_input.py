"""What is given does not serve: one line says so, and no code out of a file is run."""

import ast
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import jvsc.main
from jvsc.data import load_fashion_mnist
from jvsc.data.celeba import face
from jvsc.data.idx import read_idx_images
from jvsc.data.image_cache import Recipe, open_cache
from jvsc.data.patches import mat_images
from jvsc.data.prepared import EncodedImages
from jvsc.errors import UserError
from jvsc.main import EXIT_USER_ERROR, run
from jvsc.runs.config import Config, flatten

SOURCE = Path(__file__).parents[2] / "src" / "jvsc"
CONFIG = Path(__file__).parents[2] / "configs" / "patches.py"
DEFAULTS = flatten(Config().model_dump())
TEXTS = sorted(key for key, value in DEFAULTS.items() if isinstance(value, str))
FREE_TEXTS = {key for key in TEXTS if DEFAULTS[key] == ""}
SWITCHES = {key for key, value in DEFAULTS.items() if isinstance(value, bool)}
NUMBERS = sorted(DEFAULTS.keys() - set(TEXTS) - SWITCHES)
# Their zero is allowed; nothing below it is, for any number.
WRONG_NUMBERS = st.one_of(
    st.floats(max_value=-1e-30, allow_nan=False).map(repr),
    st.integers(max_value=-1).map(str),
    st.sampled_from(["nan", "inf", "-inf", "1e999", "(", "{1", "[1", "None,", "True", "1j"]),
    st.text(alphabet="abcxyz!$ü\n\t'\"", min_size=1, max_size=8),
)
# A number's own key, and what stands in lists of numbers.
WRONG_LISTS = st.lists(st.floats(max_value=-1e-30), min_size=1, max_size=3).map(str)


@pytest.fixture(scope="module")
def told_of(tmp_path_factory):
    """Runs a command line that must be refused; returns the line it told."""
    patch = pytest.MonkeyPatch()

    def accepted(config, workdir, console):
        raise AssertionError(f"accepted: {config}")

    patch.setattr(jvsc.main, "train", accepted)
    workdir = tmp_path_factory.mktemp("refused") / "run"

    def told(arguments, capsys):
        code = run([f"--config={CONFIG}", f"--workdir={workdir}", *arguments])
        out, err = capsys.readouterr()
        assert code == EXIT_USER_ERROR, (arguments, code)
        assert out == ""
        assert err.startswith("jvsc: "), (arguments, err)
        assert err.count("\n") == 1, (arguments, err)
        assert "Traceback" not in err
        assert not workdir.exists()
        return err

    yield told
    patch.undo()


def quick(examples):
    """The same examples every time, none of them kept."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@quick(300)
@given(key=st.sampled_from(NUMBERS), value=st.one_of(WRONG_NUMBERS, WRONG_LISTS))
def test_a_number_of_a_wrong_type_or_range_is_refused_in_one_line(told_of, capsys, key, value):
    told_of([f"--config.{key}={value}"], capsys)


@quick(40)
@given(
    key=st.sampled_from(sorted(set(TEXTS) - FREE_TEXTS)),
    value=st.text(alphabet="abcxyz!$ü\n", max_size=8),
)
def test_a_choice_that_is_none_is_refused_in_one_line(told_of, capsys, key, value):
    told_of([f"--config.{key}={value}"], capsys)


@quick(60)
@given(name=st.text(alphabet="abcdefmnst._-", min_size=1, max_size=20))
def test_a_key_or_flag_that_is_none_is_refused_in_one_line(told_of, capsys, name):
    if name not in DEFAULTS:
        told_of([f"--config.{name}=1"], capsys)


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_refuses_a_word(told_of, capsys, key):
    """Whatever hypothesis picked: none of the keys was left out."""
    assert "word" in told_of([f"--config.{key}=word"], capsys)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Cut short, some bytes changed, a piece taken out or put in."""
    kind, place = random.integers(4), int(random.integers(len(content)))
    if kind == 0:
        return content[:place]
    if kind == 1:
        changed = bytearray(content)
        for at in random.integers(len(content), size=random.integers(1, 20)):
            changed[at] = random.integers(256)
        return bytes(changed)
    length = int(random.integers(1, 200))
    if kind == 2:
        return content[:place] + content[place + length :]
    return content[:place] + random.bytes(length) + content[place:]


def count_refused(read, content: bytes, file: Path, tries: int) -> int:
    """Reads damaged copies of a file; the others must give what `read` returns."""
    random = np.random.default_rng(0)
    refusals = []
    for _ in range(tries):
        file.write_bytes(damaged(content, random))
        try:
            read(file)
        except UserError as error:
            refusals.append(str(error))
    print(f"{file.name}: {tries} damaged files tried, {len(refusals)} refused, others readable")
    for refusal in refusals:
        assert "\n" not in refusal
        assert file.name in refusal
    return len(refusals)


def test_damaged_idx_files_are_refused_or_hold_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", *images.shape) + images.tobytes()

    def read(file):
        assert read_idx_images(file).dtype == np.uint8

    assert count_refused(read, content, tmp_path / "images", 500) > 300


def test_damaged_mat_files_are_refused_or_hold_finite_images(tmp_path):
    images = np.random.default_rng(0).normal(size=(16, 16, 3)).astype(np.float32)
    for compressed in (False, True):
        stream = io.BytesIO()
        scipy.io.savemat(stream, {"IMAGES": images}, do_compression=compressed)

        def read(file):
            assert all(np.isfinite(image).all() for image in mat_images(file))

        assert count_refused(read, stream.getvalue(), tmp_path / f"{compressed}.mat", 300) > 100


def test_damaged_jpeg_files_are_left_out_or_decoded(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (22, 18, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((178, 218)).save(stream, "JPEG")
    files = [damaged(stream.getvalue(), random) for _ in range(300)]
    source = EncodedImages([str(i) for i in range(300)], files.__getitem__, "")
    recipe = Recipe("", source, lambda encoded: face(encoded, 64), 300, 64 * 64 * 3, "")
    decoded = [recipe.pixels(index) for index in range(300)]
    left_out = sum(image is None for image in decoded)
    assert {image.shape for image in decoded if image is not None} == {(64 * 64 * 3,)}
    print(f"300 damaged JPEG files tried, {left_out} left out, the others decoded")
    assert 50 < left_out < 300


def test_a_folder_of_damaged_idx_files_is_told_in_one_line(tmp_path):
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (tmp_path / name).write_bytes(b"\x00\x00\x08\x03")
    with pytest.raises(UserError, match="ends within its header; fetch it again"):
        load_fashion_mnist(str(tmp_path))


# No code out of a file


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_the_bomb_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_a_pickle_in_a_cache_is_not_opened(tmp_path):
    mark = tmp_path / "mark"
    file = tmp_path / "cache.npy"
    np.save(file, np.array([[Bomb(mark)]], object), allow_pickle=True)
    file.with_suffix(".json").write_text(json.dumps({"crc": 0, "corrupt": []}))
    source = EncodedImages(["0"], lambda index: b"", "")
    assert open_cache(file, Recipe("", source, lambda b: np.zeros(1, np.uint8), 1, 1, "")) is None
    assert not mark.exists()


def test_a_pickle_given_as_a_mat_file_is_not_opened(tmp_path):
    mark = tmp_path / "mark"
    with (tmp_path / "arrays.mat").open("wb") as file:
        np.savez(file, IMAGES=np.array([[[Bomb(mark)]]], object), allow_pickle=True)
    with pytest.raises(UserError, match="not a readable"):
        mat_images(tmp_path / "arrays.mat")
    (tmp_path / "pickle.mat").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(UserError, match="not a readable"):
        mat_images(tmp_path / "pickle.mat")
    assert not mark.exists()


def test_objects_in_a_mat_file_are_refused(tmp_path):
    cells = np.empty((2, 2, 2), object)
    cells.fill(np.arange(3.0))
    scipy.io.savemat(tmp_path / "cells.mat", {"IMAGES": cells})
    with pytest.raises(UserError, match="it must be numbers"):
        mat_images(tmp_path / "cells.mat")


def test_a_pickle_given_as_weights_is_not_opened(tmp_path):
    pytest.importorskip("torch", reason="only PyTorch reads .pth files")
    from jvsc.evaluation.features.frechet_features import load_inception

    mark = tmp_path / "mark"
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    with pytest.raises(UserError, match="no weights of Inception-v3"):
        load_inception(tmp_path / "weights.pth", (28, 28, 1))
    assert not mark.exists()


def test_no_room_unpickles():
    """No module that does so is imported, and every reader that could is told not to."""
    seen = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                unsafe = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
                assert module.split(".")[0] not in unsafe, file
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "__import__"), (file, name)
            if name in ("np.load", "numpy.load", "torch.load"):
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("allow_pickle") == "False" or given.get("weights_only") == "True"
                seen.append(name)
    assert sorted(set(seen)) == ["np.load", "torch.load"]
