"""Commands of rnagan that a benchmark starts, each on one thread."""

import os
import signal
import subprocess
import time

import psutil

from rnagan.article.stages import words_of
from rnagan.runtime.ends import STOPPED

_POLL_SECONDS = 0.5


def run_command(command: str) -> None:
    """Run a command; its own words are shown where it fails."""
    done = subprocess.run(words_of(command), capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise ChildProcessError(f"{command} failed: {done.stderr or done.stdout}")


def train_for(command: str, seconds: float) -> None:
    """Run a training for so many seconds of computing, its start with them; then a signal stops it."""
    process = subprocess.Popen(words_of(command), stdout=subprocess.DEVNULL, env=_environment())
    while process.poll() is None:
        spent = psutil.Process(process.pid).cpu_times()
        if spent.user + spent.system >= seconds:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(_POLL_SECONDS)
    if process.wait() not in (0, STOPPED):
        raise ChildProcessError(f"{command} failed.")


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}
