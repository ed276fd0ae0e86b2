"""Contenders as processes: each is started once, imports what it needs, and then takes requests."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .others import foreign_seconds
from .race import Answer, Entry

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


class Contenders:
    """The contenders of the parts of a benchmark. All end with the `with` block.

    `workers`: the folder of their scripts, `pythons`: the interpreter of each worker. `quick`: one process for all
    entries of a worker, throughout.
    """

    def __init__(
        self, workers: Path, pythons: Mapping[str, Path | str], cores: Iterable[int], scratch: Path, quick: bool
    ) -> None:
        self._workers, self._pythons, self._cores, self._scratch = workers, pythons, list(cores), scratch
        self._quick, self._stack, self._open = quick, contextlib.ExitStack(), dict[str, Contender]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._open = {}

    def start(self, entries: Iterable[Entry], apart: bool = True) -> list[Entry]:
        """Begin a part with those of the entries that have an interpreter, which are returned; earlier ones end.

        `apart`: each has a process of its own, else those of one worker share it.
        """
        if not self._quick:
            self.__exit__()
        present = [entry for entry in entries if entry.worker in self._pythons]
        for entry in present:
            key = entry.name if apart and not self._quick else entry.worker
            if key not in self._open:
                script = self._workers / f"run_{entry.worker}.py"
                contender = Contender(script, self._pythons[entry.worker], self._cores, self._scratch / key)
                self._open[key] = self._stack.enter_context(contender)
        return present

    def of(self, entry: Entry) -> "Contender":
        """One that was started."""
        return self._open.get(entry.name) or self._open[entry.worker]

    def ask(self, entry: Entry, **request: Any) -> Answer:
        """An answer to an entry's option, and what `request` adds or says otherwise."""
        return self.of(entry).ask(entry.option | request)


class Contender:
    """A script `run_NAME.py` that answers requests (`shared/workers/serving.py`), pinned to the given cores.

    Use in a `with` block.
    """

    def __init__(self, script: Path, python: Path | str, cores: Iterable[int], scratch: Path) -> None:
        self.name, self._scratch = script.stem.removeprefix("run_"), scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._log = (scratch / f"{self.name}.log").open("w+")
        places = [str(SHARED_WORKERS), os.environ.get("PYTHONPATH")]
        command, self.cores = [str(python), str(script)], sorted(cores)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
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

    def ask(self, request: dict[str, Any]) -> Answer:
        """Do it in a fresh folder, which is then thrown away, and return the answer.

        It has `seconds`, `tiles`, …, and `others`: the share of the cores that other processes had meanwhile.
        """
        foreign, began = foreign_seconds(self.cores, self.pid), time.perf_counter()
        self.send(request)
        answer = self.answer()
        foreign = foreign_seconds(self.cores, self.pid) - foreign
        return answer | {"others": foreign / (time.perf_counter() - began) / len(self.cores)}

    def send(self, request: dict[str, Any]) -> None:
        """Start it. One request at a time."""
        self._out = Path(tempfile.mkdtemp(dir=self._scratch))
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it ended by itself: there will be no answer
            self._process.stdin.write(json.dumps(request | {"out": str(self._out)}) + "\n")
            self._process.stdin.flush()

    def answer(self) -> Answer:
        """Wait for what `send` began. Raises `ValueError` where it failed."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        shutil.rmtree(self._out)
        answer = json.loads(line) if line else {"error": f"it ended: {self._last_words()}"}
        if "error" in answer:
            raise ValueError(f"{self.name}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"see {self._log.name}")
