"""Worker processes of a loader live as long as the process that they read for: no longer, and no shorter."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import programs

READER = Path(__file__).with_name("slow_reader.py")
SECONDS = 200.0  # that a busy machine may take


def until(there: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.05)


def batches(folder: Path) -> int:
    return int((folder / "read").read_text().split()[0])


def workers(folder: Path) -> list[psutil.Process]:
    return [psutil.Process(int(pid)) for pid in (folder / "read").read_text().split()[1:]]


@pytest.mark.attack(kind=6, ends="unharmed")
@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_process_and_not_by_a_signal_of_their_own(
    make_shards: Callable, tmp_path: Path, number: signal.Signals
) -> None:
    make_shards({"a": 5, "b": 7})
    with programs.start(READER, tmp_path / "shards", tmp_path) as running:
        until(lambda: (tmp_path / "read").exists() and batches(tmp_path) > 4)  # of both workers
        children = workers(tmp_path)
        assert len(children) == 2
        for child in children:  # schedulers and terminals signal every process of a job
            for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                child.send_signal(each)
        seen = batches(tmp_path)
        until(lambda: batches(tmp_path) > seen + 5)
        os.kill(running.pid, number)
        ended = running.wait(SECONDS)
        until(lambda: not [child for child in children if child.is_running() and child.status() != "zombie"])
    assert ended.returncode != 0
