import dataclasses
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from rnagan.api import RNAGAN, digest_of_folder
from rnagan.config.gan import GANConfig
from rnagan.evaluation import feature_store
from rnagan.evaluation.fid import PICTURE, RESULT, compute_fid, make_plan, proportional
from rnagan.evaluation.test_set import EvaluationInputs, make_evaluation_set
from rnagan.evaluation.tile_scores import FeatureStatistics, frechet_distance
from rnagan.io.files import read_json, write_json
from rnagan.reports.console import score_lines
from rnagan.runtime.distributed import Processes
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from tests import programs
from tests.evaluation.pixels import Pixels

ROOT = Path(__file__).parents[2]
PIXELS = "tests.evaluation.pixels:make"
HERE = Processes(0, 1)


def test_generated_tiles_are_in_the_proportions_of_real_ones() -> None:
    stored = np.array([10, 30, 60])
    np.testing.assert_array_equal(proportional(stored, 10), [1, 3, 6])
    for count in (1, 7, 99, 60_000):
        parts = proportional(stored, count)
        assert parts.sum() == count and np.abs(parts - stored * count / 100).max() < 1
    few, many = make_plan(stored, 50), make_plan(stored, 1000)
    np.testing.assert_array_equal(few.real, few.generated)
    np.testing.assert_array_equal(many.real, stored)  # all there are
    assert many.generated.sum() == 1000


def test_processes_share_every_batch_once() -> None:
    for count in (1, 2, 3, 7):
        shares = [list(Processes(rank, count).share(10)) for rank in range(count)]
        assert [job for share in shares for job in share] == list(range(10)) and max(map(len, shares)) - min(
            map(len, shares)
        ) <= 1


@pytest.fixture
def paths(inputs: TileInputs, trained: Path) -> EvaluationInputs:
    return EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)


def score(paths: EvaluationInputs, out: Path, cache: Path, **more: Any) -> dict[str, Any]:
    return compute_fid(paths, out, Pixels(), cache, HERE, **{"count": 60, "map_tiles": 0} | more)


def test_a_model_is_scored(trained: Path, paths: EvaluationInputs, tmp_path: Path) -> None:
    result = score(paths, tmp_path / "out", tmp_path / "cache")
    assert json.loads((tmp_path / "out" / RESULT).read_text()) == result
    by_name = {(each["name"], each["part"]): each for each in result["scores"]}
    real_count = result["protocol"]["real_tiles"]
    whole = by_name[f"frechet_pixels_60_vs_{real_count}_real", "all"]
    model = RNAGAN.from_pretrained(trained)
    held_out = make_evaluation_set([model], paths, "test")
    counts = proportional(held_out.rows["tiles"].to_numpy(), 60)
    real = np.concatenate(list(held_out.real()))
    held_out = dataclasses.replace(held_out, rows=held_out.rows.assign(tiles=counts))
    generated = np.concatenate(list(held_out.generated(model, 0)))
    assert len(real) == real_count < 60 == len(generated)
    expected = frechet_distance(*(FeatureStatistics.of(Pixels()(own)) for own in (generated, real)))
    assert whole["value"] == pytest.approx(expected, rel=1e-5)
    assert whole["low"] < whole["value"] < whole["high"]
    assert {part for _, part in by_name} == {"all", "cortex", "lung"}
    assert result["floor"]["floor"] > 0 and result["protocol"]["donors"] == 5
    assert result["protocol"]["extractor"] == "pixels" and result["protocol"]["versions"]["torch-fidelity"]
    assert not (tmp_path / "out" / PICTURE).exists()
    fewest = min(each["real"] for each in result["scores"])
    assert fewest < real_count and f"(here {fewest}) is too large" in result["few_tiles"]
    assert f"go by KID (kernel_pixels_60_vs_{real_count}_real)" in "\n".join(score_lines(result))


def test_every_score_says_whether_its_network_was_the_critics(
    trained: Path, paths: EvaluationInputs, tmp_path: Path
) -> None:
    """The same model, whose config says that its critic had the extractor's network."""
    own = shutil.copytree(trained, tmp_path / "own")
    config = own / "model/config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"backbone": "pixels"}))
    record = read_json(own / "model/model.json")
    write_json(own / "model/model.json", record | {"digest": digest_of_folder(own / "model")})
    said = {}
    for model, in_training in ((trained, False), (own, True)):
        out = tmp_path / f"of-{model.name}"
        result = score(dataclasses.replace(paths, model=model), out, tmp_path / "cache")
        assert [each["in_training"] for each in result["scores"]] == [in_training] * len(result["scores"])
        assert result["protocol"]["extractor_in_training"] is in_training
        assert json.loads((out / "evaluation_run.json").read_text())["protocol"]["extractor_in_training"] is in_training
        said[in_training] = score_lines(result)
    header, *rows = said[True][: 1 + len(result["scores"])]
    assert header.endswith("network") and all(row.endswith("  in training") for row in rows)
    assert "its scores flatter the model" in said[True][-1]
    assert all(row.endswith("  a witness") for row in said[False][1 : len(rows) + 1])
    assert "flatter" not in "".join(said[False])


def test_numbers_of_different_units_are_scored_in_sds_of_the_real_tiles(
    paths: EvaluationInputs, tmp_path: Path
) -> None:
    class Scaled(Pixels):
        name, standardised = "scaled", True
        scale = np.geomspace(0.01, 1000, Pixels.width).astype(np.float32)

        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            return super().__call__(tiles) * self.scale

    class Unscaled(Scaled):
        name, scale = "unscaled", np.ones(Pixels.width, np.float32)

    def values(extractor: Pixels) -> list[float]:
        return [
            each["value"]
            for each in compute_fid(
                paths, tmp_path / extractor.name, extractor, tmp_path / "cache", HERE, count=60, map_tiles=0
            )["scores"]
        ]

    scaled, unscaled, raw = (values(extractor) for extractor in (Scaled(), Unscaled(), Pixels()))
    assert scaled == pytest.approx(unscaled, rel=1e-2, abs=1e-3)
    assert abs(raw[0] / unscaled[0] - 1) > 0.5


def test_an_evaluation_of_an_earlier_version_is_shown_without_it() -> None:
    shown = {"name": "fid_60k", "part": "all", "value": 87.85}
    assert score_lines({"scores": [shown], "floor": None})[1].split() == ["fid_60k", "all", "87.85"]


@pytest.mark.slow  # UMAP compiles itself
def test_features_are_drawn_on_a_map(paths: EvaluationInputs, tmp_path: Path) -> None:
    score(paths, tmp_path / "out", tmp_path / "cache", map_tiles=20)
    with Image.open(tmp_path / "out" / PICTURE) as picture:
        assert picture.width > 800


@pytest.mark.usefixtures("no_mlflow")
def test_a_model_that_takes_no_profiles_has_no_score_of_a_tissue(
    small: GANConfig, inputs: TileInputs, paths: EvaluationInputs, tmp_path: Path
) -> None:
    train_gan(small.replace(mode="gan", images=16), TileInputs(inputs.shards, inputs.cohort), tmp_path / "run")
    without = dataclasses.replace(paths, model=tmp_path / "run", expression=None)
    result = score(without, tmp_path / "out", tmp_path / "cache")
    assert {each["part"] for each in result["scores"]} == {"all"} and result["protocol"]["mode"] == "gan"


def test_real_features_are_kept_until_what_decides_them_changes(
    paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    write = feature_store.write_features

    def noted(outputs: Any, make: Any, count: int, here: Processes, title: str) -> None:
        made.append(title)
        write(outputs, make, count, here, title)

    monkeypatch.setattr(feature_store, "write_features", noted)
    first = score(paths, tmp_path / "a", tmp_path / "cache")
    assert made == ["Real tiles", "Generated tiles"]
    assert score(paths, tmp_path / "b", tmp_path / "cache") == first
    assert made[2:] == ["Generated tiles"]
    assert score(paths, tmp_path / "b", tmp_path / "cache") == first and len(made) == 3
    other = score(paths, tmp_path / "b", tmp_path / "cache", seed=1)
    assert made[3:] == ["Generated tiles"] and other["scores"] != first["scores"]
    monkeypatch.setattr(Pixels, "weights", "others")
    score(paths, tmp_path / "b", tmp_path / "cache")
    assert made[4:] == ["Real tiles", "Generated tiles"]


def test_batch_size_decides_nothing(paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score(paths, tmp_path / "a", tmp_path / "cache-a")
    monkeypatch.setattr(feature_store, "BATCH", 7)
    pieces = score(paths, tmp_path / "b", tmp_path / "cache-b")
    for one, other in zip(whole["scores"], pieces["scores"], strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-6), one["name"]


@pytest.mark.slow
@pytest.mark.guard
def test_two_processes_score_as_one(trained: Path, paths: EvaluationInputs, tmp_path: Path) -> None:
    words = [
        *("rnagan", "compute-fid"),
        f"--model={trained}",
        f"--shards={paths.shards}",
        f"--cohort={paths.cohort}",
        f"--expression={paths.expression}",
        "--extractor=pixels:make",
        "--tiles=60",
        "--map-tiles=0",
        f"--cache={tmp_path / 'cache'}",
        f"--out={tmp_path / 'two'}",
    ]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    done = programs.run(*words, env=environment, processes=2).check()
    two = json.loads((tmp_path / "two" / RESULT).read_text())
    one = score(paths, tmp_path / "one", tmp_path / "other-cache")
    for of_two, of_one in zip(two["scores"], one["scores"], strict=True):
        assert of_two["name"] == of_one["name"] and of_two["value"] == pytest.approx(of_one["value"], rel=1e-6)
    assert done.stdout.count("frechet_pixels_60_vs") == 1  # said by one of them


def test_mistakes_are_one_sentence(trained: Path, paths: EvaluationInputs, tmp_path: Path) -> None:
    cohort = pd.read_csv(paths.cohort)
    cohort.assign(split="train").to_csv(tmp_path / "cohort.csv", index=False)
    main = runpy.run_path(str(ROOT / "tools/compute_fid.py"))["main"]
    options = [
        "--model",
        trained,
        "--shards",
        paths.shards,
        "--out",
        tmp_path / "out",
        "--extractor",
        "tests.evaluation.pixels:make",
    ]
    for more, said in (
        (["--cohort", paths.cohort], "A model generates from profiles; give --expression."),
        (["--cohort", tmp_path / "cohort.csv", "--expression", paths.expression], "split"),
    ):
        result = CliRunner().invoke(main, list(map(str, options + more)))
        assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output


def test_features_of_a_gpu_and_of_a_cpu_are_kept_apart_and_evaluations_of_both_are_one(tmp_path: Path) -> None:
    made: list[range] = []

    def make(numbers: range) -> Any:
        made.append(numbers)
        return np.zeros((len(numbers), 32, 32, 3), np.uint8)

    def digest(device: str) -> str:
        wanted = [feature_store.Wanted(tmp_path, {"tiles": "real"}, Pixels())]
        return feature_store.cached_features(wanted, make, 5, HERE, "Tiles", torch.device(device))[0][1]

    digests = [digest(device) for device in ("cpu", "cuda", "cuda:1", "cpu")]
    assert len(set(digests)) == 1 and len(made) == 2  # any GPU's are a GPU's
    assert (tmp_path / f"{digests[0]}.npy").is_file()  # a CPU's under the name that they had before
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert sorted(record.get("device", "cpu") for record in records) == ["cpu", "cuda"]


@pytest.mark.slow
@pytest.mark.guard
def test_evaluations_in_one_process_give_their_memory_back(
    paths: EvaluationInputs, inception_weights: Path, tmp_path: Path
) -> None:
    """Kept for the next one, Inception's maps were 440 MiB after these few tiles, and 100 MiB more each time after
    32."""
    program = Path(__file__).with_name("evaluations_in_one_process.py")
    inputs = [paths.model, paths.shards, paths.cohort, paths.expression]
    command = [sys.executable, program, inception_weights, tmp_path, *inputs]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, *after = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("MiB")]
    assert len(after) == 4 and max(after) - before < 100
    assert after[3] - after[1] < 20
