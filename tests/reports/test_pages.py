import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rnagan.io.images import save_png
from rnagan.reports import pages
from rnagan.reports.pages import write_report, write_template

FOUND = {
    "r": 0.91,
    "slope": 0.8,
    "low": 0.7,
    "high": 0.97,
    "p": 0.0002,
    "donors": 40,
    "ceiling": 0.96,
    "ceiling_donors": 12,
}
EVALUATION = {
    "model": "abc",
    "profiles": 80,
    "tiles_per_profile": 4,
    "tissue_accuracy": 0.987,
    "tissue_accuracy_real": 0.999,
    "pictures": ["lung.png", "gone.png"],
    "faithfulness": {"lung": {"nuclear_density": FOUND, "site_stain": FOUND | {"r": 0.05}}},
}
METRICS = {
    "rnagan": [{"images": 8, "wasserstein": 1.0, "penalty": 0.5}, {"images": 16, "wasserstein": 2.0, "generator": 0.1}],
    "vae": [{"images": 8, "train_total": 1.0, "validation_total": 1.2}, {"images": 8, "active_units": 4}],
}
STAGES = [
    {"name": "cohort", "command": "python <a> & b", "seconds": 12.34},
    {"name": "vae", "command": "c", "seconds": 1},
]


class Page(HTMLParser):
    """Tags, and everything that a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loading = ("src", "href", "srcset", "data", "action")
        self.loaded += [value or "" for name, value in attributes if name in loading]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("lung.png", "measures.png"):
        save_png(tmp_path / "pictures" / name, np.zeros((4, 6, 3), np.uint8))
    return tmp_path / "pictures"


def report(out: Path, pictures: Path, **changes: dict) -> tuple[str, dict]:
    write_report(out, "A demo", "What it shows.", EVALUATION | changes, pictures, METRICS, STAGES, 1.234, "mlflow ui")
    return (out / "report.html").read_text(), json.loads((out / "summary.json").read_text())


def test_summary_holds_the_figures(pictures: Path, tmp_path: Path) -> None:
    _, summary = report(tmp_path, pictures)
    assert {"r", "slope", "ceiling", "low", "high", "p"} <= set(summary["faithfulness"]["lung"]["nuclear_density"])
    assert summary["faithfulness"]["lung"]["nuclear_density"]["r"] == 0.91
    assert summary["tissue_accuracy"] == 0.987 and summary["peak_memory_gb"] == 1.23
    assert summary["seconds"] == {"cohort": 12.3, "vae": 1}


def test_page_is_self_contained(pictures: Path, tmp_path: Path) -> None:
    text, _ = report(tmp_path, pictures)
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert len(page.loaded) == 4  # tiles, measures and two runs' curves; the missing picture is left out
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "98.7%" in text and "0.91" in text and "0.70 to 0.97" in text


def test_names_are_escaped(pictures: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    text, summary = report(tmp_path, pictures, faithfulness={hostile: {"nuclear_density": FOUND}})
    assert "script" not in Page(text).tags and "&lt;script&gt;" in text
    assert "python &lt;a&gt; &amp; b" in text
    assert hostile in summary["faithfulness"]


def test_cohort_without_truth(pictures: Path, tmp_path: Path) -> None:
    (pictures / "measures.png").unlink()
    text, summary = report(tmp_path, pictures, faithfulness={})
    assert summary["faithfulness"] == {} and "Does the tissue follow the RNA?" not in text
    assert len(Page(text).loaded) == 3


def test_filters_show_what_is_missing_as_a_dash(tmp_path: Path) -> None:
    rows = [
        {"measure": "air_fraction", "given": "site", "r": value, "partial": None, "donors": 4}
        for value in (0.123, None)
    ]
    own = {"donors": 4, "agreement": rows, "probe": [], "associations": [], "notes": []}
    found = {"tissues": {"lung": own}, "conclusions": {}, "notes": ["<note>"], "reference": "the truth"}
    shown = {"title": "A & B", "found": found, "label": str, "labels": {"air_fraction": "air"}, "parts": ()}
    write_template(tmp_path / "page.html", "confounders.html", **shown, variance={}, charts=[])
    text = (tmp_path / "page.html").read_text()
    assert "<td>+0.12</td><td>– to –</td><td>–</td>" in text and "<td>–</td><td>– to –</td>" in text
    assert "<h1>A &amp; B</h1>" in text and "&lt;note&gt;" in text


@pytest.mark.parametrize(
    "path", sorted(Path(pages.__file__).parent.glob("templates/*.html")), ids=lambda path: path.name
)
def test_no_template_shows_a_name_unescaped(path: Path) -> None:
    """All are rendered with autoescape: so a name is text, if none is in a script, a style or a bare attribute."""
    text = path.read_text()
    assert not re.search(r"\|\s*(safe|tojson)\b|Markup|autoescape", text)
    assert not re.search(r"<script|\bon\w+=|javascript:|href=\"?\{\{", text)
    assert not re.search(r"<[^>]*=\s*\{\{", re.sub(r"\{%.*?%\}", "", text))
    for style in re.findall(r"<style>.*?</style>|style=\"[^\"]*\"", text, re.DOTALL):
        assert "{{" not in style.replace("{{ colours[loop.index0] }}", "")
