import json
from pathlib import Path

import pytest

from tests import programs

ROOT = Path(__file__).parents[2]


@pytest.mark.distributed
def test_a_process_alone_says_who_it_is(tmp_path: Path) -> None:
    programs.run(ROOT / "rnagan/doctor/launch_probe.py", tmp_path, 60, env={"OMP_NUM_THREADS": "1"}).check()
    (path,) = tmp_path.glob("*.json")
    said = json.loads(path.read_text())
    assert (said["rank"], said["processes"], said["error"]) == (0, 1, "") and "latency_seconds" not in said
