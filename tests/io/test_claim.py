"""What scores claim stands in the pictures, tables and pages that are written while it is stated, and in no others."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from PIL import Image

from rnagan.cohort.table import CAVEATS, SPLIT_BY, claim_of
from rnagan.io.claim import stated, stating, with_claim
from rnagan.io.files import read_json
from rnagan.io.images import save_png
from rnagan.reports.figures import save_figure
from rnagan.reports.pages import write_template
from rnagan.tracking.evaluations import read_evaluation, record_evaluation

SECTION = claim_of("section")


def test_every_way_to_split_but_by_donor_has_a_claim():
    claims = [claim_of(by) for by in SPLIT_BY]
    assert claims[0] is None and all(claim.sentence == CAVEATS[claim.split_by] for claim in claims[1:])
    assert len({claim.held_out for claim in claims[1:]}) == 3


def test_pictures_say_it(tmp_path):
    tiles = np.full((40, 30, 3), 200, np.uint8)
    save_png(tmp_path / "plain.png", tiles)
    with stating(SECTION):
        save_png(tmp_path / "said.png", tiles)
    plain, said = (np.asarray(Image.open(tmp_path / name)) for name in ("plain.png", "said.png"))
    np.testing.assert_array_equal(plain, tiles)
    np.testing.assert_array_equal(said[:40, :30], tiles)
    assert said.shape[0] > 40 and said[40:].min() < 50  # a line of dark letters
    assert "sections of the same donors" in Image.open(tmp_path / "said.png").text["rnagan:held out"]


def test_figures_say_it_beneath_and_lose_nothing(tmp_path):
    for name, claim in (("plain", None), ("said", SECTION)):
        figure = pyplot.figure(figsize=(3, 2))
        figure.add_subplot().plot([0, 1])
        with stating(claim):
            save_figure(figure, tmp_path / f"{name}.png")
    plain, said = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in ("plain", "said"))
    assert plain.shape == (220, 330) and plain[-3:].min() == 255
    assert said.shape[0] > 220 and said[-30:].min() < 100 and not (said[210:216] < 100).all()
    assert "sections" in Image.open(tmp_path / "said.png").text["rnagan:held out"]


def test_tables_and_pages_say_it(tmp_path):
    table = pd.DataFrame({"r": [0.5]})
    with stating(SECTION):
        assert with_claim(table)["held_out"].tolist() == ["held out: sections of the same donors"]
        write_template(tmp_path / "said.html", "page.html", title="t", found={})
        write_template(tmp_path / "once.html", "page.html", title="t", found={"notes": [SECTION.sentence]})
    assert with_claim(table) is table and stated() is None
    write_template(tmp_path / "plain.html", "page.html", title="t", found={})
    assert SECTION.sentence in (tmp_path / "said.html").read_text()
    assert "not for other people" not in (tmp_path / "plain.html").read_text() + (tmp_path / "once.html").read_text()


def test_a_failure_ends_the_statement():
    with pytest.raises(OSError), stating(SECTION):
        raise OSError
    assert stated() is None


def test_records_of_evaluations_say_it(tmp_path):
    record_evaluation(tmp_path, "fid", "a" * 64, {"x": {"value": 1.0}}, {})
    assert "claim" not in read_json(tmp_path / "evaluation_run.json")
    record_evaluation(tmp_path, "spectra", "a" * 64, {"x": {"value": 1.0}}, {}, claim=SECTION)
    found = read_evaluation(tmp_path / "evaluation_run-spectra.json")
    assert (found["split_by"], found["claim"]) == ("section", CAVEATS["section"])
