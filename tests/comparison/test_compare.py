"""Pages of real runs, changed by hand to what other settings, a crash or another seed would leave."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from rnagan.comparison.compare import compare_runs
from rnagan.io.files import read_json, write_json
from rnagan.reports.figures import tiles_of_grid
from rnagan.tracking.evaluations import record_evaluation
from rnagan.tracking.run_folder import read_metrics

Make = Callable[..., Path]
FID = "frechet_efficientnet_lite0/all_16"


@pytest.fixture
def make(trained: Path, tmp_path: Path) -> Make:
    """make(folder, metrics, settings…): a run like `trained`, with other settings and more metrics in its last row; a
    `short` one has few other metrics, whose curves take long to draw."""

    def made(folder: str, metrics: dict[str, float] | None = None, short: bool = False, **settings: Any) -> Path:
        run = tmp_path / folder
        shutil.copytree(trained, run)
        stored = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(stored | settings, sort_keys=False))
        rows = read_metrics(run)
        rows[-1] |= metrics or {}
        if short:
            rows = [{name: rows[-1][name] for name in ("images", "seconds", "wasserstein", *(metrics or {}))}]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    return made


class Cells(HTMLParser):
    """The tables of a page as lists of rows of text; ** before what is bold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.rows: list[list[str]] = []
        self.inside = False  # of a cell
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        if "best" in (dict(attributes).get("class") or "").split():
            self.rows[-1][-1] += "**"

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        (found,) = [row[1:] for row in self.rows if row and row[0].strip() == name]
        return [re.sub(r"\s+", " ", cell).strip() for cell in found]


def test_page_and_tables_of_two_runs(make: Make, trained: Path, tmp_path: Path) -> None:
    one = make("x/one", {FID: 12.5, f"{FID}_low": 11.0, f"{FID}_high": 14.0})
    two = make("y/two", {FID: 10.0, f"{FID}_low": 9.0, f"{FID}_high": 10.5}, generator_lr=0.001)
    lines = compare_runs([one, two], tmp_path / "out")
    text = (tmp_path / "out/compare.html").read_text()
    page = Cells(text)
    assert "script" not in page.tags and not re.search(r"https?://|@import|url\(", text)
    assert len(page.loaded) >= 4 and all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert page.row("generator_lr") == ["0.0004", "0.001"] and page.row("critic_lr") == ["0.0004"]  # alike: once
    assert page.row(FID) == ["12.5 (11 to 14)best 12.5 at 96a witness", "**10 (9 to 10.5)**best 10 at 96a witness"]
    assert 'class="best apart"' in text and "**" not in "".join(page.row("wasserstein"))
    assert "don't show the same profiles" not in "\n".join(lines) and any("generator_lr" in line for line in lines)
    for said in (text, "\n".join(lines)):  # on the page and on the terminal
        assert "(here 16) is too large" in said and "go by KID (rnagan compute-fid)" in said
    runs = pd.read_csv(tmp_path / "out/runs.csv")
    assert runs["name"].tolist() == ["one", "two"] and runs["state"].tolist() == ["finished", "finished"]
    assert runs["generator_lr"].tolist() == [0.0004, 0.001] and runs[f"final_{FID}"].tolist() == [12.5, 10.0]
    assert runs["model_digest"][0] == read_json(trained / "model/model.json")["digest"]
    metrics = pd.read_csv(tmp_path / "out/metrics.csv", float_precision="round_trip")
    rows = read_metrics(one)
    own = metrics[(metrics["run"] == "one") & (metrics["metric"] == "penalty")]
    assert own["value"].tolist() == [row["penalty"] for row in rows if "penalty" in row]
    assert len(metrics) == sum(len(row) - 2 for row in (*rows, *read_metrics(two)))


def test_sample_grids_are_those_of_the_runs_at_the_same_images(make: Make, trained: Path, tmp_path: Path) -> None:
    runs = [make("one", short=True), make("two", short=True)]
    (runs[1] / "samples/000000000048.png").rename(runs[1] / "samples/000000000047.png")
    compare_runs(runs, tmp_path / "out")
    tiles = tiles_of_grid(trained / "samples/000000000096.png", 32)
    with Image.open(tmp_path / "out/samples_last.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
        assert picture.text["Synthetic"] == "true"
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (32, 32, 3))[:, :, 0]
    for tile in (tiles[0, 0], tiles[-1, 3]):
        assert (windows == tile).all(axis=(2, 3, 4)).sum() == 2  # once a run
    assert "47 to 48 images" not in (tmp_path / "out/compare.html").read_text()  # in the picture


def test_grids_of_other_profiles_are_said_to_be(make: Make, tmp_path: Path) -> None:
    runs = [make("one", short=True), make("two", short=True, seed=5), make("bare", short=True)]
    stored = read_json(runs[1] / "model/model.json")
    write_json(runs[1] / "model/model.json", stored | {"made_from": stored["made_from"] | {"vae": "f" * 64}})
    shutil.rmtree(runs[2] / "samples")
    lines = "\n".join(compare_runs(runs, tmp_path / "out"))
    vae = stored["made_from"]["vae"][:12]
    assert f"noise: seed (one: 0, two: 5); β-VAE (one: {vae}, two: ffffffffffff) differ." in lines
    assert "No sample grid: bare." in lines
    assert "No sample grid: bare." in (tmp_path / "out/compare.html").read_text()


def test_crashed_and_unfinished_runs_are_shown_as_they_are(make: Make, tmp_path: Path) -> None:
    whole, cut, empty = make("whole"), make("cut"), make("empty")
    for run in (cut, empty):
        for name in ("model", "checkpoints", "samples"):
            shutil.rmtree(run / name)
    text = (cut / "metrics.jsonl").read_text()
    (cut / "metrics.jsonl").write_text(text[: text.index("\n") + 20])
    (empty / "metrics.jsonl").unlink()
    (empty / "run.json").unlink()
    compare_runs([whole, cut, empty], tmp_path / "out", x="seconds")
    runs = pd.read_csv(tmp_path / "out/runs.csv")
    assert runs["state"].tolist() == ["finished", "16 of 96 images", "0 of 96 images"]
    assert runs["final_penalty"].isna().tolist() == [False, False, True] and runs["model_digest"].isna()[2]
    compare_runs([empty, make("x/empty", short=True)], tmp_path / "out2")
    assert pd.read_csv(tmp_path / "out2/runs.csv")["name"].str.endswith("/empty").all()  # distinct names


def test_results_of_evaluations_are_shown_and_must_be_of_the_run(make: Make, tmp_path: Path) -> None:
    one, two = make("one", short=True), make("two", short=True)
    for run in (one, two):
        shutil.rmtree(run / "samples")
    for run, digest in ((one, "1" * 64), (two, "2" * 64)):
        write_json(run / "model/model.json", read_json(run / "model/model.json") | {"digest": digest})
    score = {"name": "fid", "value": 30.0, "low": 28.0, "high": 32.0}
    write_json(one / "fid.json", {"model": "1" * 64, "scores": [score]})
    write_json(tmp_path / "of-two/fid.json", {"model": "2" * 64, "scores": [score | {"value": 31.0}]})
    compare_runs([one, two], tmp_path / "out", evaluations=[("two", tmp_path / "of-two")])
    page = Cells((tmp_path / "out/compare.html").read_text())
    assert page.row("fid") == ["**30 (28 to 32)", "31 (28 to 32)"]
    runs = pd.read_csv(tmp_path / "out/runs.csv")
    assert runs["score_fid"].tolist() == [30.0, 31.0] and runs["score_fid_low"].tolist() == [28.0, 28.0]
    with pytest.raises(ValueError, match=r"of-two.fid\.json is of two, not of one\."):
        compare_runs([one, two], tmp_path / "out", evaluations=[("one", tmp_path / "of-two")])
    with pytest.raises(ValueError, match=r"No run here is called 'three'; an evaluation is of one of one, two\."):
        compare_runs([one, two], tmp_path / "out", evaluations=[("three", tmp_path / "of-two")])
    write_json(two / "model/model.json", read_json(two / "model/model.json") | {"digest": "3" * 64})
    lines = compare_runs([one, two], tmp_path / "out", evaluations=[("two", tmp_path / "of-two")])
    assert any("was measured on another model (222222222222) than two has now" in line for line in lines)


def test_recorded_evaluations_are_found_and_protocols_compared(make: Make, tmp_path: Path) -> None:
    runs = [make("one", short=True), make("two", short=True)]
    for k, run in enumerate(runs):
        shutil.rmtree(run / "samples")
        write_json(run / "model/model.json", read_json(run / "model/model.json") | {"digest": str(k) * 64})
        protocol = {"tiles": 1000 * (k + 1), "split": "test", "versions": {"torch": "2"}}
        protocol |= {"cohort": "ab"[k] * 64}
        score = {"value": 30.0 - k, "low": 28.0, "high": 32.0}
        record_evaluation(tmp_path / f"fid-{run.name}", "fid", run, {"fid1k": score}, protocol)
    lines = compare_runs(runs, tmp_path / "out", evaluations=[("one", tmp_path / "fid-one")])
    assert Cells((tmp_path / "out/compare.html").read_text()).row("fid1k") == ["30 (28 to 32)", "**29 (28 to 32)"]
    differing = "tiles (one: 1000, two: 2000), cohort (one: aaaaaaaaaaaa, two: bbbbbbbbbbbb)"
    assert f"The evaluations (fid) were not made alike: {differing} differ." in lines


def test_a_better_value_on_other_data_marks_no_run(make: Make, tmp_path: Path) -> None:
    runs = [make("one", {FID: 12.5}, short=True), make("two", {FID: 10.0}, short=True, resolution=64)]
    for run in runs:
        shutil.rmtree(run / "samples")
    compare_runs(runs, tmp_path / "out")
    page = Cells((tmp_path / "out/compare.html").read_text())
    assert page.row(f"{FID} not comparable: another resolution") == [
        "12.5best 12.5 at 96a witness",
        "10best 10 at 96a witness",
    ]


def test_scores_of_the_critics_own_network_are_no_rivals_of_a_witness(make: Make, tmp_path: Path) -> None:
    second = FID.replace("lite0", "lite2")
    runs = [
        make("one", {FID: 12.5, second: 14.0}, short=True),
        make("two", {FID: 10.0, second: 13.0}, short=True, backbone="efficientnet_lite0"),
    ]
    for run in runs:
        shutil.rmtree(run / "samples")
    lines = compare_runs(runs, tmp_path / "out")
    page = Cells((tmp_path / "out/compare.html").read_text())
    own = page.row(f"{FID} not comparable: another part of the extractor in training")
    assert own == ["12.5best 12.5 at 96a witness", "10best 10 at 96in training"]
    assert page.row(second) == ["14best 14 at 96a witness", "**13**best 13 at 96a witness"]
    assert any("13, a witness *" in line for line in lines)


@pytest.mark.slow
@pytest.mark.guard
def test_runs_of_a_vae(toy_vae: Path, tmp_path: Path) -> None:
    for name, settings in (("one", {}), ("two", {"seed": 1}), ("three", {"beta": 0.01})):
        shutil.copytree(toy_vae, tmp_path / name)
        stored = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(stored | settings))
        last = read_metrics(tmp_path / name)[-1]
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(last) + "\n")
    compare_runs([tmp_path / "one", tmp_path / "two"], tmp_path / "alike", names=["first", "second"])
    page = Cells((tmp_path / "alike/compare.html").read_text())
    assert all(cell.startswith("**") for cell in page.row("test_rmse"))  # as good as one another
    assert all(cell.startswith("**") for cell in page.row("validation_total"))
    compare_runs([tmp_path / "one", tmp_path / "three"], tmp_path / "unlike")
    page = Cells((tmp_path / "unlike/compare.html").read_text())
    assert not any("**" in cell for cell in page.row("validation_total not comparable: another beta"))


def test_what_cannot_be_compared_is_refused(make: Make, toy_vae: Path, tmp_path: Path) -> None:
    one, two = make("one"), make("two")
    with pytest.raises(ValueError, match="have nothing to compare"):
        compare_runs([one, toy_vae], tmp_path / "out")
    with pytest.raises(ValueError, match=r"one is one run alone"):
        compare_runs([one, one], tmp_path / "out")
    with pytest.raises(ValueError, match=r"2 runs need as many names, each its own, not 2 \(a, a\)"):
        compare_runs([one, two], tmp_path / "out", names=["a", "a"])
    assert not (tmp_path / "out").exists()
