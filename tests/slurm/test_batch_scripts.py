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
