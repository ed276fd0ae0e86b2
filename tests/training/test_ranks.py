"""Processes of one run on machines that aren't alike: what one alone decides, and how long the others wait for it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rnagan.tracking.run_folder import latest_checkpoint
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
