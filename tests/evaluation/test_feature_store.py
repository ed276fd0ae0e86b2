"""Features of several machines on one disk: each writes a file of its own, and one decides what is there."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import programs
from tests.evaluation import features_on_disks

PROGRAM = Path(features_on_disks.__file__)


def two_ranks(case: str, folder: Path) -> list[dict[str, Any]]:
    """What each rank printed."""
    done = programs.run(PROGRAM, case, folder, env={"OMP_NUM_THREADS": "1"}, processes=2)
    return [json.loads(line) for line in done.check().stdout.splitlines() if line.startswith("{")]


@pytest.mark.distributed
@pytest.mark.parametrize("case", ["plain", "stale"])
def test_no_page_is_written_by_two_machines_and_one_decides_what_is_there(case: str, tmp_path: Path) -> None:
    """On a common disk two machines that write one page lose what one of them wrote. Where they see different files,
    each would wait for the other."""
    first, second = two_ranks(case, tmp_path)
    assert first["written"] and second["written"] and not set(first["written"]) & set(second["written"])
    whole = features_on_disks.Rows()(features_on_disks.tiles(range(features_on_disks.TILES)))
    assert first["sha256"] == hashlib.sha256(whole.tobytes()).hexdigest() and "sha256" not in second
    (kept,) = tmp_path.glob("*.npy")
    np.testing.assert_array_equal(np.load(kept), whole)
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy", ".json"}


@pytest.mark.distributed
def test_machines_with_disks_of_their_own_are_refused_before_the_work(tmp_path: Path) -> None:
    for found in two_ranks("apart", tmp_path):
        assert found["error"].startswith("Process 1 on ") and found["error"].endswith(
            "which process 0 made, isn't there; choose a folder on a disk that all processes see."
        )
        assert not any(name.endswith(".float32") for name in found["written"])
