import shutil
from pathlib import Path
from typing import Any

import pytest

from rnagan.comparison.evaluation_scores import (
    Results,
    Score,
    find_results,
    read_results,
    results_of,
    results_of_run,
    scores_of,
)
from rnagan.config.vae import VAEConfig
from rnagan.io.files import read_json, write_json
from rnagan.tracking.evaluations import record_evaluation
from rnagan.tracking.old_results import OLD_KEYS, read_result
from rnagan.tracking.run_folder import RunFolder
from rnagan.tracking.run_log import RunLog

OLD = Path(__file__).parent / "results_of_7595055"  # as that version wrote them, cut to a few rows

FOUND = {"r": 0.9, "slope": 0.8, "low": 0.7, "high": 0.95, "p": 0.001, "donors": 9, "ceiling": None}
ENDS = (("low", 0.05), ("high", 0.2))
PLACES = {"rank": 0.1, "top1": 0.4, "top5": 0.9}
EVALUATION = {
    "model": "abc",
    "split": "test",
    "profiles": 80,
    "tiles_per_profile": 4,
    "tissue_accuracy": 0.98,
    "faithfulness": {"lung": {"air_fraction": FOUND}},
    "retrieval": {"lung": {"generated": {"tissue": PLACES | {f"{k}_{e}": x for k in PLACES for e, x in ENDS}}}},
}


def test_an_evaluation_gives_r_with_its_interval_slope_tissues_and_retrieval(tmp_path: Path) -> None:
    write_json(tmp_path / "evaluation.json", EVALUATION)
    (results,) = read_results(tmp_path)
    assert results.model == "abc"
    assert results.protocol == {"profiles": 80, "split": "test", "tiles_per_profile": 4}
    at, of = "faithfulness/lung/air_fraction", "retrieval/lung/generated/tissue"
    assert results.scores == (
        Score("tissue_accuracy", 0.98, None, None, "high"),
        Score(f"{at}/r", 0.9, 0.7, 0.95, "high"),
        Score(f"{at}/slope", 0.8, None, None, "one"),
        Score(f"{at}/p", 0.001, None, None, None),
        Score(f"{of}/rank", 0.1, 0.05, 0.2, "low"),
        Score(f"{of}/top1", 0.4, 0.05, 0.2, "high"),
        Score(f"{of}/top5", 0.9, 0.05, 0.2, "high"),
    )


def test_any_json_with_scores_is_taken(tmp_path: Path) -> None:
    scores = [
        {"name": "fid", "value": 31, "low": 29.5, "high": 33, "tiles": 500},
        {"name": "own", "value": 2, "better": "higher"},
        {"name": "none", "value": None},
    ]
    write_json(tmp_path / "fid.json", {"model": "abc", "scores": scores})
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
    with pytest.raises(FileNotFoundError, match=r"holds no results: no evaluation_run\.json, no evaluation\.json"):
        results_of(tmp_path)


def test_results_of_an_earlier_version_are_read_as_those_of_today(tmp_path: Path) -> None:
    """tests/comparison/results_of_7595055: evaluation, FID, confounders and the external evaluation of a toy model."""
    found = {results.path.name: results for results in read_results(OLD)}
    model = read_json(OLD / "evaluation.json")["model"]
    assert {name: results.model for name, results in found.items()} == dict.fromkeys(
        ("confounders.json", "evaluation.json", "external.json", "fid.json"), model
    )
    names = {name: {score.name for score in results.scores} for name, results in found.items()}
    assert {"faithfulness/lung/air_fraction/r", "tissue_accuracy"} <= names["evaluation.json"]
    assert {"all/frechet_pixels_60_vs_41_real", "lung/frechet_pixels_30_vs_20_real"} <= names["fid.json"]
    assert "accuracy, tiles generated from the external cohort" in names["external.json"]
    assert "lung/nuclear_density/r" in names["confounders.json"]
    for path in OLD.glob("*.json"):
        text = repr(read_result(path))
        assert not any(f"'{old}': " in text for old in OLD_KEYS)
    assert read_result(OLD / "external.json")["found"].keys() == {"real", "generated"}
    assert read_result(OLD / "fid.json")["protocol"]["generated_tiles"] == 60
    assert read_result(OLD / "confounders.json")["tissues"]["lung"]["probe"][0]["covariate"] == "site"
    old = {"retrieval": {"lung": {"painted": EVALUATION["retrieval"]["lung"]["generated"]}}}
    write_json(tmp_path / "evaluation.json", EVALUATION | old)
    (results,) = read_results(tmp_path)
    assert results.scores[-1].name == "retrieval/lung/generated/tissue/top5"


def test_a_folder_with_records_is_read_from_them_alone(tmp_path: Path) -> None:
    shutil.copy(OLD / "evaluation.json", tmp_path)
    scores = {
        "faithfulness/lung/air_fraction/r": {"value": 0.5, "low": 0.4, "high": 0.6},
        "gone": {"value": float("nan")},
    }
    record_evaluation(tmp_path, "faithfulness", "a" * 64, scores, {"split": "test"})
    (results,) = read_results(tmp_path)
    assert (results.model, results.kind, results.protocol) == ("a" * 64, "faithfulness", {"split": "test"})
    assert results.scores == (Score("faithfulness/lung/air_fraction/r", 0.5, 0.4, 0.6, "high"),)


def values(results: list[Results]) -> dict[str, float]:
    return {score.name: score.value for score in scores_of(results)}


@pytest.fixture
def run(mlflow_runs: Path) -> Path:
    """A run with a model, in MLflow."""
    log = RunLog(mlflow_runs / "run", VAEConfig(latent=6), "rnagan-vae", main=True)
    write_json(mlflow_runs / "run/model/model.json", {"digest": "a" * 64})
    log.close()
    return mlflow_runs / "run"


@pytest.mark.slow
@pytest.mark.usefixtures("mirrored_evaluations")
def test_results_are_found_beside_the_run_and_in_mlflow_each_once(run: Path, tmp_path: Path) -> None:
    def record(out: Path, kind: str, value: float, model: Any = run, **protocol: Any) -> None:
        record_evaluation(out, kind, model, {kind: {"value": value}}, protocol)

    record(run / "inside", "faithfulness", 1.0)
    record(run.parent / "beside", "fid", 2.0)
    record(run.parent / "evaluations/models/deeper", "spectra", 3.0)
    record(tmp_path / "far/away", "external_tiles", 4.0)
    record(run.parent / "other", "memorization", 5.0, model="b" * 64)
    expected = {"faithfulness": 1.0, "fid": 2.0, "spectra": 3.0, "external_tiles": 4.0}
    found = find_results(RunFolder.open(run))
    assert values(found) == expected and len(found) == 4
    shutil.rmtree(run.parent / "beside")
    assert values(find_results(RunFolder.open(run))) == expected  # from MLflow
    record(tmp_path / "far/again", "fid", 2.5)  # measured again elsewhere: the newer
    assert values(find_results(RunFolder.open(run))) == expected | {"fid": 2.5}
    record(tmp_path / "far/more", "fid", 7.0, tiles=9)
    assert sorted(values(find_results(RunFolder.open(run))).values()) == [1.0, 2.5, 3.0, 4.0, 7.0]


def test_a_store_that_cannot_be_reached_costs_a_warning(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_evaluation(run / "fid", "fid", run, {"fid": {"value": 1.0}}, {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match="MLflow is not reachable .* are left out"):
        assert values(find_results(RunFolder.open(run))) == {"fid": 1.0}


def test_a_run_without_a_store_gets_none(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    assert find_results(RunFolder.open(tmp_path / "run")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
