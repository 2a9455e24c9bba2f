"""The report: one file that shows a run, or several side by side, in any browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from models import small_config
from PIL import Image

from jvsc.main import run
from jvsc.runs.evaluate import evaluate_run
from jvsc.runs.latents import describe, make_sprite
from jvsc.runs.report.measures import published
from jvsc.runs.train import train
from jvsc.runs.workdir import read_config

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Run in the page once it has loaded; told through the document's attributes.
CHECK = """<script>
window.errors = [];
window.addEventListener("error", event => window.errors.push(String(event.message)));
window.addEventListener("load", () => {
  const tell = document.documentElement.dataset;
  tell.pictures = document.images.length;
  tell.broken = [...document.images].filter(image => image.naturalWidth === 0).length;
  tell.overflow = document.documentElement.scrollWidth - window.innerWidth;
  tell.smallest = Math.min(...[...document.querySelectorAll("td, p, small")]
    .map(element => parseFloat(getComputedStyle(element).fontSize)));
  tell.errors = window.errors.length;
});
</script>"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two short runs of two methods and two seeds, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("thresholded_laplacian", "gaussian"):
        threshold = 0.25 if method != "gaussian" else None
        config = small_config(method=method, threshold=threshold, num_epochs=2, seeds=(0, 1))
        train(config, folder / method)
        assert run([f"--workdir={folder / method}", "--mode=evaluate"]) == 0
    return [folder / "thresholded_laplacian", folder / "gaussian"]


def shown_by_chromium(page: Path, width: int, folder: Path) -> dict[str, int]:
    """What headless Chromium says of a page in a window of some width."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install the Debian package chromium")
    # Chromium's window is at least 500 wide; a frame may be narrower.
    checked = folder / "page.html"
    checked.write_text(page.read_text().replace("</head>", CHECK + "</head>"))
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>window.onload = () => Object.assign(document.body.dataset,"
        ' document.getElementById("f").contentDocument.documentElement.dataset)</script>'
    )
    told = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000",
            "--virtual-time-budget=5000",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    body = re.search(r"<body[^>]*>", told.stdout)
    assert body is not None, told.stderr
    found = dict(re.findall(r'data-(\w+)="([-\d.]+)"', body[0]))
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_report_without_error(runs, width, tmp_path):
    found = shown_by_chromium(runs[0] / "report.html", width, tmp_path)
    # Curves, distributions, gradients, reconstructions, dictionary.
    assert found["pictures"] == 5
    assert found["broken"] == 0
    assert found["errors"] == 0
    assert found["overflow"] <= 0
    assert found["smallest"] >= 11


def test_a_broken_picture_would_be_noticed(runs, tmp_path):
    page = tmp_path / "broken.html"
    text = (runs[0] / "report.html").read_text()
    page.write_text(text.replace("data:image/png;base64,iVBOR", "data:image/png;base64,xxxxx", 1))
    assert shown_by_chromium(page, 1280, tmp_path)["broken"] == 1


def test_the_report_needs_no_other_file_or_address(runs):
    text = (runs[0] / "report.html").read_text()
    assert "http" not in text
    assert {source[:22] for source in re.findall(r'src="([^"]*)"', text)} == {
        "data:image/png;base64,"
    }
    assert {source[:5] for source in re.findall(r'href="([^"]*)"', text)} == {"data:"}


def test_the_report_holds_every_measure_of_the_evaluation(runs):
    text = (runs[0] / "report.html").read_text()
    metrics = json.loads((runs[0] / "evaluation.json").read_text())["metrics"]
    for name in ("validation_loss", "iwae", "encoder_snr", "jaccard", "multi_information"):
        assert f"{sum(metrics[name]) / 2:.4g}" in text, name


SORTED = """<script>
window.addEventListener("load", () => {
  const at = id => document.getElementById(id), tell = document.documentElement.dataset;
  const numbers = () => [...document.querySelectorAll(".latent strong")]
    .map(name => name.textContent.replace("latent ", ""));
  const set = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event("input")); };
  tell.latents = numbers().length;
  tell.first = numbers()[0];
  at("on").click();
  tell.next = numbers()[0];
  set("sort", "-number");
  tell.lowest = numbers()[0];
  tell.left = numbers().length;
  set("kind", "0 1e-9");
  tell.unused = numbers().length;
  set("kind", "0 1");
  set("find", "7");
  tell.found = numbers().length;
  tell.seventh = numbers()[0];
});
</script>"""


def test_latents_are_sorted_and_found_in_the_page(runs, tmp_path):
    """Of the run's 24 latents, two to a page."""
    gallery = json.loads((runs[0] / "latents.json").read_text())
    numbers = [latent["number"] for latent in gallery["latents"]]
    page = tmp_path / "gallery.html"
    text = (runs[0] / "report.html").read_text().replace("PAGE = 24", "PAGE = 2")
    page.write_text(text.replace("</head>", SORTED + "</head>"))
    found = shown_by_chromium(page, 400, tmp_path)
    assert found["latents"] == 2
    assert (found["first"], found["next"]) == (numbers[0], numbers[2])
    assert (found["lowest"], found["left"]) == (0, 2)
    assert found["unused"] == min(2, sum(latent["use"] == 0 for latent in gallery["latents"]))
    assert (found["found"], found["seventh"]) == (1, 7)
    assert (found["errors"], found["overflow"] <= 0) == (0, True)


def test_the_gallery_holds_what_the_codes_of_the_first_seed_are(runs):
    config = read_config(runs[0])
    evaluation = evaluate_run(config, runs[0])
    codes = evaluation.inferred.codes
    gallery = json.loads((runs[0] / "latents.json").read_text())
    assert sorted(latent["number"] for latent in gallery["latents"]) == list(range(24))
    uses = [latent["use"] for latent in gallery["latents"]]
    assert uses == sorted(uses, reverse=True)
    for latent in gallery["latents"]:
        own = codes[:, latent["number"]]
        assert latent["use"] == pytest.approx(np.mean(own != 0), abs=1e-6)
        assert sum(latent["histogram"]) == len(codes)
        sizes = np.sort(np.abs(own[own != 0]))[::-1][:4]
        np.testing.assert_allclose(
            np.abs([code for _, code in latent["strongest"]]), sizes, rtol=1e-3
        )
        for datum, code in latent["strongest"]:
            assert own[datum] == pytest.approx(code, rel=1e-3)
            assert datum in gallery["data"]
    # Tiles are in the latents' order: the brightest pixel of an atom is white in its tile.
    tiles = gallery["tiles"]["atoms"]
    with Image.open(runs[0] / "latents_atoms.png") as picture:
        pixels = np.asarray(picture)
    atoms = np.asarray(evaluation.parameters.generator)
    for place, latent in enumerate(gallery["latents"]):
        row, column = divmod(place, tiles["columns"])
        tile = pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].reshape(-1)
        expected = atoms[latent["number"]]
        assert np.corrcoef(tile, expected)[0, 1] > 0.99


def test_a_histogram_of_probabilities_or_sizes_counts_the_data():
    codes = np.float32([0, 0, 3, -6, 0.1])
    probabilities = np.float32([0, 0.5, 1, 1, 0.04])
    latent = describe(3, codes, probabilities)
    assert latent["histogram"] == [2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2]
    assert latent["strongest"] == [[3, -6.0], [2, 3.0], [4, 0.1]]
    assert (latent["use"], latent["size"]) == (0.6, pytest.approx(9.1 / 3, rel=1e-3))
    assert describe(3, codes, None)["histogram"] == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    unused = describe(0, np.zeros(5, np.float32), None)
    assert (unused["use"], unused["size"], unused["strongest"]) == (0, 0, [])
    assert sum(unused["histogram"]) == 0


@pytest.mark.parametrize("shape", [(4096, 16, 16), (4096, 64, 64, 3), (1, 28, 28, 1), (0, 8, 8)])
def test_a_sprite_stays_small_however_many_tiles_it_has(shape):
    images = np.broadcast_to(np.float32(0.5), shape)
    sprite, tiles = make_sprite(images)
    assert tiles["columns"] * tiles["rows"] >= shape[0]
    assert tiles["aspect"] == 1
    assert np.asarray(sprite).size <= 1.1 * 3 * 2**20
    assert sprite.width % tiles["columns"] == sprite.height % tiles["rows"] == 0
    if shape[0]:
        assert np.asarray(sprite).reshape(-1)[0] == 128


def test_runs_are_compared_in_one_page(runs, tmp_path, capsys):
    assert run(["--mode=compare", f"--workdirs={runs[0]},{runs[1]}", f"--workdir={tmp_path}"]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text()
    for workdir in runs:
        metrics = json.loads((workdir / "evaluation.json").read_text())["metrics"]
        assert f"{sum(metrics['validation_loss']) / 2:.4g}" in text
        assert workdir.name in text
    found = shown_by_chromium(tmp_path / "report.html", 400, tmp_path)
    assert (found["pictures"], found["broken"], found["overflow"] <= 0) == (7, 0, True)
    assert 'id="latents"' not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=compare"], "--workdirs is missing"),
        (["--mode=compare", "--workdirs=nowhere"], "holds no evaluated run"),
        (["--mode=compare", "--workdirs=a/x,b/x"], "same name"),
    ],
)
def test_a_mistaken_comparison_is_one_line(arguments, message, capsys):
    assert run(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_the_papers_values_stand_beside_runs_of_its_settings():
    paper = small_config(num_latents=256, num_samples=20).model_dump()
    assert published(paper) == {"published_loss": 194, "multi_information": 191}
    assert published(paper | {"num_latents": 128}) == {}
    images = small_config(
        method="thresholded_gaussian", data__name="fashion_mnist", num_latents=64, threshold=None
    ).model_dump()
    assert published(images) == {"mse": 0.0243, "multi_information": 38.4}


def test_a_killed_evaluation_goes_on_with_what_it_had_finished(runs, tmp_path, monkeypatch):
    from jvsc.runs import evaluate

    workdir = shutil.copytree(runs[0], tmp_path / "run")
    whole = json.loads((workdir / "evaluation.json").read_text())["metrics"]
    calls, armed = [], [True]

    def count(name, make):
        def made(*arguments):
            compute = make(*arguments)
            if compute is None:
                return None

            def counted(subject):
                if armed and calls.count("gradient") == 1 and name == "gradient":
                    raise KeyboardInterrupt
                calls.append(name)
                return compute(subject)

            return counted

        return made

    measures = {name: count(name, make) for name, make in evaluate.MEASURES.items()}
    monkeypatch.setattr(evaluate, "MEASURES", measures)
    with pytest.raises(KeyboardInterrupt):  # in the second seed's gradient
        run([f"--workdir={workdir}", "--mode=evaluate"])
    before, after = calls[: calls.index("gradient")], calls[calls.index("gradient") + 1 :]
    assert before
    assert after[-len(before) :] == before
    armed.clear()
    calls.clear()
    assert run([f"--workdir={workdir}", "--mode=evaluate"]) == 0
    assert calls == ["gradient", "consistency"]
    assert json.loads((workdir / "evaluation.json").read_text())["metrics"] == whole
    assert not (workdir / "evaluation.partial.json").exists()


@pytest.mark.slow
def test_other_settings_do_not_use_what_a_killed_evaluation_left(runs, tmp_path):
    workdir = shutil.copytree(runs[0], tmp_path / "run")
    partial = {"identity": {"epochs": [2]}, "entries": {"0/codes": {"values": {}, "seconds": 0}}}
    for content in (json.dumps(partial), "{", "[]"):
        (workdir / "evaluation.partial.json").write_text(content)
        arguments = ["--mode=evaluate", "--config.eval.num_validation=100"]
        assert run([f"--workdir={workdir}", *arguments]) == 0
        report = json.loads((workdir / "evaluation.json").read_text())
        assert report["num_validation"] == 100
        assert sum(report["metrics"]["active_latents"][0]) == 100
