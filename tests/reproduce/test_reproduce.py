"""Plans of the paper's tables and figures, what they show, and the command."""

import pytest
from rich.console import Console

from jvsc.reproduce.command import execute, make_parser, plan, run
from jvsc.reproduce.conv_generators import PANELS, present_figure_7
from jvsc.reproduce.drawings import draw_dumbbells
from jvsc.reproduce.natural_images import patches_name, present_table_1, present_table_2
from jvsc.reproduce.page import reductions
from jvsc.reproduce.plan import expected_seconds, is_finished, run_config
from jvsc.reproduce.tables import Compared, cells, large_differences, ordering
from jvsc.reproduce.targets import TARGETS
from jvsc.runs.applicable import check_applicable, readers_of
from jvsc.runs.commandline import parse
from jvsc.runs.report.measures import TABLE_1
from jvsc.runs.report.record import RunRecord
from jvsc.runs.workdir import read_config

TINY = [
    f"--config.{setting}"
    for setting in (
        "num_epochs=1",
        "num_samples=2",
        "batch_size=50",
        "num_latents=12",
        "seeds=(0,)",
        "data.patch_size=8",
        "data.num_train=200",
        "data.num_validation=60",
        "eval.chunk=60",
        "eval.iwae_samples=2",
        "eval.snr_draws=2",
        "eval.snr_batches=1",
        "eval.jaccard_draws=2",
        "eval.best_draws=2",
    )
]


@pytest.mark.parametrize("scale", ["paper", "cpu"])
@pytest.mark.parametrize("target", TARGETS)
def test_planned_runs_are_given_what_they_read(target, scale, tmp_path):
    """Of a user's settings each run those that it reads, beside the others."""
    given = ["--config.generator.schedule=exponential", "--config.generator.decay=0.9"]
    options = make_parser().parse_args([target])
    for planned in plan(TARGETS[target], scale, options, given):
        command = parse(planned.command_line(tmp_path))
        check_applicable(command.given, command.config)
        reads = not readers_of("generator.decay", command.config)
        assert (given[1] in planned.arguments) == reads
        assert reads == planned.name.startswith("patches/")


def test_a_column_without_a_run_is_drawn(tmp_path):
    columns = {
        "J = 1": [Compared("FISTA", None, None, 101.0)],
        "J = 20": [Compared("FISTA", None, None, None)],
    }
    assert draw_dumbbells(columns, tmp_path / "x.png").is_file()


def record(method: str, num_samples: int = 1, latents: int = 256, **metrics) -> RunRecord:
    """A finished run as a presenter sees it, without any file."""
    settings = {
        "method": method,
        "num_samples": num_samples,
        "num_latents": latents,
        "sparsity": None,
        "sampling": "max",
        "data": {"name": "patches"},
    }
    report = {"metrics": metrics, "diverged": {}, "seeds": [0, 1], "data": "some"}
    return RunRecord(method, settings, report, [], {}, {})


@pytest.mark.parametrize("scale", ["paper", "cpu"])
@pytest.mark.parametrize("name", TARGETS)
def test_every_plan_holds_valid_runs_of_different_names(name, scale, tmp_path):
    runs = TARGETS[name].runs(scale, PANELS)
    assert len({planned.name for planned in runs}) == len(runs) > 1
    for planned in runs:
        assert expected_seconds(run_config(planned, tmp_path)) > 0


def test_table_1_is_fifteen_runs_and_three_beyond_and_table_2_shares_two_of_them():
    first, second = (
        {planned.name: planned for planned in TARGETS[name].runs("cpu", ())}
        for name in ("table1", "table2")
    )
    assert len(first) == 18
    shared = first.keys() & second.keys()
    assert len(shared) == 2
    assert all(first[name] == second[name] for name in shared)


def test_the_reduced_scale_changes_no_method(tmp_path):
    """What a method is stays the paper's: only sizes, schedules' lengths and measuring differ.

    But for one: the Laplacian, whose learning rate rises 75 times faster, has its gradient limited.
    """
    cpu, paper = (TARGETS["table1"].runs(scale, ()) for scale in ("cpu", "paper"))
    limited = [run for run in cpu if any("max_gradient_norm" in flag for flag in run.arguments)]
    assert {run.name for run in limited} == {"patches/laplacian_J1", "patches/laplacian_J20"}
    keys = {line.split(":")[0] for line in reductions(cpu, paper, tmp_path)}
    keys -= {"encoder.max_gradient_norm"}
    assert "num_epochs" in keys
    assert all(
        key == "num_epochs" or key.split(".")[0] in ("annealing", "eval", "fista") for key in keys
    )


def test_a_difference_is_relative_to_the_paper():
    entry = Compared("method", ours=150.0, deviation=1.5, paper=100.0)
    assert entry.difference == pytest.approx(0.5)
    assert cells(entry, "validation_loss") == ["150 ± 1.5", "100", "+50%"]
    close = Compared("close", ours=109.0, deviation=None, paper=100.0)
    (line,) = large_differences({"J = 1": [entry, close]})
    assert "method, J = 1" in line
    assert "+50%" in line


def test_orderings_are_compared_by_kendalls_tau():
    column = [
        Compared(name, ours, None, paper)
        for name, ours, paper in (("a", 1.0, 10.0), ("b", 3.0, 20.0), ("c", 2.0, 30.0))
    ]
    ours, paper, tau = ordering(column)
    assert ours == ["a", "c", "b"]
    assert paper == ["a", "b", "c"]
    assert tau == pytest.approx(1 / 3)  # two of three pairs agree
    assert ordering(column[:1]) is None


def test_table_1_shows_our_values_beside_the_papers(tmp_path):
    records = {
        patches_name(method, count): record(
            method, count, published_loss=[200.0, 202.0], multi_information=[100.0, 100.0]
        )
        for method in TABLE_1
        for count in (1, 20)
        if method != "laplacian"  # as if it had diverged
    }
    sections = present_table_1(records, tmp_path)
    rows = {row[0]: row[1:] for row in sections[0].table.rows}
    assert rows["thresholded laplacian"][:3] == ["201 ± 1.414", "198", "+2%"]
    assert rows["laplacian"][0] == "-"
    assert any("gaussian, J = 1: 201 here, 1350" in line for line in sections[-1].lines)
    assert not any("thresholded laplacian, J = 1: 201" in line for line in sections[-1].lines)
    assert all(path.exists() for part in sections for _, path in part.pictures)


def test_table_2_tells_where_the_subgradient_ended(tmp_path):
    name = patches_name("thresholded_laplacian", 1, "_subgradient")
    lost = record("thresholded_laplacian")
    lost.report["diverged"] = {"0": {"step": 7}, "1": {"step": 9}}
    (section,) = present_table_2({name: lost}, tmp_path)
    (row,) = [row for row in section.table.rows if row[:2] == ["subgradient", "1"]]
    assert row[2:4] == ["NaN", "NaN"]
    assert row[-1] == "7, 9"


def test_figure_7_draws_a_line_for_each_method(tmp_path):
    records = {}
    for method in ("gaussian", "thresholded_laplacian"):
        for latents in (20, 64):
            values = {name: [0.1 * latents] for name in ("mse", "multi_information")}
            values |= {"frechet_reconstructions": [1.0], "mutual_information": [0.1]}
            run_record = record(method, 20, latents, **values)
            run_record.settings["data"]["name"] = "fashion_mnist"
            records[f"fashion_mnist/{method}_K{latents}"] = run_record
    sections = present_figure_7(records, tmp_path)
    assert sections[0].heading == "Figure 7: fashion mnist, latents"
    assert (tmp_path / "figure7_fashion_mnist_latents.png").exists()
    compared = {tuple(row[:2]): row for row in sections[-1].table.rows}
    assert compared["gaussian K20", "mse"][3] == "0.0279"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table3"], "invalid choice: 'table3'"),
        ([], "the following arguments are required: TARGET"),
        (["table1", "--run=19"], "the plan has runs 1 to 18"),
        (["table1", "--config.num_epoch=3"], "did you mean 'num_epochs'"),
        (["figure7", "--panel=mnist"], "invalid choice: 'mnist'"),
        (["figure5", "--finished"], "is finished with these settings; --dry-run lists them"),
        (["figure5", "--finished", "--run=1"], "not allowed with argument"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, tmp_path, capsys):
    assert run([*arguments, f"--workdir={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_figure_is_trained_measured_and_written_once(tmp_path, capsys):
    arguments = ["figure5", "--scale=cpu", f"--workdir={tmp_path}", *TINY]
    console = Console(width=200)
    assert execute([*arguments, "--dry-run"], console) == 0
    assert not list(tmp_path.iterdir())
    # An array job does the runs one by one, and the whole command what is left.
    assert execute([*arguments, "--run=2"], console) == 0
    assert [path.name for path in (tmp_path / "cpu" / "patches").iterdir()] == [
        "thresholded_laplacian_avg_J20"
    ]
    page = tmp_path / "cpu" / "figure5" / "results.md"
    assert execute([*arguments, "--finished"], console) == 0
    assert "No result: patches/thresholded_laplacian_J20, not finished" in page.read_text()
    capsys.readouterr()
    assert execute(arguments, console) == 0
    assert "1 of 2" in (told := capsys.readouterr().out)
    assert "2 of 2" not in told
    text = page.read_text()
    assert "annealing.warmup_begin: 1500 -> 300" in text
    assert "Jaccard consistency" in text
    for name in ("figure5.png", "atoms.png"):
        assert (page.parent / name).exists()
    logs = sorted(tmp_path.rglob("metrics.jsonl"))
    before = [log.stat().st_mtime_ns for log in logs]
    assert execute(arguments, console) == 0
    assert "all are finished" in capsys.readouterr().out
    assert [log.stat().st_mtime_ns for log in logs] == before
    workdir = logs[0].parent
    config = read_config(workdir)
    assert is_finished(config, workdir)
    more = config.model_copy(update={"num_epochs": 2})
    elsewhere = config.data.model_copy(update={"cache_dir": "/elsewhere"})
    assert is_finished(config.model_copy(update={"data": elsewhere}), workdir)
    otherwise = config.model_copy(update={"eval": config.eval.model_copy(update={"seed": 1})})
    assert not is_finished(more, workdir)
    assert not is_finished(otherwise, workdir)
    assert not is_finished(config, tmp_path)
