"""What the tests of SLURM jobs share: commands in the environment that a job gets, and waiting for what they do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODES = {"virtual1", "virtual2"}
PATIENCE_SECONDS = 240  # within a test's time limit
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "RANK"} | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
}


def run(*words: object, cwd: Path = ROOT, code: int = 0) -> str:
    """What a command prints; it must end with this exit code."""
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < end, f"{what} in {PATIENCE_SECONDS} s"
        time.sleep(0.05)


def is_over() -> bool:
    """Whether no job is left."""
    return not run("squeue", "--me", "--noheader").strip()


def idle_nodes() -> set[str]:
    return set(run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N").split())


def state_of(job: str) -> str:
    """What SLURM says of a job, which mustn't have failed: minutes after that it would be forgotten."""
    said = run("scontrol", "show", "job", job)
    for state in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"):
        assert f"JobState={state}" not in said, said
    return said
