from pathlib import Path

import pytest

from rnagan.article.article_report import _scores
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
