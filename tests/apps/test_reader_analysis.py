"""The analysis of a reader study: the article's figures, tables that are safe to open, mistakes in one sentence."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from rnagan.apps.reader_analysis import analyse
from rnagan.apps.reader_scores import ARTICLE_MEANS, Scale, article_scores, read_scores
from rnagan.commands.main import main

EVIL = '=HYPERLINK("http://evil")'
TAG = "<script>alert(1)</script>"


def command(*words: object) -> Result:
    return CliRunner().invoke(main, ["analyse-reader-study", *map(str, words)])


def write(path: Path, *rows: str, header: str = "reader,source,tissue,quality") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_the_articles_scores_give_its_figures(tmp_path: Path) -> None:
    done = command("--article", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out/result.json").read_text())
    means = {(row["tissue"], row["source"]): (row["mean"], row["sd"]) for row in result["summary"]}
    assert means.keys() == ARTICLE_MEANS.keys()
    for place, theirs in ARTICLE_MEANS.items():
        assert means[place] == pytest.approx(theirs, abs=0.02), place
    tests = {(row["tissue"], row["first"], row["second"]): row for row in result["tests"]}
    test = tests["lung", "RNA-GAN", "GAN"]
    assert test["p"] == pytest.approx(0.050, abs=5e-4) and test["article_p"] == 0.025
    assert test["p_first_better"] == pytest.approx(0.025, abs=5e-4)
    page = (tmp_path / "out/report.html").read_text()
    assert "<img" in page and "Holm" in page and "first better" in page and "1.73 ± 0.79" in page
    assert (tmp_path / "out/figure6.png").stat().st_size > 10_000
    assert "lung" in done.output and "0.050" in done.output and "0.025" in done.output


def test_a_table_gives_accuracy_artefacts_and_agreement(tmp_path: Path) -> None:
    rows = []
    for reader in "abc":
        for tile in range(4):
            source = "real" if tile < 2 else "GAN"
            called = "lung" if source == "real" or reader == "a" else "brain"
            artefact = "yes" if source == "GAN" else "no"
            rows.append(f"{reader},{source},lung,{4 - tile + ord(reader) % 2},t{tile},{called},{artefact},1")
        rows.append(f"{reader},real,lung,4,t0,lung,no,2")
    header = "reader,source,tissue,quality,tile,called,artefact,showing"
    result = analyse(read_scores(write(tmp_path / "a.csv", *rows, header=header)), tmp_path / "out", "", [])
    by = {(row["measure"], row["source"]): row["mean"] for row in result["summary"]}
    assert by["right", "real"] == 1.0 and by["right", "GAN"] == pytest.approx(1 / 3)
    assert by["artefact", "GAN"] == 1.0 and by["artefact", "real"] == 0.0
    assert {row["question"] for row in result["agreement"]} == {"quality", "called", "artefact"}
    assert [row["pairs"] for row in result["own_agreement"] if row["reader"] == ""] == [3, 3, 3]


@pytest.mark.attack(kind=7, ends="unharmed")
def test_names_from_strangers_are_text_in_page_and_tables(tmp_path: Path) -> None:
    rows = [f"{who},{source},{TAG},{q}" for who, q in (("=cmd|x", 3), ("@b", 4)) for source in ("real", "+SUM(A1)")]
    table = read_scores(write(tmp_path / "a.csv", *rows))
    table["text"] = EVIL
    analyse(table, tmp_path / "out", f"Answers of {TAG}", [TAG])
    page = (tmp_path / "out/report.html").read_text()
    assert TAG not in page and "&lt;script&gt;" in page
    for path in (tmp_path / "out").glob("*.csv"):
        cells = [cell for row in csv.reader(path.open()) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "@", "+SUM"))], path.name
    again = pd.read_csv(tmp_path / "out/answers.csv")
    assert again["text"].unique().tolist() == ["'" + EVIL]


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,real,lung,7", "row 2: quality is 7, and the scale goes from 0 to 5"),
        ("a,real,lung,good", "row 2: quality is 'good'"),
        ("a,real,lung,nan", "row 2: quality is nan"),
        (",real,lung,3", "row 2: reader is empty"),
        ("a,,lung,3", "row 2: source is empty"),
        ("a,real,lung,3\na,real,lung,4", "two answers for a / real / lung"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, said: str) -> None:
    write(tmp_path / "a.csv", row)
    with pytest.raises(ValueError, match=said):
        read_scores(tmp_path / "a.csv")


def test_the_scale_is_a_setting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,real,lung,7")
    assert read_scores(path, Scale(1, 10))["quality"].tolist() == [7]
    with pytest.raises(ValueError, match="must rise"):
        Scale(5, 1).check()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--scores", "nowhere.csv", "--out", "o"], "nowhere.csv"),
        (["--article"], "--out"),
        ([], "--difference"),
        (["--scores", "a", "--article", "--out", "o"], "one of"),
        (["--difference", "0", "--sd", "1"], "difference above 0"),
    ],
)
def test_mistakes_cost_one_sentence(words: list[str], named: str) -> None:
    done = command(*words)
    last = done.output.strip().splitlines()[-1]
    assert done.exit_code > 0 and last.startswith("Error: ") and named in last


def test_an_empty_study_is_no_analysis(tmp_path: Path) -> None:
    table = article_scores().assign(quality=float("nan"))
    with pytest.raises(ValueError, match="No answer"):
        analyse(table, tmp_path / "out", "", [])
    assert not (tmp_path / "out").exists()


def test_a_plan_says_how_many_readers() -> None:
    words = ("--difference", 0.5, "--sd", 1)
    assert command(*words).output.startswith("34 readers")
    assert command(*words, "--one-sided").output.startswith("27 readers")
    assert int(command(*words, "--tests", 6).output.split()[0]) > 34
