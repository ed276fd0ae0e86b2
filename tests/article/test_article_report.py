from pathlib import Path

import pytest

from rnagan.apps.reader_analysis import analyse
from rnagan.apps.reader_scores import article_scores
from rnagan.article.article_report import _readers, _scores
from rnagan.io.files import write_json


@pytest.mark.parametrize(
    ("in_training", "said"), [(True, "the network is in training"), (False, "the network is a witness"), (None, "")]
)
def test_a_score_says_whether_its_network_was_the_critics(tmp_path: Path, in_training: bool | None, said: str) -> None:
    score = {"part": "all", "value": 12.0} | ({} if in_training is None else {"in_training": in_training})
    scores = [score | {"name": name} for name in ("frechet_handmade_60", "recall_handmade_60", "fid_60k")]
    for mode in ("gan", "rnagan"):
        write_json(tmp_path / f"fid-{mode}/fid.json", {"scores": scores, "floor": {"floor": 1.0, "matched": 2.0}})
    rows = list(_scores(tmp_path))
    assert len(rows) == 6
    for row in rows:
        halves = "halves of the donors: real 1, generated 2"
        expected = [said] if "recall" in row.what else [said, halves]
        if "frechet" in row.what:
            expected.append("not FID-60k, so not to be compared with the article's")
        assert row.note == "; ".join(filter(None, expected))


def test_scores_of_readers_stand_beside_the_articles(tmp_path: Path) -> None:
    analyse(article_scores(), tmp_path / "reader-study", "", [], article=True)
    rows = {row.what: row for row in _readers(tmp_path)}
    assert len(rows) == 12 and all(row.where == "figure 6" for row in rows.values())
    quality, p = rows["quality of RNA-GAN, lung"], rows["p of RNA-GAN over GAN, lung"]
    assert (quality.article, quality.ours) == ("1.73 ± 0.79", "1.73 ± 0.80")
    assert (p.article, p.ours) == ("0.025", "0.050 on both sides, 0.025 on one")
    analyse(article_scores(), tmp_path / "reader-study", "", [])
    assert {row.article for row in _readers(tmp_path)} == {"–"}
