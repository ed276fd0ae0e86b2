"""Commands in order, as demonstrations and reproductions run them: restartable, with time and memory of each kept."""

import contextlib
import dataclasses
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import psutil

from rnagan.io.files import read_json, write_json
from rnagan.runtime.ends import INTERRUPTED, STOPPED, Stopped, following
from rnagan.runtime.progress import say

POLL_SECONDS = 0.5
STOP_SECONDS = 8.0  # that a stopped command has, in which a training writes a checkpoint
COUNTING_SHARE = 0.02  # of a core: counting the pages of a large process takes long, and holds it up


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step: its name, and the command line that does it from any folder. `product`: the file that it leaves, where
    `run_stages` may skip a step whose product is there."""

    name: str
    command: str
    product: str = ""


class Done(TypedDict):
    """What stages.json keeps of a stage."""

    name: str
    command: str
    seconds: float
    peak_memory_gb: float
    finished: bool
    made_from: NotRequired[str]


class StageFailed(ChildProcessError):  # noqa: N818
    """A stage's command ended with an error, which it has printed."""


def starting(name: str, launch: Path | None = None) -> tuple[str, ...]:
    """First words of the command line of `rnagan NAME`; `launch`: a config of accelerate's launcher that starts it."""
    if launch is None:
        return ("rnagan", name)
    module = f"rnagan.commands.{name.replace('-', '_')}"
    return ("accelerate", "launch", "--quiet", "--config_file", str(launch), "-m", module)


def words_of(command: str) -> list[str]:
    """The words of a command line as they are started: `rnagan` is that of this interpreter."""
    words = shlex.split(command)
    return [sys.executable, "-m", *words] if words[0] == "rnagan" else words


def run_stages(stages: list[Stage], folder: Path, made_from: str = "") -> list[dict[str, Any]]:
    """Run commands in order and return their records, also kept in `folder/stages.json`.

    A command is skipped where its product is there and was made by the same command of the same inputs (`made_from`,
    a digest of what the stages read), and all commands before it were skipped. The others are run, and find out by
    themselves whether they are up to date. A record keeps the seconds of the run that did the work; those of an
    interrupted one add up.
    """
    path = folder / "stages.json"
    done = read_json(path, list[Done]) if path.is_file() else []
    known: dict[str, dict[str, Any]] = {stage["name"]: dict(stage) for stage in done}
    records: list[dict[str, Any]] = []
    all_done = True
    for number, stage in enumerate(stages, start=1):
        old = known.get(stage.name, {})
        same = old.get("command") == stage.command and old.get("made_from", "") == made_from
        all_done = all_done and same and old["finished"] and bool(stage.product) and Path(stage.product).exists()
        say(f"\n[{number}/{len(stages)}] {stage.name}: {'is done.' if all_done else stage.command}")
        begun = old if same else {"seconds": 0.0, "peak_memory_gb": 0.0, "finished": False}
        record = begun | {"name": stage.name, "command": stage.command, "made_from": made_from}
        records.append(record)
        if all_done:
            continue
        _run(stage, record, lambda: write_json(path, records))
    return records


def _run(stage: Stage, record: dict[str, Any], keep: Callable[[], None]) -> None:
    began, before, done_before = time.monotonic(), record["seconds"], record["finished"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(words_of(stage.command), env=following(environment))
    watch = threading.Thread(target=_watch_memory, args=(process, record), daemon=True)
    watch.start()
    code = None  # an interrupted wait can lose the child's status, and a second one would then say 0
    try:
        code = process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise
    finally:
        seconds = time.monotonic() - began
        record["seconds"] = max(before, seconds) if done_before else before + seconds
        record["finished"] = code == 0
        keep()
    if code in (STOPPED, INTERRUPTED):
        raise Stopped if code == STOPPED else KeyboardInterrupt
    if code:
        raise StageFailed(
            f"{stage.name} failed (exit code {code}); mend what it says and start again, what is done is kept."
        )
    say(f"{stage.name} took {record['seconds']:.0f} s and {record['peak_memory_gb']:.1f} GB of memory at most.")


def _end(process: subprocess.Popen) -> None:
    """Have a command stop, and end what is left of it after some seconds."""
    there = [psutil.Process(process.pid)] if process.poll() is None else []
    with contextlib.suppress(psutil.NoSuchProcess):
        there += [child for parent in there for child in parent.children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(there, STOP_SECONDS)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


def _watch_memory(process: subprocess.Popen, record: dict[str, Any]) -> None:
    """Note the largest sum of resident memory of a process and its children, in GB."""
    while process.poll() is None:
        began = time.perf_counter()
        record["peak_memory_gb"] = max(record["peak_memory_gb"], _tree_memory(process.pid) / 1e9)
        time.sleep(max(POLL_SECONDS, (time.perf_counter() - began) / COUNTING_SHARE))


def _tree_memory(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss  # shared pages counted once
    except psutil.Error:  # a process that ended while we looked
        pass
    return total
