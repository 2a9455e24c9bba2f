"""Damaged, missing and foreign checkpoints: found, named, and the one before them used."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from models import assert_trees_equal, small_config
from test_train import without_times

from jvsc.errors import UserError
from jvsc.runs.checkpoint import open_checkpoints
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.runs.logs import read_metrics
from jvsc.runs.restore import on_one_device
from jvsc.runs.train import train
from jvsc.training.state import init_states

CONFIG = small_config(num_epochs=3, output__keep_last=3)
NEWEST = 3


def template(config):
    model = build_model(config, config.data.patch_size**2)
    optimizer = build_optimizer(config, config.steps_per_epoch)
    return on_one_device(jax.eval_shape(lambda: init_states(config.seeds, model, optimizer)))


LIKE = template(CONFIG)


def restore(workdir, like=LIKE):
    """The newest checkpoint that is whole, and what was told of others."""
    told: list[str] = []
    with open_checkpoints(workdir) as checkpoints:
        return checkpoints.restore_newest(like, told.append), told


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with the checkpoints of epochs 1, 2 and 3, and these by their epochs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train(CONFIG, workdir)
    states = {}
    for epoch in (3, 2):
        restored, told = restore(workdir if epoch == 3 else cut(workdir, epoch))
        assert restored is not None
        assert (restored.epoch, told) == (epoch, [])
        states[epoch] = restored.state
    return workdir, states


def cut(workdir: Path, epoch: int) -> Path:
    copy = workdir.with_name(f"until {epoch}")
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints" / str(epoch + 1))
    return copy


def truncated(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content))] if content else content


def with_a_flipped_bit(content: bytes, random: np.random.Generator) -> bytes:
    if not content:
        return content
    changed = bytearray(content)
    changed[random.integers(len(content))] ^= 1 << random.integers(8)
    return bytes(changed)


def missing(content: bytes, random: np.random.Generator) -> None:
    del content, random


@pytest.mark.parametrize("damage", [truncated, with_a_flipped_bit, missing])
def test_every_damaged_file_is_found_or_harms_nothing(finished, tmp_path, damage):
    """Each file of the newest checkpoint in turn; what is read is what was written, or older."""
    workdir, states = finished
    files = [
        file.relative_to(workdir)
        for file in sorted((workdir / "checkpoints" / str(NEWEST)).rglob("*"))
        if file.is_file()
    ]
    random = np.random.default_rng(0)
    found, unread = 0, []
    for number, file in enumerate(files):
        copy = tmp_path / str(number)
        shutil.copytree(workdir, copy)
        content = damage((copy / file).read_bytes(), random)
        if content is None:
            (copy / file).unlink()
        else:
            (copy / file).write_bytes(content)
        restored, told = restore(copy)
        assert restored is not None, file
        assert_trees_equal(restored.state, states[restored.epoch])
        if restored.epoch == NEWEST:
            assert told == []
            unread.append(file.name)
            continue
        assert restored.epoch == NEWEST - 1
        (line,) = told
        assert f"checkpoint of epoch {NEWEST} is damaged" in line
        assert "\n" not in line
        assert list((copy / "damaged").iterdir()), file
        found += 1
    print(f"{damage.__name__}: {len(files)} files, {found} found, {len(unread)} harmless: {unread}")
    assert found >= 5


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(finished, tmp_path):
    workdir, states = finished
    shutil.copytree(workdir, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints" / "3" / "state").rglob("d/*"):
        file.write_bytes(b"")
    state = train(CONFIG, tmp_path / "run").state
    assert_trees_equal(state, states[3])
    assert without_times(read_metrics(workdir)) == without_times(read_metrics(tmp_path / "run"))


def test_a_newest_checkpoint_that_is_gone_is_trained_again(finished, tmp_path):
    workdir, states = finished
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")
    assert_trees_equal(train(CONFIG, tmp_path / "run").state, states[3])


def test_checkpoints_that_are_all_damaged_are_named_and_kept(finished, tmp_path):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").rglob("d/*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"can be read \(damaged: epochs 3, 2, 1") as told:
        train(CONFIG, tmp_path / "run")
    assert "\n" not in str(told.value)
    assert len(list((tmp_path / "run" / "damaged").iterdir())) >= 3


def test_a_checkpoint_of_another_version_is_named_and_stays(finished, tmp_path):
    """Its training state has another structure, as an older or newer jvsc's would."""
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    other = template(small_config(num_epochs=3, num_latents=25))
    with pytest.raises(UserError, match=r"was written by jvsc \S+, whose training state") as told:
        restore(tmp_path / "run", other)
    assert "\n" not in str(told.value)
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir()


def test_a_checkpoint_without_digests_is_read_as_older_versions_wrote_it(finished, tmp_path):
    workdir, states = finished
    shutil.copytree(workdir, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "3" / "position" / "metadata"
    assert set(json.loads(file.read_text())) >= {"check", "digest", "structure", "version"}
    file.write_text(json.dumps({"position": {}}))
    restored, told = restore(tmp_path / "run")
    assert restored is not None
    assert (restored.epoch, told) == (3, [])
    assert_trees_equal(restored.state, states[3])
