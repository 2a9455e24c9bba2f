"""Files of data to files of codes and back; a model out of its run and on its own."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from models import assert_trees_equal, image_config, small_config
from rich.console import Console
from safetensors.numpy import save_file
from scipy import sparse

import jvsc
from jvsc.data.rows import open_rows
from jvsc.errors import UserError
from jvsc.evaluation.inference import inference_key
from jvsc.main import EXIT_USER_ERROR, run
from jvsc.model.solver_coded import SolverCoded
from jvsc.runs import encode_files
from jvsc.runs.encode_files import decode_file, encode_file
from jvsc.runs.factories import build_dataset, build_model
from jvsc.runs.factories.models import build_infer
from jvsc.runs.train import train
from jvsc.runs.trained_model import NORMALISATION_FILE, Origin, TrainedModel, load
from jvsc.runs.workdir import locked_workdir

D, K, SMALL_BLOCK = 64, 24, 1
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A trained run of two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = small_config(num_samples=3, seeds=(0, 4), num_epochs=2)
    train(config, folder, QUIET)
    return folder


@pytest.fixture(scope="module")
def exported(workdir):
    """The same run's first seed, as a folder."""
    folder = workdir.parent / "exported"
    # The checks know no symbolic batch.
    jaxtyping.config.update("jaxtyping_disable", True)
    assert run(["--mode=export", f"--workdir={workdir}", f"--output={folder}"]) == 0
    jaxtyping.config.update("jaxtyping_disable", False)
    return folder


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(457, D)).astype(np.float32)


def test_a_models_codes_are_those_of_an_evaluation(workdir):
    trained = load(workdir)
    dataset = build_dataset(trained.config)
    infer = build_infer(trained.config, trained.model)
    key = inference_key(trained.config.eval.seed)
    expected = infer(trained.parameters, trained.statistics, dataset.validation, key).codes
    np.testing.assert_array_equal(trained.encode_normalised(dataset.validation), expected)
    assert 0 < np.mean(expected == 0) < 1
    normalisation = trained.normalisation
    np.testing.assert_array_equal(normalisation.mean, dataset.mean)
    np.testing.assert_array_equal(normalisation.scale, dataset.scale)


def test_a_seed_is_chosen_by_its_number(workdir):
    first, other = load(workdir), load(workdir, seed=4)
    assert (first.origin, other.origin) == (Origin(0, 2), Origin(4, 2))
    assert np.any(first.parameters.generator != other.parameters.generator)
    with pytest.raises(UserError, match="has the seeds 0, 4"):
        load(workdir, seed=7)


def test_the_command_encodes_and_decodes(workdir, data, tmp_path, capsys):
    np.save(tmp_path / "x.npy", data)
    codes, back = tmp_path / "codes.npz", tmp_path / "back.npy"
    model = [f"--workdir={workdir}", "--seed=4"]
    encode = ["--mode=encode", *model, f"--input={tmp_path / 'x.npy'}", f"--output={codes}"]
    assert run(encode) == 0
    assert "457 rows, 24 latents" in capsys.readouterr().out
    trained = load(workdir, seed=4)
    expected = trained.encode(data)
    found = sparse.load_npz(codes)
    assert found.shape == (len(data), K)
    assert found.nnz == np.count_nonzero(expected)
    np.testing.assert_array_equal(found.toarray(), expected)

    assert run(["--mode=decode", *model, f"--input={codes}", f"--output={back}"]) == 0
    mean, scale = trained.normalisation
    reconstruction = expected.astype(np.float64) @ np.asarray(trained.parameters.generator)
    np.testing.assert_allclose(np.load(back), reconstruction * scale + mean, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.npy", "codes.npz", "x.npy"]


def test_the_command_can_draw_non_zeros_alone(workdir, data, tmp_path):
    np.save(tmp_path / "x.npy", data)
    encode = ["--mode=encode", f"--workdir={workdir}", "--config.eval.only_nonzeros=True"]
    for name in ("a", "b"):
        files = [f"--input={tmp_path / 'x.npy'}", f"--output={tmp_path / name}.npz"]
        assert run([*encode, *files]) == 0
    first, second = (sparse.load_npz(tmp_path / f"{name}.npz").toarray() for name in ("a", "b"))
    np.testing.assert_array_equal(first, second)
    dense = load(workdir).encode(data)
    assert np.any(first != dense)
    assert np.mean(first != 0) == pytest.approx(np.mean(dense != 0), rel=0.1)


def test_blocks_and_shards_change_no_code(exported, data, tmp_path):
    trained = load(exported)
    shards = tmp_path / "shards"
    shards.mkdir()
    np.save(shards / "a.npy", data[:130].astype(np.float64))
    save_file({"x": data[130:300], "y": data[300:301]}, shards / "b.safetensors")
    np.savez(shards / "c.npz", data[301:].reshape(-1, 8, 8))
    encode_file(trained, shards, tmp_path / "codes.npz", QUIET, SMALL_BLOCK)
    found = sparse.load_npz(tmp_path / "codes.npz")
    np.testing.assert_array_equal(found.toarray(), trained.encode(data))


def test_an_encoding_that_is_killed_goes_on_from_its_finished_blocks(exported, tmp_path):
    data = np.random.default_rng(1).normal(size=(30_000, D)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    target, parts = tmp_path / "codes.npz", tmp_path / "codes.npz.parts"
    program = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from jvsc.runs.encode_files import encode_file; from jvsc.runs.trained_model import load\n"
        "model, source, target = map(Path, sys.argv[1:])\n"
        f"encode_file(load(model), source, target, Console(), {SMALL_BLOCK})"
    )
    command = [sys.executable, "-c", program, exported, tmp_path / "x.npy", target]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 300
    while len(list(parts.glob("0*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in parts.glob("0*.npz")}
    assert 3 <= len(finished) < 300
    assert not target.exists()

    # A finished block that is used again shows in the codes: this one is made to hold nothing.
    emptied = min(finished)
    sparse.save_npz(emptied, sparse.csr_array((100, K), dtype=np.float32), False)
    trained = load(exported)
    encode_file(trained, tmp_path / "x.npy", target, QUIET, SMALL_BLOCK)
    found = sparse.load_npz(target).toarray()
    assert not found[:100].any()
    np.testing.assert_array_equal(found[100:], trained.encode(data)[100:])
    assert not parts.exists()


def test_blocks_of_other_data_are_not_used(exported, data, tmp_path):
    trained, target = load(exported), tmp_path / "codes.npz"
    bad = data.copy()
    bad[250, 3] = np.nan
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(UserError, match="row 250 holds a number that is not finite"):
        encode_file(trained, tmp_path / "x.npy", target, QUIET, SMALL_BLOCK)
    assert len(list((tmp_path / "codes.npz.parts").glob("*.npz"))) == 2
    np.save(tmp_path / "x.npy", -data)
    encode_file(trained, tmp_path / "x.npy", target, QUIET, SMALL_BLOCK)
    np.testing.assert_array_equal(sparse.load_npz(target).toarray(), trained.encode(-data))


def test_a_finished_block_that_was_damaged_is_encoded_again(exported, data, tmp_path, monkeypatch):
    trained, target = load(exported), tmp_path / "codes.npz"
    np.save(tmp_path / "x.npy", data)
    join = encode_files._join
    monkeypatch.setattr(encode_files, "_join", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encode_file(trained, tmp_path / "x.npy", target, QUIET, SMALL_BLOCK)
    monkeypatch.setattr(encode_files, "_join", join)
    first, second, *_ = sorted((tmp_path / "codes.npz.parts").glob("0*.npz"))
    block = sparse.load_npz(first)
    block.indices += K
    sparse.save_npz(first, block)
    second.write_bytes(second.read_bytes()[:100])
    encode_file(trained, tmp_path / "x.npy", target, QUIET, SMALL_BLOCK)
    np.testing.assert_array_equal(sparse.load_npz(target).toarray(), trained.encode(data))


def test_a_decoding_that_the_disk_cannot_hold_is_refused_before(exported, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    sparse.save_npz(tmp_path / "codes.npz", sparse.csr_array((3, K), dtype=np.float32))
    with pytest.raises(UserError, match="GB, which its disk has not"):
        decode_file(load(exported), tmp_path / "codes.npz", tmp_path / "x.npy", QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npz"]


def test_an_exported_model_is_the_runs(workdir, exported, data):
    one, other = load(workdir), jvsc.load(exported)
    assert sorted(path.name for path in exported.iterdir()) == [
        "config.json",
        "encoder.stablehlo",
        "model.safetensors",
    ]
    assert other.origin == one.origin == Origin(0, 2)
    assert_trees_equal((one.parameters, one.statistics), (other.parameters, other.statistics))
    np.testing.assert_array_equal(one.encode(data), other.encode(data))


def test_the_exported_encoder_runs_without_jvsc(exported, data, tmp_path):
    """In a process where jvsc cannot be imported, and for batches of two sizes."""
    np.save(tmp_path / "x.npy", data)
    program = (
        "import sys; sys.modules['jvsc'] = None\n"
        "import jax, numpy as np\n"
        "encoder = jax.export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))\n"
        "data = np.load(sys.argv[2])\n"
        "parts = [encoder.call(data[:300], np.int32(0)), encoder.call(data[300:], np.int32(300))]\n"
        "np.save(sys.argv[3], np.concatenate(parts))\n"
        "try:\n    import jvsc\nexcept ImportError:\n    print('no jvsc')"
    )
    files = [exported / "encoder.stablehlo", tmp_path / "x.npy", tmp_path / "codes.npy"]
    done = subprocess.run(
        [sys.executable, "-c", "import jax.export\n" + program, *files],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "no jvsc" in done.stdout
    found, expected = np.load(tmp_path / "codes.npy"), load(exported).encode(data)
    np.testing.assert_array_equal(found != 0, expected != 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_bytes_are_encoded_as_the_images_that_they_stand_for():
    config = image_config(num_samples=2)
    model = build_model(config, 784)
    trained = TrainedModel(config, 784, *model.init(jax.random.key(0)), None, Origin(0, 0))
    images = np.random.default_rng(0).integers(0, 256, (13, 784), dtype=np.uint8)
    codes = trained.encode(images)
    floats = images / np.float32(255)
    np.testing.assert_allclose(codes, trained.encode(floats), atol=1e-5)
    assert codes.shape == (13, 10)
    np.testing.assert_array_equal(trained.encode(images.reshape(13, 28, 28)), codes)
    with pytest.raises(UserError, match=r"\(13, 27, 28\); this model takes .* rows of 784"):
        trained.encode(images.reshape(13, 28, 28)[:, 1:])
    for pixels in (images.astype(int), images.astype(np.float32)):
        for call in (trained.encode, trained.predict_support_proba):
            with pytest.raises(UserError, match="give bytes"):
                call(pixels)
    found = trained.decode(codes)
    assert found.shape == (13, 784)
    assert 0 <= found.min() <= found.max() <= 1


def corrupted(path):
    path.write_bytes(b"not an array")
    return path


def saved(path, array):
    np.save(path, array)
    return path


ENCODE_MISTAKES = [
    (lambda t: t / "none.npy", "there is no such file or folder"),
    (lambda t: saved(t / "x.npy", np.zeros((5, 7), np.float32)), "rows of 7 numbers"),
    (lambda t: saved(t / "x.npy", np.full((5, D), np.nan)), "row 0 holds a number"),
    (lambda t: saved(t / "x.npy", np.zeros(D)), "array of 1 axes"),
    (lambda t: saved(t / "x.npy", np.zeros((0, D))), "holds no rows"),
    (lambda t: saved(t / "x.npy", np.zeros((5, D), complex)), "not real numbers"),
    (lambda t: corrupted(t / "x.npy"), "cannot be read"),
    (lambda t: corrupted(t / "x.npz"), "cannot be read"),
    (lambda t: corrupted(t / "x.safetensors"), "cannot be read"),
    (lambda t: corrupted(t / "x.txt"), "give a .npy, .npz, .safetensors file"),
    (lambda t: t, "file in this folder"),
]


@pytest.mark.parametrize(("make", "message"), ENCODE_MISTAKES)
def test_a_mistake_in_the_input_is_one_line(make, message, exported, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    source = make(folder)
    codes = tmp_path / "codes.npz"
    model = [f"--workdir={exported}", f"--input={source}", f"--output={codes}"]
    assert run(["--mode=encode", *model]) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert told.startswith("jvsc: ")
    assert message in told
    assert told.count("\n") == 1
    assert not codes.exists()


OUTPUT_MISTAKES = [
    ("encode", "there.npz", "is there already"),
    ("encode", "codes.npy", "ends in .npz"),
    ("encode", "nowhere/codes.npz", "there is no folder"),
    ("decode", "there.npy", "is there already"),
    ("export", "there", "is there already"),
    ("export", "there.npz/below", "cannot be written"),
    ("export", "", "--output is missing"),
]


@pytest.mark.parametrize(("mode", "output", "message"), OUTPUT_MISTAKES)
def test_a_mistake_in_the_output_is_one_line(mode, output, message, exported, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    for name in ("there.npz", "there.npy", "x.npy"):
        (tmp_path / name).write_bytes(b"kept")
    arguments = [f"--mode={mode}", f"--workdir={exported}"]
    if mode != "export":
        arguments.append(f"--input={tmp_path / 'x.npy'}")
    if output:
        arguments.append(f"--output={tmp_path / output}")
    assert run(arguments) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert (tmp_path / "there.npz").read_bytes() == (tmp_path / "there.npy").read_bytes() == b"kept"


@pytest.fixture
def read_only(workdir, tmp_path):
    """The run on a disk that cannot be written."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "--bind", workdir, folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_run_that_cannot_be_written_is_used(read_only, workdir, data, tmp_path, capfd):
    np.save(tmp_path / "x.npy", data)
    files = [f"--input={tmp_path / 'x.npy'}", f"--output={tmp_path / 'codes.npz'}"]
    assert run(["--mode=encode", f"--workdir={read_only}", *files]) == 0
    expected = load(workdir).encode(data)
    np.testing.assert_array_equal(sparse.load_npz(tmp_path / "codes.npz").toarray(), expected)
    assert capfd.readouterr().err == ""
    assert run(["--mode=evaluate", f"--workdir={read_only}"]) == EXIT_USER_ERROR
    told = capfd.readouterr().err
    assert "cannot be written (.lock: Read-only file system)" in told
    assert told.count("\n") == 1


def test_a_model_is_read_while_its_run_is_in_use_and_changes_nothing(workdir, data, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    for file in (copy / "checkpoints" / "2" / "state").rglob("d/*"):
        file.write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert (copy / ".lock").exists()
    with locked_workdir(copy):
        assert load(copy).origin == Origin(0, 1)  # of the checkpoint before the damaged one
    after = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert after == before


def test_of_two_exports_onto_one_output_the_slower_is_one_line(exported, tmp_path, monkeypatch):
    trained, folder = load(exported), tmp_path / "model"

    def export_encoder(self):
        shutil.copytree(exported, folder)
        return b""

    monkeypatch.setattr(TrainedModel, "export_encoder", export_encoder)
    with pytest.raises(UserError, match=r"cannot be written .*remove it or give another"):
        trained.save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert load(folder).origin == trained.origin


def test_a_missing_run_is_one_line(tmp_path, capsys):
    arguments = [f"--workdir={tmp_path}", "--input=x.npy", "--output=codes.npz"]
    assert run(["--mode=encode", *arguments]) == EXIT_USER_ERROR
    assert "holds no run" in capsys.readouterr().err


def test_codes_that_do_not_fit_are_refused(exported, tmp_path):
    trained, target = load(exported), tmp_path / "x.npy"
    sparse.save_npz(tmp_path / "wide.npz", sparse.csr_array((3, K + 1)))
    with pytest.raises(UserError, match="rows of 25 numbers; this model takes 24"):
        decode_file(trained, tmp_path / "wide.npz", target, QUIET)
    sparse.save_npz(tmp_path / "nan.npz", sparse.csr_array(np.full((1, K), np.nan)))
    with pytest.raises(UserError, match="values that are not finite; encode anew"):
        decode_file(trained, tmp_path / "nan.npz", target, QUIET)
    np.savez(tmp_path / "dense.npz", np.zeros((3, K)))
    with pytest.raises(UserError, match="cannot be read"):
        decode_file(trained, tmp_path / "dense.npz", target, QUIET)
    assert not target.exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.full((2, D), np.nan), "data hold NaN or infinity; leave such rows out"),
        (np.full((2, D), "1"), "give real numbers"),
        (np.ones((2, D), complex), "of type complex128; give real numbers"),
        (np.ones(D), "takes one or more rows"),
    ],
)
def test_a_loaded_model_refuses_what_the_command_does(rows, message, exported, without_type_checks):
    with pytest.raises(UserError, match=message):
        load(exported).encode(rows)


def test_a_loaded_models_probabilities_are_its_posteriors(exported, data):
    trained = load(exported)
    found = trained.predict_support_proba(data[:50])
    normalised = jnp.asarray(trained.normalisation.apply(data[:50]))
    heads, _ = trained.model.heads(trained.parameters, trained.statistics, normalised)
    expected = trained.model.posterior.support_probability(heads)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    trained.__dict__["model"] = SolverCoded(trained.model.generator, lambda *_: None, 1.0)
    with pytest.raises(UserError, match="has no posterior, so no probabilities"):
        trained.predict_support_proba(data[:50])


def test_a_loaded_model_decodes_lists_and_sparse_codes(exported, data, without_type_checks):
    trained = load(exported)
    codes = trained.encode(data[:5])
    expected = trained.decode(codes)
    np.testing.assert_array_equal(trained.decode(sparse.csr_array(codes)), expected)
    np.testing.assert_array_equal(trained.decode(codes.tolist()), expected)


def test_a_damaged_model_is_told_in_one_line(exported, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    settings = json.loads((exported / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_latents": K + 1}))
    (folder / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"holds float32 \(.*24.*\) as .* asks for"):
        load(folder)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="export the model again"):
        load(folder)


def test_rows_of_shards_read_like_one_array(tmp_path):
    array = np.arange(60, dtype=np.float32).reshape(20, 3)
    np.save(tmp_path / "0.npy", array[:7])
    np.save(tmp_path / "1.npy", array[7:8].astype(np.float16))
    np.save(tmp_path / "2.npy", np.asfortranarray(array[8:]))
    rows, files = open_rows(tmp_path, "input")
    assert [file.name for file in files] == ["0.npy", "1.npy", "2.npy"]
    assert (rows.shape, rows.dtype, rows.nbytes) == ((20, 3), np.float32, array.nbytes)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(rows[order], array[order])
    np.testing.assert_array_equal(rows[5:9], array[5:9])
    np.testing.assert_array_equal(np.asarray(rows.part(6, 15)), array[6:15])
    np.save(tmp_path / "3.npy", np.zeros((2, 4)))
    with pytest.raises(UserError, match="rows of 3 and 4 numbers"):
        open_rows(tmp_path, "input")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written_is_refused(exported, data, tmp_path):
    np.save(tmp_path / "x.npy", data)
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        encode_file(load(exported), tmp_path / "x.npy", tmp_path / "codes.npz", QUIET)


def test_a_stored_normalisation_of_another_width_is_named(tmp_path):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(60, 6)))
    counts = {"data__num_train": 50, "data__num_validation": 10, "num_epochs": 1}
    path = str(tmp_path / "data.npy")
    config = small_config(data__name="activations", data__path=path, **counts)
    train(config, tmp_path / "run", QUIET)
    file = tmp_path / "run" / NORMALISATION_FILE
    ones = np.ones(5, np.float32)
    save_file({"mean": ones, "scale": ones}, file)
    with pytest.raises(UserError, match="says that data have 5 columns: if that is wrong, remove"):
        load(tmp_path / "run")
    file.unlink()
    assert load(tmp_path / "run").num_features == 6
