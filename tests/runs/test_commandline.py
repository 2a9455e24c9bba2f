"""The command line: what is understood, and what is refused."""

import json
import re
from pathlib import Path

import pytest

import jvsc
from jvsc.errors import UserError
from jvsc.main import EXIT_USER_ERROR, run
from jvsc.runs.commandline import parse
from jvsc.runs.config import Config, flatten, make_config

CONFIG = str(Path(__file__).parents[2] / "configs" / "patches.py")


def train(*arguments, method="thresholded_laplacian"):
    return parse([f"--config={CONFIG}:{method}", "--workdir=somewhere", *arguments]).config


def test_without_arguments_the_demonstration_is_run():
    command = parse([])
    assert command.mode == "train"
    assert command.workdir == Path("runs/demo")
    assert command.config.method == "inferred_threshold"
    assert command.config.data.path == ""
    assert command.config.num_epochs < 100


def test_settings_are_overridden_by_key():
    config = train(
        "--config.num_epochs=3",
        "--config.num_samples=20",
        "--config.sampling=avg",
        "--config.estimator=subgradient",
        "--config.kl_weight=0.001",
        "--config.seeds=(0,1,2)",
        "--config.data.path=x.mat",
        "--config.data.num_train=700",
        "--config.data.num_validation=70",
        "--config.num_latents=64",
        "--config.batch_size=7",
    )
    assert (config.num_epochs, config.num_samples, config.sampling) == (3, 20, "avg")
    assert (config.estimator, config.kl_weight, config.seeds) == ("subgradient", 1e-3, (0, 1, 2))
    assert (config.data.path, config.data.num_train) == ("x.mat", 700)
    assert (config.data.num_validation, config.num_latents, config.batch_size) == (70, 64, 7)


def test_the_method_of_the_file_may_be_said_again():
    config = train("--config.method=gaussian", method="gaussian,demo")
    assert (config.method, config.num_epochs) == ("gaussian", 15)


def test_configs_that_jvsc_brings_are_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse(["--config=configs/patches.py:gaussian,cpu", "--workdir=somewhere"]).config
    assert (config.method, config.num_epochs) == ("gaussian", 4)


def test_a_config_of_the_same_name_in_the_working_directory_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    own = Path(CONFIG).read_text().replace('"num_epochs": 4,', '"num_epochs": 7,')
    (tmp_path / "configs" / "patches.py").write_text(own)
    config = parse(["--config=configs/patches.py:gaussian,cpu", "--workdir=somewhere"]).config
    assert config.num_epochs == 7


def test_sparsity_asked_for_replaces_the_config_files_threshold():
    config = train("--config.sparsity=0.05")
    assert config.threshold is None
    assert config.hyperparameters().threshold == pytest.approx(0.2996, abs=5e-5)


def test_a_number_of_the_config_file_is_unset_by_none():
    """The last one of a key counts, and what may not be None is told so."""
    assert train().encoder.max_gradient_norm == 100
    assert train("--config.encoder.max_gradient_norm=None").encoder.max_gradient_norm is None
    assert train("--config.sampling_chunk=3", "--config.sampling_chunk=None").sampling_chunk is None
    assert train("--config.sampling_chunk=None", "--config.sampling_chunk=3").sampling_chunk == 3
    assert train("--config.threshold=None", method="spike_and_slab").threshold is None
    with pytest.raises(UserError, match="num_epochs"):
        train("--config.num_epochs=None")


def test_threshold_asked_for_replaces_the_config_files():
    assert train("--config.threshold=0.3").hyperparameters().threshold == 0.3


MISTAKES = [
    ([f"--config={CONFIG}:thresholded_laplace"], "did you mean 'thresholded_laplacian'"),
    ([f"--config={CONFIG}:gaussian,tiny"], "give one of best, cpu, demo"),
    (["--config=configs/nowhere.py"], "there is no such file; jvsc brings configs/activations.py"),
    ([f"--config={CONFIG}", "--config.num_epoch=3"], "did you mean 'num_epochs'"),
    ([f"--config={CONFIG}", "--config.data.pth=3"], "did you mean 'data.path'"),
    (["--mode=evaluate", "--config.eval.chnk=3"], "did you mean 'eval.chunk'"),
    ([f"--config={CONFIG}", "--config.num_epochs=many"], "num_epochs=many"),
    ([f"--config={CONFIG}", "--config.num_epochs=0"], "num_epochs is 0"),
    ([f"--config={CONFIG}", "--config.sparsity=2"], "sparsity is 2"),
    ([f"--config={CONFIG}", "--config.threshold=-1"], "threshold is -1"),
    ([f"--config={CONFIG}", "--config.seeds=(0,0)"], "different numbers"),
    ([f"--config={CONFIG}", "--config.data.path=/nowhere.mat"], "there is no such file"),
    (["--mode=trane"], "train|evaluate"),
    ([f"--config={CONFIG}", "--seed=7"], "give --config.seeds='(7,)'"),
    (["--mode=evaluate", "--layout=sae_lens"], "--layout does not apply to --mode=evaluate"),
    ([f"--config={CONFIG}", "--output=x"], "--output does not apply to --mode=train"),
    ([f"--config={CONFIG}", "--config.method=gaussian"], f"give --config={CONFIG}:gaussian"),
    (
        [f"--config={CONFIG}:fista,demo", "--config.method=gaussian"],
        f"give --config={CONFIG}:gaussian,demo",
    ),
    (
        [f"--config={CONFIG}", "--config.encoder.name=message_passing"],
        "is for method=inferred_threshold, not for thresholded_laplacian",
    ),
    (
        [f"--config={CONFIG}", "--config.num_latents=9", "--config.parallel.latent_shards=2"],
        "give a multiple",
    ),
    (
        [f"--config={CONFIG}:inferred_threshold", "--config.kl_weight=0.1"],
        "--config.kl_weight does nothing here: it is for methods that have a posterior and do not",
    ),
    (["--wrkdir=x"], "unknown flag --wrkdir"),
    (["train"], "unknown argument 'train'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_a_nonzero_exit_and_writes_nothing(
    arguments, message, tmp_path, capsys
):
    workdir = tmp_path / "run"
    assert run([*arguments, f"--workdir={workdir}"]) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("jvsc: ")
    assert told.count("\n") == 1
    assert not workdir.exists()


def test_a_config_without_a_workdir_is_refused(capsys):
    assert run([f"--config={CONFIG}"]) == EXIT_USER_ERROR
    assert "--workdir is missing" in capsys.readouterr().err


def test_a_workdir_that_cannot_be_is_refused(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    for workdir in (file, file / "below"):
        assert run([f"--config={CONFIG}", f"--workdir={workdir}"]) == EXIT_USER_ERROR
        assert "is not a directory" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_help_is_shown(capsys):
    assert run(["--help"]) == 0
    assert "--workdir" in capsys.readouterr().out


def test_an_evaluation_takes_the_runs_settings_and_only_its_own_may_change(tmp_path):
    stored = make_config({"num_epochs": 7, "seeds": (4,)})
    (tmp_path / "config.json").write_text(json.dumps(stored.model_dump()))
    evaluate = [f"--workdir={tmp_path}", "--mode=evaluate"]
    command = parse([*evaluate, "--config.eval.chunk=33"])
    assert command.mode == "evaluate"
    assert command.config.eval.chunk == 33
    assert command.config.num_epochs == 7
    with pytest.raises(UserError, match="cannot change in an evaluation"):
        parse([*evaluate, "--config.num_epochs=8"])


def test_evaluating_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no run .*, which is empty; train one first"):
        parse([f"--workdir={tmp_path}", "--mode=evaluate"])
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="which only its own call goes on with"):
        parse([f"--workdir={tmp_path}", "--mode=evaluate"])


def test_of_a_flag_that_is_given_twice_the_last_counts():
    for first in ("7", "9"):
        assert train(f"--config.batch_size={first}", "--config.batch_size=9").batch_size == 9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size=abc", "'abc' is no whole number; give one"),
        ("encoder.learning_rate=fast", "'fast' is no number; give one"),
    ],
)
def test_what_is_no_number_is_told_without_the_librarys_words(setting, message):
    with pytest.raises(UserError, match=message):
        train(f"--config.{setting}")


def test_only_the_command_names_flags(tmp_path, capsys):
    with pytest.raises(UserError, match="holds no run") as refused:
        jvsc.load(tmp_path)
    assert str(refused.value).startswith(str(tmp_path))
    assert run([f"--workdir={tmp_path}", "--mode=evaluate"]) == EXIT_USER_ERROR
    assert f"jvsc: --workdir: {refused.value}" in capsys.readouterr().err
    missing = tmp_path / "missing"
    assert run(
        ["--workdir=run", f"--config.data.path={missing}.npy", "--config.data.name=activations"]
    )
    assert f"--config.data.path: {missing}.npy: there is no such file" in capsys.readouterr().err
    celeba = str(Path(CONFIG).with_name("celeba.py"))
    images = [f"--config={celeba}", "--config.data.name=images", f"--config.data.path={missing}"]
    assert run([*images, "--workdir=run"])
    assert f"--config.data.path: {missing} cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("joined", [True, False])
def test_settings_may_stand_before_the_config_file(joined):
    """As they may behind it, and with its name an argument of its own."""
    file = str(Path(__file__).parents[2] / "configs" / "patches.py") + ":gaussian"
    named = [f"--config={file}"] if joined else ["--config", file]
    for place in range(3):
        given = ["--config.num_epochs=3", "--workdir=runs/first"]
        given[place:place] = named
        config = parse(given).config
        assert (config.method, config.num_epochs) == ("gaussian", 3)


@pytest.mark.parametrize("columns", [80, 200])
def test_help_lists_every_setting_with_its_default_and_what_it_is(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    text = " ".join(shown.split())
    for key, default in flatten(Config().model_dump()).items():
        first, _, name = key.rpartition(".")
        kind = Config.model_fields[first].annotation if first else Config
        about = kind.model_fields[name].description
        assert about, key
        start = text.index(f" {key} {about.rstrip('.')} (")
        assert f"default {default if default != '' else 'empty'})" in text[start : start + 400], key


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("data.validation_fraction=1.5", "must be a number > 0 and < 1"),
        ("data.validation_fraction=-1.", "must be a number > 0 and < 1"),
        ("encoder.momentum=1.", "must be a number >= 0 and < 1"),
        ("sparsity=1.", "must be a number > 0 and < 1, or None"),
        ("seeds=(0,-1)", "must be a whole number >= 0 and < 2^63"),
        (f"autoencoder.dead_after={10**30}", "must be a whole number > 0 and < 2^63"),
        (f"annealing.warmup_begin={2**31}", "must be a whole number >= 0 and < 2147483648"),
    ],
)
def test_a_value_out_of_range_is_told_both_ends(setting, allowed):
    with pytest.raises(UserError, match=f"is .*: {re.escape(allowed)}$"):
        train(f"--config.{setting}")
