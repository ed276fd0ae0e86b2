from pathlib import Path

import pytest

from rnagan.comparison.evaluation_scores import Score, read_results, results_of, results_of_run, scores_of
from rnagan.io.files import write_json

FOUND = {"r": 0.9, "slope": 0.8, "low": 0.7, "high": 0.95, "p": 0.001, "donors": 9, "ceiling": None}
EVALUATION = {
    "model": "abc",
    "split": "test",
    "profiles": 80,
    "tiles_per_profile": 4,
    "tissue_accuracy": 0.98,
    "faithfulness": {"lung": {"air_fraction": FOUND}},
    "retrieval": {"lung": {"generated": {"tissue": {"rank": 0.1, "rank_low": 0.05, "rank_high": 0.2}}}},
}


def test_an_evaluation_gives_r_with_its_interval_slope_tissues_and_retrieval(tmp_path: Path) -> None:
    write_json(tmp_path / "evaluation.json", EVALUATION)
    (results,) = read_results(tmp_path)
    assert results.model == "abc" and results.how == "80 profiles of split test, 4 tiles each"
    assert results.scores == (
        Score("r, lung, air_fraction", 0.9, 0.7, 0.95, "high"),
        Score("slope, lung, air_fraction", 0.8, None, None, "one"),
        Score("tissue called right", 0.98, None, None, "high"),
        Score("place of the right donor, lung, among its tissue", 0.1, 0.05, 0.2, "low"),
    )


def test_any_json_with_scores_is_taken(tmp_path: Path) -> None:
    told = [
        {"name": "fid", "value": 31, "low": 29.5, "high": 33, "tiles": 500},
        {"name": "own", "value": 2, "better": "higher"},
        {"name": "none", "value": None},
    ]
    write_json(tmp_path / "fid.json", {"model": "abc", "scores": told})
    write_json(tmp_path / "settings.json", {"scores": "of another kind"})
    write_json(tmp_path / "list.json", [1])
    (results,) = results_of(tmp_path)
    assert results.scores == (Score("fid", 31.0, 29.5, 33.0, "low"), Score("own", 2.0, None, None, "high"))
    write_json(tmp_path / "broken.json", {"scores": [{"value": 1}]})
    with pytest.raises(ValueError, match=r'broken\.json has a score without a "name"'):
        read_results(tmp_path)


def test_results_in_a_run_and_in_folders_right_in_it_are_found(tmp_path: Path) -> None:
    for folder, value in ((tmp_path, 1.0), (tmp_path / "best", 2.0), (tmp_path / "best/deeper", 3.0)):
        write_json(folder / "fid.json", {"scores": [{"name": "fid", "value": value}]})
    scores = scores_of(results_of_run(tmp_path))
    assert [(score.name, score.value) for score in scores] == [("fid", 1.0), ("fid (best/fid)", 2.0)]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no results: no evaluation.json"):
        results_of(tmp_path)
