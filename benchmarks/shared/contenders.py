"""Contenders as processes: each is started once, imports what it needs, and then takes requests."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SHARED_WORKERS = Path(__file__).parent / "workers"  # modules that all of them may import
_ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VIPS_CONCURRENCY",
        "OPENCV_FOR_THREADS_NUM",
        "TIFFFILE_NUM_THREADS",
    )
}


def open_contenders(
    stack: contextlib.ExitStack, workers: Path, pythons: dict[str, Path | str], cores: Iterable[int], scratch: Path
) -> dict[str, "Contender"]:
    """Start `workers/run_NAME.py` by its Python for each name; all end with `stack`."""
    return {
        name: stack.enter_context(Contender(workers / f"run_{name}.py", python, cores, scratch))
        for name, python in pythons.items()
    }


class Contender:
    """A script `run_NAME.py` that answers requests (`shared/workers/serving.py`), pinned to the given cores.

    Use in a `with` block.
    """

    def __init__(self, script: Path, python: Path | str, cores: Iterable[int], scratch: Path) -> None:
        self.name, self._scratch = script.stem.removeprefix("run_"), scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._log = (scratch / f"{self.name}.log").open("w")
        command, self.cores = [str(python), str(script)], sorted(cores)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | _ONE_THREAD | {"PYTHONPATH": str(SHARED_WORKERS)},
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it ended by itself
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do it in a fresh folder, which is then thrown away, and return the answer (`seconds`, `tiles`, …)."""
        self.send(request)
        return self.answer()

    def send(self, request: dict[str, Any]) -> None:
        """Start it. One request at a time."""
        self._out = Path(tempfile.mkdtemp(dir=self._scratch))
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it ended by itself: there will be no answer
            self._process.stdin.write(json.dumps(request | {"out": str(self._out)}) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for what `send` began. Raises `ValueError` where it failed."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        shutil.rmtree(self._out)
        answer = json.loads(line) if line else {"error": f"it ended; see {self._log.name}"}
        if "error" in answer:
            raise ValueError(f"{self.name}: {answer['error']}")
        return answer
