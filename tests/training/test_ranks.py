"""Processes of one run on machines that aren't alike: what one alone decides, and how long the others wait for it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rnagan.cohort.table import read_cohort
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.selection import make_order, select
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.training.tile_inputs import TileInputs
from tests import programs
from tests.training import ranks

PROGRAM = Path(ranks.__file__)
pytestmark = pytest.mark.distributed


def said(case: str, folder: Path) -> list[dict[str, Any]]:
    """What both ranks printed."""
    done = programs.run(PROGRAM, case, folder, env={"OMP_NUM_THREADS": "1"}, processes=2, timeout=100).check()
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [one.pop("rank") for one in found] == [0, 1]
    return found


def test_processes_wait_for_a_validation_that_takes_longer_than_pytorch_does(tmp_path: Path) -> None:
    assert said("outlived", tmp_path) == [{"said": "came"}] * 2


def test_how_long_they_wait_is_a_setting(tmp_path: Path) -> None:
    assert "gloo" in said("cut", tmp_path)[1]


def test_a_checkpoint_that_only_some_see_is_refused_by_all(tmp_path: Path) -> None:
    newest = [ranks.store(tmp_path, images) for images in (8, 16)][-1]
    assert said("opened", tmp_path) == [{"said": newest.name}] * 2
    for found in said("unseen", tmp_path):
        assert found["error"].startswith("Process 1 on ") and found["error"].endswith(
            f"{newest} is whole for process 0 and not here (state.json is missing or no JSON); put the run on a disk "
            "that all processes see."
        )


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_by_all(tmp_path: Path) -> None:
    (ranks.store(tmp_path, 8) / "state.json").write_text("{")
    first, second = said("opened", tmp_path)
    assert first == second and first["error"].startswith(f"No checkpoint of {tmp_path} is whole")


def test_all_start_from_the_checkpoint_that_the_main_process_finds(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    newest = latest_checkpoint(run)
    assert newest is not None
    shutil.copytree(newest, newest.with_name("000000000001"))
    assert said("earlier", run) == [{"said": newest.name}] * 2


def test_damaged_tiles_are_counted_over_all_processes(tmp_path: Path) -> None:
    assert said("damaged", tmp_path) == [{"said": "3, 5"}] * 2


@pytest.fixture
def rows(small: GANConfig, inputs: TileInputs, tmp_path: Path) -> pd.DataFrame:
    """What `ranks.validation_in` finds in a folder for a validation, and its rows: an odd number, of two tissues."""
    cohort = read_cohort(inputs.cohort).query("slide != ''").iloc[:11]
    rows = cohort[["slide", "sample", "donor", "tissue"]].assign(tiles=3).reset_index(drop=True)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    small.save(tmp_path / "config.yaml")
    (tmp_path / "shards").write_text(str(inputs.shards))
    return rows


def test_processes_share_a_validation(rows: pd.DataFrame, tmp_path: Path) -> None:
    own, generator = ranks.validation_in(tmp_path)
    described = own.describe(generator)
    for part in (described, own._real):
        assert part is not None and len(part.features) == len(part.measures) == 3 * len(rows)
    alone = own.compare(described)
    assert sum(name.startswith("frechet_") for name in alone) == 3 and "faithfulness/mean" in alone
    stored = (tmp_path / "validation.safetensors").read_bytes()
    (tmp_path / "validation.safetensors").unlink()
    main, other = (each["said"] for each in said("validated", tmp_path))
    assert (main["rows"], other["rows"]) == ([*range(5)], [*range(5, 11)]) and other["metrics"] is None
    assert main["metrics"] == pytest.approx(alone, rel=1e-6)
    assert (tmp_path / "validation.safetensors").read_bytes() == stored


def test_what_one_process_cannot_measure_ends_all(rows: pd.DataFrame, tmp_path: Path) -> None:
    for each in said("unmeasured", tmp_path):
        assert each["error"].startswith("Process 1 on ") and each["error"].endswith(": no memory")


CommandLine = Callable[[GANConfig, TileInputs, Path], list[str]]
TRAIN = PROGRAM.parents[2] / "tools/train_rnagan.py"
WITHOUT_MLFLOW = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}


def test_the_main_process_alone_reads_what_all_need_and_says_what_is_finished(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: CommandLine
) -> None:
    words = command_line(small.replace(images=16, validate_every=0), inputs, tmp_path / "run")
    done = programs.run(PROGRAM.with_name("main_reads.py"), TRAIN, *words, env=WITHOUT_MLFLOW, processes=2, timeout=100)
    assert done.check().stdout.count(f"{tmp_path / 'run'} is up to date (16 images).") == 1


def test_damaged_tiles_of_all_processes_stop_a_run(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: CommandLine
) -> None:
    """Of 39 tiles one may be damaged. Each process meets one, and both together two."""
    own = dataclasses.replace(inputs, shards=shutil.copytree(inputs.shards, tmp_path / "shards"))
    config = small.replace(images=16, on_corrupt="skip", max_corrupt=0.03, validate_every=0, log_every=8)
    shards = open_dataset(own.shards)
    selection = select(shards, read_cohort(own.cohort), "train", config.tiles_per_slide, "")
    order = make_order(selection, config.seed, config.window_slides, config.tile_order, config.tissue_weights)
    for slide, tile in order.locate(0, 16)[[0, 4]].tolist():  # images of processes 0 and 1
        name = selection.table["slide"][slide]
        row, tar = shards.index(name).iloc[tile], Path(shards.tar_address(name))
        data = bytearray(tar.read_bytes())
        data[row["offset"] + row["size"] // 2] ^= 1
        tar.write_bytes(data)
    words = command_line(config, own, tmp_path / "run")
    done = programs.run(TRAIN, *words, env=WITHOUT_MLFLOW, processes=2, timeout=100)
    assert done.returncode == 1 and "2 of 39 tiles are damaged (" in done.stderr
