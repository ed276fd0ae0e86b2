"""A training that ends after so many seconds of computing, by a signal, and goes on where an earlier start was stopped.

Computing is counted so that rows of a table compare: on CPUs the processor time of the training's processes, on a GPU
the time by the clock. The start of the training counts, as often as it is started.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import psutil

from rnagan.io.files import read_json, write_json
from rnagan.io.visible import visible
from rnagan.runtime.ends import INTERRUPTED, STOPPED, following
from rnagan.tracking.run_folder import latest_checkpoint

SPENT = "spent.json"
_POLL_SECONDS = 0.5
_NOTE_SECONDS = 5.0  # between notes of what was spent


class Spent(TypedDict):
    """`last`: seconds of computing when it was last looked; `at`: those at checkpoints, by their names."""

    last: float
    at: dict[str, float]


def compute_for(
    command: Sequence[str],
    seconds: float,
    *,
    by_clock: bool = False,
    log: Path | None = None,
    stop: threading.Event | None = None,
    noted: Callable[[float], None] = lambda spent: None,
    environment: Mapping[str, str] = os.environ,
) -> tuple[int, float]:
    """Run a command (its words) until it ends or has computed for so many seconds, when SIGTERM stops it; its exit code
    and the seconds it had. `log`: where its output is added, else stdout is thrown away; `stop`: stops it early;
    `noted` is called now and then with the seconds so far. It ends with this process.
    """
    began, said, spent = time.monotonic(), 0.0, 0.0
    output = subprocess.DEVNULL if log is None else log.open("a", encoding="utf-8")
    try:
        process = subprocess.Popen(
            list(command),
            stdout=output,
            stderr=None if log is None else subprocess.STDOUT,
            env=following(dict(environment)),
        )
        try:
            while process.poll() is None:
                spent = max(spent, time.monotonic() - began if by_clock else _processor_seconds(process.pid))
                if spent >= seconds or (stop is not None and stop.is_set()):
                    process.terminate()
                    process.wait()
                    break
                if time.monotonic() - said >= _NOTE_SECONDS:
                    said = time.monotonic()
                    noted(spent)
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    finally:
        if log is not None:
            output.close()  # type: ignore[union-attr]
    noted(spent)
    return process.returncode, spent


def train_within(
    words: Sequence[str],
    cell: Path,
    run: Path,
    seconds: float,
    by_clock: bool = False,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] = os.environ,
) -> float | None:
    """Train by `rnagan` with these words into `run` until it has had `seconds` of computing, earlier starts too; how
    many it had, or None where it was stopped before.

    Every start goes on from the newest checkpoint; what was computed after it is lost, and doesn't count. Raises
    `ValueError` where the training fails.
    """
    spent = _read_spent(cell)
    newest = latest_checkpoint(run)
    before = 0.0 if newest is None else spent["at"].get(newest.name, spent["last"])

    def note(own: float) -> None:
        newest = latest_checkpoint(run)
        if newest is not None:
            spent["at"].setdefault(newest.name, before + own)
        spent["last"] = before + own
        write_json(cell / SPENT, spent)

    if newest is not None and before >= seconds:
        return before
    log = cell / "training.log"
    command = [sys.executable, "-m", "rnagan", *words]
    code, own = compute_for(
        command, seconds - before, by_clock=by_clock, log=log, stop=stop, noted=note, environment=environment
    )
    if code not in (0, STOPPED, INTERRUPTED, -signal.SIGTERM):  # the last where it answered no signals yet
        last = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][-1:]
        raise ValueError(f"The training in {run} failed (exit code {code}): {visible(' '.join(last))} (more in {log}).")
    ended = code == 0 or before + own >= seconds
    return before + own if ended else None


def _read_spent(cell: Path) -> Spent:
    path = cell / SPENT
    return read_json(path, Spent) if path.is_file() else {"last": 0.0, "at": {}}


def _processor_seconds(pid: int) -> float:
    """Of a process and its children, ended ones among them; 0 where it has ended."""
    try:
        process = psutil.Process(pid)
        own = process.cpu_times()
        below = [child.cpu_times() for child in process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    return sum(each.user + each.system for each in (own, *below)) + own.children_user + own.children_system
