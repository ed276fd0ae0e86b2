import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.distributed
def test_a_process_alone_says_who_it_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rnagan.doctor.launch_probe", str(tmp_path), "60"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, check=True)
    (path,) = tmp_path.glob("*.json")
    said = json.loads(path.read_text())
    assert (said["rank"], said["processes"], said["error"]) == (0, 1, "") and "latency_seconds" not in said
