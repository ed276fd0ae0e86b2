"""Batch scripts as a reader meets them, without SLURM."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.slurm.jobs import ROOT

SCRIPTS = sorted([*(ROOT / "launch_configs").glob("*.sbatch"), *(ROOT / "shards").glob("*.sbatch")])
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_slurm*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_batch_script_says_how_it_is_submitted_and_is_submitted_by_a_test(path: Path) -> None:
    text, place = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
    assert re.search(rf"^#   sbatch .*\b{place}\b", text, flags=re.MULTILINE)
    assert f"#SBATCH --job-name={path.stem}\n" in text and "#SBATCH --requeue\n" in text
    assert re.findall(r"^[^#\n]*\b((?:tools|shards)/\w+\.py)", text, flags=re.MULTILINE)[0].endswith(f"/{path.stem}.py")
    subprocess.run(["bash", "-n", path], check=True)
    assert f'"{path.stem}"' in TESTS or f'"{place}"' in TESTS


@pytest.mark.parametrize(
    "path", [path for path in SCRIPTS if path.parent.name == "launch_configs"], ids=lambda p: p.name
)
def test_another_folder_costs_a_sentence(path: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    done = subprocess.run(["bash", path], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.endswith("Submit it from the project's folder.\n")


SRUN = """#!/bin/bash
while [ "$1" != bash ]; do shift; done
SLURM_PROCID=5 SLURM_LOCALID=1 exec "$@"
"""


@pytest.mark.parametrize(
    ("given", "cache"),
    [
        ({}, "/tmp/rnagan-{user}/shards"),
        ({"TMPDIR": "/scratch"}, "/scratch/rnagan-{user}/shards"),
        ({"TMPDIR": "/scratch", "SLURM_TMPDIR": "/nvme/job"}, "/nvme/job/rnagan-{user}/shards"),
        ({"TMPDIR": "/scratch", "RNAGAN_CACHE": "/chosen"}, "/chosen"),
    ],
)
def test_a_node_keeps_what_it_fetches_on_its_own_disk(given: dict[str, str], cache: str, tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    unset = ("TMPDIR", "SLURM_TMPDIR", "RNAGAN_CACHE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_NUM_NODES": "2", "PYTHON": "bash -c env"}
    environment |= {"PATH": f"{tmp_path}:{environment['PATH']}"} | given
    done = subprocess.run(
        ["bash", "launch_configs/compute_fid.sbatch"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert found["RNAGAN_CACHE"] == cache.format(user=user), done.stderr
    assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"], found["LOCAL_WORLD_SIZE"]) == ("5", "1", "8", "4")
