"""Commands of rnagan that a benchmark starts, each on one thread."""

import os
import subprocess

from rnagan.article.stages import words_of
from rnagan.comparison.timed_training import compute_for
from rnagan.runtime.ends import STOPPED


def run_command(command: str) -> None:
    """Run a command; its own words are shown where it fails."""
    done = subprocess.run(words_of(command), capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise ChildProcessError(f"{command} failed: {done.stderr or done.stdout}")


def train_for(command: str, seconds: float) -> None:
    """Run a training for so many seconds of computing, its start with them; then a signal stops it."""
    code, _ = compute_for(words_of(command), seconds, environment=_environment())
    if code not in (0, STOPPED):
        raise ChildProcessError(f"{command} failed.")


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}
