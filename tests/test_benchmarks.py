"""Each benchmark runs its own side at a quick size, and says so where that is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"
OWN_FIGURES = {
    "gan_step": ["scaling_2_processes", "overhead"],
    "vae": ["share_of_peak_fp32", "optimiser_bandwidth_share"],
    "fid": [
        *("ratio_bare_forward", "ratio_bare_forward_efficientnet_lite0"),
        *("second_over_first", "scaling_2_processes", "memory_growth"),
    ],
    "tiling": ["scaling_2_processes", "peak_memory_gb"],
    "loader": [
        "ratio_limit",
        "first_batch_s",
        "worker_memory_mb",
        "worker_memory_100m_mb",
        "resume_s",
        "profiles_cpu_ratio",
    ],
    "table_reading": ["ours_seconds", "ours_peak_mib"],
    "reader_study": ["errors", "p95_ms", "lost_answers", "readers", "tiles_a_second"],
    "housekeeping": ["waiting_share", "background_s", "background_left_s"],
}
OWN_RATES = {
    "gan_step": 10,
    "vae": 1,
    "fid": 6,
    "tiling": 4,
    "loader": 5,
    "table_reading": 0,
    "housekeeping": 0,
    "reader_study": 0,
}  # entries in races
RATES = ("images_per_second", "samples_per_second", "tiles_per_second")


def run(name: str, folder: Path, *options: str, broken: str | None = None) -> tuple[int, dict[str, Any], str]:
    """Exit code, what is printed, and stderr of a quick run; `broken`: a module that can't be imported in it."""
    paths = [str(ROOT)]
    if broken:
        (folder / "sitecustomize.py").write_text(f"import sys; sys.modules[{broken!r}] = None\n")
        paths.insert(0, str(folder))
    data = ["--data", str(folder / "no-data")] if name in ("fid", "tiling", "loader") else []
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--quick", "--cache", folder / "cache", *data, *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def figures(name: str, report: dict[str, Any]) -> list[Any]:
    return [report.get(figure) for figure in OWN_FIGURES[name]]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "table_reading" else pytest.mark.slow) for name in OWN_FIGURES]
)
def test_ours_is_measured(name: str, tmp_path: Path) -> None:
    code, report, said = run(name, tmp_path)
    assert code == 0 and not report["failures"], said
    assert all(isinstance(figure, int | float) for figure in figures(name, report)), report
    rates = [rate for unit in RATES for rate in report.get(unit, {}).values()]
    assert len(rates) == OWN_RATES[name] and all(rate > 0 for rate in rates)
    if name == "housekeeping":
        assert min(report["waiting_s"].values()) > 0 and report["window_s"] == 0.57
    if name == "gan_step":
        assert [share > 0 for share in report["share_of_peak"].values()] == [True]
    if name == "gan_step" and "fake_gpu" not in report:  # which says why no GPU can be faked here
        assert report["host_to_device_copies"] == {"wgan_gp": 1, "two_critics": 1}
        assert all(report["bytes_a_step"][preset] > 1e6 for preset in ("wgan_gp", "two_critics"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not (REAL / "tiles/tiles.csv").is_file(), reason=f"the real tiles are not in {REAL}")
def test_realism_is_measured(tmp_path: Path) -> None:
    code, report, said = run("realism", tmp_path, "--data", str(REAL))
    assert code == 0 and not report["failures"], said
    assert all(report[f"ratio_frechet{kind}"] > 0 for kind in ("", "_second", "_hand"))
    assert all(0 <= report[name] <= 1 for name in ("recall", "recall_second", "tissue", "copies"))
    assert [one["images"] for runs in report["of_each"].values() for one in runs] == [32, 32]
    assert {path.name for path in (tmp_path / "cache/realism").glob("*.png")} == {"two_critics-0.png", "wgan_gp-0.png"}


@pytest.mark.slow
def test_realism_without_its_data_is_a_failure_of_ours(tmp_path: Path) -> None:
    code, report, said = run("realism", tmp_path, "--data", str(tmp_path / "nowhere"))
    assert code == 1 and "nowhere" in report["failures"]["realism"] and "Ours failed at realism" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not (REAL / "tiles/tiles.csv").is_file(), reason=f"the real data are not in {REAL}")
def test_across_cohorts_is_measured(tmp_path: Path) -> None:
    code, report, said = run("across_cohorts", tmp_path, "--data", str(REAL))
    assert code == 0 and not report["failures"], said
    shares = ("atlas", "gtex_test", "gtex_counts", "figure_4d", "flagged_known", "flagged_unknown", "flagged_shuffled")
    assert all(0 <= report[name] <= 1 for name in shares), report
    assert report["atlas"] > 0.9 and report["gtex_test"] > 0.9  # two epochs from PCA: what ranks alone give
    assert 0.9 < report["rmse_over_pca"] < 1.1 and 0.9 < report["three_rmse_over_pca"] < 1.1
    assert report["r2_within_over_pca"] > 0.9 and report["figure_4d_images"] == 32
    gaps = {"none", "5%", "20%", "40%", "lower half", "not in brain, heart, liver"}
    assert set(report["missing_genes"]["ours"]) == set(report["missing_genes"]["zscore"]) == gaps
    assert len(report["splits"]) == 1 and report["splits"][0]["flagged_unknown_by_tissue"].keys() >= {"Brain", "Liver"}
    assert Path(report["figure_4d_picture"]).is_file()


@pytest.mark.slow
def test_across_cohorts_without_its_data_is_a_failure_of_ours(tmp_path: Path) -> None:
    code, report, said = run("across_cohorts", tmp_path, "--data", str(tmp_path / "nowhere"), "--seconds", "0")
    assert code == 1 and "nowhere" in report["failures"]["across_cohorts"] and "Ours failed at across_cohorts" in said


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        pytest.param("gan_step", "rnagan.training.step_rate", marks=pytest.mark.slow),
        pytest.param("fid", "rnagan.evaluation.feature_store", marks=pytest.mark.slow),
        pytest.param("tiling", "rnagan.slides.tiling", marks=pytest.mark.slow),
        pytest.param("loader", "rnagan.data.loader", marks=pytest.mark.slow),
        ("table_reading", "rnagan.expression.checked_table"),
    ],
)
def test_a_benchmark_fails_where_ours_does(name: str, broken: str, tmp_path: Path) -> None:
    code, report, said = run(name, tmp_path, broken=broken)
    assert code == 1 and report["failures"]
    assert "Ours failed at" in said and f"import of {broken} halted" in said
    assert not all(isinstance(figure, int | float) for figure in figures(name, report))


@pytest.mark.slow
def test_a_benchmark_gives_the_reason_of_a_worker_that_goes_on(tmp_path: Path) -> None:
    code, report, said = run("vae", tmp_path, "--latent", "0")
    assert code == 1 and figures("vae", report) == [None, None]
    assert "Ours failed at ours_fp32: rnagan: ValueError: latent must be" in said


ATTACKS = """
import os, sys, time, types
import pytest

sys.modules["tests"] = types.ModuleType("tests")  # another package has this name too
sys.modules["tests"].__path__ = [{tests!r}]
from tests.attacks import no_traceback_in_an_attack, note_attacks as pytest_collection_modifyitems


@pytest.mark.attack(kind=1)
def test_refused():
    with pytest.raises(ValueError):
        raise ValueError("The file has 3 rows.")


@pytest.mark.attack(kind=2, ends="unharmed")
def test_unharmed():
    pass


@pytest.mark.attack(kind=2)
def test_of_another_error():
    with pytest.raises(ValueError):
        {{}}["rows"]


@pytest.mark.attack(kind=3)
def test_of_a_program_with_a_traceback():
    assert not "Traceback (most recent call last)"


@pytest.mark.attack(kind=3)
def test_not_refused():
    with pytest.raises(ValueError):
        pass


@pytest.mark.attack(kind=4)
@pytest.mark.timeout(1)
def test_without_end():
    time.sleep(100)


@pytest.mark.attack(kind=7)
def test_of_a_crash():
    os.abort()


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize("calls", [30, 4])
def test_of_calls(calls, record_property):
    record_property("invocations", calls)


@pytest.mark.attack(kind=7)
@pytest.mark.slow
def test_slow():
    raise AssertionError


def test_not_an_attack():
    raise AssertionError
"""


@pytest.mark.slow
def test_attacks_are_counted_by_their_end(tmp_path: Path) -> None:
    (tmp_path / "attacks").mkdir()
    hooks, _, tests = ATTACKS.format(tests=str(ROOT / "tests")).partition("\n\n\n")
    (tmp_path / "attacks/conftest.py").write_text(hooks)
    (tmp_path / "attacks/test_ends.py").write_text(f"import os, time, pytest\n{tests}")
    code, report, said = run("attacks", tmp_path, "--tests", str(tmp_path / "attacks"))
    counted = {"tried": 7, "sentences": 1, "unharmed": 1, "tracebacks": 3, "silent": 1, "hangs": 1, "skipped": 0}
    assert code == 1 and "Ours failed at test_ends.test_not_refused: silent: Failed: DID NOT RAISE" in said
    assert report.items() >= (counted | {"invocations_tried": 34}).items()
    assert report["tried_by_kind"] == {"1": 1, "2": 2, "3": 2, "4": 1, "unknown": 1}


@pytest.mark.slow
def test_no_attacks_are_a_failure_of_ours(tmp_path: Path) -> None:
    (tmp_path / "attacks").mkdir()
    code, report, said = run("attacks", tmp_path, "--tests", str(tmp_path / "attacks"))
    assert code == 1 and "no attacks" in report["failures"]["attacks"] and "Ours failed at attacks" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not (REAL / "spatial/her2st/tiles.csv").is_file(), reason=f"the real spots are not in {REAL / 'spatial/her2st'}"
)
def test_real_pairs_are_measured(tmp_path: Path) -> None:
    code, report, said = run("real_pairs", tmp_path, "--data", str(REAL))
    assert code == 0 and not report["failures"], said
    assert report["nulls_tried"] > 60 and 0 <= report["nulls_beaten"] <= report["nulls_tried"]
    assert all(-1 <= report[name] <= 1 for name in ("haematoxylin_r", "place", "place_of_ridge"))
    assert {"slope", "haematoxylin_over_ridge"} <= set(report)
    (own,) = report["of_each"]
    assert (own["fold"], own["level"], own["images"], own["turns"]) == ("C4", "section", 32, 7)
    assert 0.4 < own["measures"]["haematoxylin"]["ridge"]["r"] < 0.9  # whatever the training was: her2st's own
    assert own["place"]["ridge"]["value"] < 0.4 and own["measures"]["haematoxylin"]["next_section_spots"] > 100
    assert {path.name for path in Path(own["picture"]).glob("*.png")} == {"C4.png", "C4_maps.png"}


@pytest.mark.slow
def test_real_pairs_without_their_data_are_a_failure_of_ours(tmp_path: Path) -> None:
    code, report, said = run("real_pairs", tmp_path, "--data", str(tmp_path / "nowhere"))
    assert code == 1 and "nowhere" in report["failures"]["real_pairs"] and "Ours failed at real_pairs" in said
