"""A run from its start to its end, killed and continued, diverging, and refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import assert_trees_equal, small_config
from rich.console import Console

import jvsc.runs.loop
from jvsc.errors import DivergenceError, UserError
from jvsc.main import EXIT_DIVERGED, run
from jvsc.model.model import StepMetrics
from jvsc.model.parameters import Parameters
from jvsc.runs.checkpoint import open_checkpoints
from jvsc.runs.divergence import find_divergence
from jvsc.runs.evaluate import evaluate_run
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.runs.logs import read_metrics
from jvsc.runs.restore import on_one_device
from jvsc.runs.train import train
from jvsc.runs.workdir import claim_workdir
from jvsc.training.state import init_states

CONFIG = Path(__file__).parents[2] / "configs" / "patches.py"


def stored_state(config, workdir):
    """The newest checkpoint of a run, and its epoch."""
    num_features = config.data.patch_size**2
    template = jax.eval_shape(
        lambda: init_states(
            config.seeds,
            build_model(config, num_features),
            build_optimizer(config, config.steps_per_epoch),
        )
    )
    with open_checkpoints(workdir) as checkpoints:
        restored = checkpoints.restore_newest(on_one_device(template), pytest.fail)
        assert restored is not None
        return restored.state, restored.epoch


def without_times(rows):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "steps_per_second")} for row in rows
    ]


def test_a_run_leaves_checkpoints_logs_and_tensorboard_events(tmp_path):
    config = small_config(seeds=(0, 1), output__draw_epochs=(2,))
    trained = train(config, tmp_path)
    state, epoch = stored_state(config, tmp_path)
    assert epoch == 4
    assert_trees_equal(state, trained.state)
    rows = read_metrics(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row["step"] == 20 * row["epoch"]
        for name in ("loss", "mse", "kl", "nonzero_fraction", "validation_loss"):
            assert len(row[name]) == 2
            assert np.isfinite(row[name]).all()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss/seed_1" in events.read_bytes()
    assert (tmp_path / "dictionary_epoch_0002.png").stat().st_size > 1000


def test_checkpoints_keep_the_last_and_the_best(tmp_path):
    config = small_config(num_epochs=6)
    train(config, tmp_path)
    losses = [row["validation_loss"][0] for row in read_metrics(tmp_path)]
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept == sorted({5, 6, int(np.argmin(losses)) + 1})


def test_the_same_command_continues_where_it_stopped(tmp_path):
    """Stopped after epoch 2 by taking the later checkpoints away."""
    config = small_config(num_samples=3, seeds=(0, 1), output__keep_last=4)
    train(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for epoch in (3, 4):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / str(epoch))
    train(config, tmp_path / "cut")
    assert_trees_equal(
        stored_state(config, tmp_path / "whole")[0], stored_state(config, tmp_path / "cut")[0]
    )
    assert without_times(read_metrics(tmp_path / "whole")) == without_times(
        read_metrics(tmp_path / "cut")
    )


def test_a_finished_run_is_not_trained_again(tmp_path):
    config = small_config()
    first = train(config, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    assert_trees_equal(train(config, tmp_path).state, first.state)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_early_stopping_ends_a_run_and_continues_to_the_bit(tmp_path):
    """A loss that must fall by more than it can: the first validation is the best."""
    stopping = {"early_stopping__patience": 3, "early_stopping__min_delta": 1e9}
    config = small_config(num_epochs=9, seeds=(0, 1), output__checkpoint_every=2, **stopping)
    console = Console(width=500, record=True)
    first = train(config, tmp_path / "whole", console)
    assert "ended after epoch 4: the validation loss has not fallen in 3" in console.export_text()
    assert [row["epoch"] for row in read_metrics(tmp_path / "whole")] == [1, 2, 3, 4]
    # Ended, it is not trained again; cut back to epoch 2, it ends where it did.
    assert_trees_equal(train(config, tmp_path / "whole").state, first.state)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "4")
    assert_trees_equal(train(config, tmp_path / "cut").state, first.state)
    assert without_times(read_metrics(tmp_path / "whole")) == without_times(
        read_metrics(tmp_path / "cut")
    )


def test_early_stopping_waits_while_a_seed_gets_better(tmp_path):
    config = small_config(num_epochs=3, early_stopping__patience=1)
    train(config, tmp_path)
    losses = [row["validation_loss"][0] for row in read_metrics(tmp_path)]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]


SMALL = [
    "--config.seeds=(0,)",
    "--config.num_epochs=25",
    "--config.num_samples=3",
    "--config.batch_size=50",
    "--config.num_latents=24",
    "--config.data.patch_size=8",
    "--config.data.num_train=1000",
    "--config.data.num_validation=100",
    "--config.eval.iwae_samples=5",
    "--config.eval.snr_draws=5",
    "--config.eval.snr_batches=1",
    "--config.eval.best_draws=5",
    "--config.eval.jaccard_draws=3",
]


def command(workdir):
    return [
        sys.executable,
        "-m",
        "jvsc.main",
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        *SMALL,
    ]


def kill_at_random_moments(workdir: Path, kills: int, random: np.random.Generator) -> int:
    """Starts the run and kills it outright, `kills` times; returns how often it was training."""
    training = 0
    for _ in range(kills):
        process = subprocess.Popen(
            command(workdir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        rows = len(read_metrics(workdir)) if workdir.exists() else 0
        deadline = time.monotonic() + 120
        # Wait for this process's own first epoch, so that the kill falls into its training.
        while process.poll() is None and time.monotonic() < deadline:
            if workdir.exists() and len(read_metrics(workdir)) > rows:
                break
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.6))
        training += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    return training


def compare_with_one_never_killed(tmp_path: Path, kills: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    struck = kill_at_random_moments(killed, kills, np.random.default_rng(0))
    assert struck > 0
    subprocess.run(command(killed), check=True, stdout=subprocess.DEVNULL)
    config = small_config(num_epochs=25, num_samples=3, batch_size=50, num_latents=24)
    one, epoch = stored_state(config, whole)
    other, _ = stored_state(config, killed)
    assert epoch == 25
    assert_trees_equal(one, other)
    assert without_times(read_metrics(whole)) == without_times(read_metrics(killed))
    evaluations = [
        json.loads((workdir / "evaluation.json").read_text()) for workdir in (whole, killed)
    ]
    assert evaluations[0] == evaluations[1]
    print(f"killed {kills} times, {struck} of them while training: bit-identical")


# Among the quick ones test_preemption.py compares a run that was interrupted and continued.
@pytest.mark.slow
def test_a_run_killed_and_continued_ends_bit_identical(tmp_path):
    compare_with_one_never_killed(tmp_path, kills=1)


def test_a_workdir_of_other_settings_is_refused_and_untouched(tmp_path):
    train(small_config(), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(UserError) as error:
        train(small_config(num_samples=5, data__num_train=900), tmp_path)
    assert "num_samples: 1 -> 5" in str(error.value)
    assert "data.num_train: 1000 -> 900" in str(error.value)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_what_only_an_evaluation_reads_may_differ(tmp_path):
    claim_workdir(tmp_path, small_config())
    claim_workdir(tmp_path, small_config(eval__chunk=7))


def test_a_workdir_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="is not a directory"):
        train(small_config(), tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_workdir_that_is_not_writable_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="not writable"):
        train(small_config(), tmp_path / "run")


def test_data_that_are_missing_leave_no_workdir(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        train(small_config(data__path=str(tmp_path / "none.mat")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Losses that are no number


def metrics_with(**values):
    ones = {name: np.ones((2, 6)) for name in StepMetrics._fields}
    for name, (seed, step) in values.items():
        ones[name][seed, step] = np.nan
        ones["loss"][seed, step] = np.nan
    return StepMetrics(**ones)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (metrics_with(), {}),
        (metrics_with(mse=(1, 4)), {9: {"step": 64, "terms": ["reconstruction (mse)"]}}),
        (metrics_with(kl=(0, 2)), {7: {"step": 62, "terms": ["KL"]}}),
        (
            metrics_with(kl=(0, 2), mse=(0, 2)),
            {7: {"step": 62, "terms": ["reconstruction (mse)", "KL"]}},
        ),
    ],
)
def test_the_step_and_the_term_of_a_divergence_are_found(metrics, expected):
    assert find_divergence(metrics, Parameters({}, np.ones((2, 3))), (7, 9), 60) == expected


def test_a_last_step_that_ruins_the_parameters_is_found_though_no_loss_follows_it():
    parameters = Parameters({"bias": np.array([[0.0, np.inf], [0.0, 1.0]])}, np.ones((2, 3)))
    found = find_divergence(metrics_with(), parameters, (7, 9), 60)
    assert found == {7: {"step": 65, "terms": ["gradient"]}}


def test_a_state_may_be_donated_as_soon_as_its_checkpoint_is_asked_for(tmp_path):
    config = small_config()
    model, optimizer = build_model(config, 64), build_optimizer(config, config.steps_per_epoch)
    state = init_states((0,), model, optimizer)
    kept = jax.tree.map(jnp.copy, state)
    ruin = jax.jit(
        lambda state: jax.tree.map(
            lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf * 0 - 1,
            state,
        ),
        donate_argnums=0,
    )
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state, None)
        for _ in range(10):
            state = ruin(state)
    assert_trees_equal(stored_state(config, tmp_path)[0], kept)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    """The dictionary's steps are too long once the warm-up has let the codes grow."""
    config = small_config(num_epochs=12, generator__learning_rate=100.0)
    with pytest.raises(
        DivergenceError, match=r"seed 0: the loss is not finite at step \d+"
    ) as told:
        train(config, tmp_path)
    assert "\n" not in str(told.value)
    record = json.loads((tmp_path / "divergence.json").read_text())["0"]
    state, epoch = stored_state(config, tmp_path)
    assert epoch == record["step"] // config.steps_per_epoch > 0
    assert f"The checkpoint of epoch {epoch} is kept" in str(told.value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.parameters))


def test_the_others_go_on_where_one_seed_diverges(tmp_path, monkeypatch):
    """Called once or twice, to the same end."""
    config = small_config(num_epochs=3, seeds=(0, 1))

    def found(metrics, parameters, seeds, first_step):
        return {1: {"step": first_step, "terms": ["KL"]}} if first_step else {}

    monkeypatch.setattr(jvsc.runs.loop, "find_divergence", found)
    for _ in range(2):
        train(config, tmp_path)
        assert list(json.loads((tmp_path / "divergence.json").read_text())) == ["1"]
        assert stored_state(config, tmp_path)[1] == 3


def test_a_diverged_run_exits_with_its_own_code(tmp_path, capsys):
    arguments = [
        f"--config={CONFIG}",
        f"--workdir={tmp_path / 'run'}",
        *SMALL,
        "--config.encoder.learning_rate=1000.0",
    ]
    assert run(arguments) == EXIT_DIVERGED
    first = capsys.readouterr().err
    assert "the loss is not finite at step" in first
    for again in (arguments, ["--mode=evaluate", f"--workdir={tmp_path / 'run'}"]):
        assert run(again) == EXIT_DIVERGED
        output = capsys.readouterr()
        assert output.err == first
        assert "validation set" not in output.out
    assert not (tmp_path / "run" / "evaluation.json").exists()


def test_a_subgradient_divergence_is_the_runs_result(tmp_path):
    config = small_config(
        num_epochs=6, estimator="subgradient", encoder__learning_rate=1000.0, seeds=(0, 1)
    )
    train(config, tmp_path)
    evaluation = evaluate_run(config, tmp_path)
    assert set(evaluation.report["diverged"]) <= {"0", "1"}
    assert evaluation.report["diverged"]
    for index, seed in enumerate(config.seeds):
        value = evaluation.report["metrics"]["validation_loss"][index]
        assert (value is None) == (str(seed) in evaluation.report["diverged"])
