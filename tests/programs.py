"""Programs for tests, started as processes of their own from one that has imported what takes long.

An interpreter that imports PyTorch and MLflow anew costs 5 to 10 s, a fork of one that has them 0.1 s. The process
server holds libraries alone: rnagan is imported by each program, after its environment is set.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import runpy
import shlex
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

CHILD = str(Path(__file__).with_name("started_program.py"))
LIBRARIES = (
    *("torch", "torch.distributed", "torch._dynamo", "torchvision", "accelerate", "lightly.loss", "lightly.transforms"),
    *("mlflow", "sqlalchemy", "alembic", "pandas", "pyarrow.parquet", "anndata", "h5py", "fsspec", "webdataset"),
    *("scipy.stats", "sklearn.linear_model", "sklearn.decomposition", "skimage", "tifffile", "openslide", "simplejpeg"),
    *("matplotlib.pyplot", "jinja2", "click", "dask.distributed", "safetensors.torch", "tqdm", "psutil"),
)


@dataclasses.dataclass(frozen=True)
class Ended:
    """A program that has ended: its exit code (below 0 the signal that ended it) and what it printed."""

    words: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def check(self) -> "Ended":
        assert self.returncode == 0, f"{shlex.join(self.words)}\n{self.stdout}\n{self.stderr[-5000:]}"
        return self


_RECORDS: list[list[Ended]] = []


@contextlib.contextmanager
def recorded() -> Iterator[list[Ended]]:
    """The programs that end inside the block."""
    _RECORDS.append([])
    try:
        yield _RECORDS[-1]
    finally:
        _RECORDS.pop()


class Running:
    """A program that runs; `pid` is that of its first rank."""

    def __init__(self, said: tuple[str, ...], started: list[Any], outputs: list[tuple[str, str]]) -> None:
        self._said, self._started, self._outputs = said, started, outputs

    @property
    def pid(self) -> int:
        return self._started[0].pid

    def wait(self, timeout: float = 200) -> Ended:
        """Its end; raises `TimeoutError` when it had to be killed."""
        code = _wait(self._started, timeout)
        out, err = ("".join(Path(pair[at]).read_text() for pair in self._outputs) for at in (0, 1))
        ended = Ended(self._said, code, out, err)
        for record in _RECORDS:
            record.append(ended)
        return ended

    def kill(self) -> None:
        """End it, if it still runs."""
        for process in self._started:
            process.kill()
            process.join()


@contextlib.contextmanager
def start(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, processes: int = 1
) -> Iterator[Running]:
    """A program that runs while the block does; see `run`."""
    said = tuple(map(str, words))
    place, settings = str(cwd or Path.cwd()), dict(os.environ | (env or {}))
    with tempfile.TemporaryDirectory() as folder:
        outputs = [(f"{folder}/out{rank}", f"{folder}/err{rank}") for rank in range(processes)]
        context = multiprocessing.get_context("forkserver")
        ranks = _ranks(processes) if processes > 1 else [{}]
        started = [
            context.Process(target=runpy.run_path, args=(CHILD, {"GIVEN": (said, place, settings | rank, *files)}))
            for rank, files in zip(ranks, outputs, strict=True)
        ]
        for process in started:
            process.start()
        running = Running(said, started, outputs)
        try:
            yield running
        finally:
            running.kill()


def run(
    *words: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    processes: int = 1,
    timeout: float = 200,
) -> Ended:
    """Run a program to its end: `rnagan NAME …`, or the path of a Python file, with arguments.

    `env` goes over this process's environment. Of several `processes` each is a rank of one launch, as torchrun starts
    them: when one fails, the others are ended. Raises `TimeoutError` when it had to be killed after `timeout` seconds.
    """
    with start(*words, cwd=cwd, env=env, processes=processes) as running:
        return running.wait(timeout)


def options_of(config: Any) -> list[str]:
    """The options that say all settings of a config."""
    named = {name.replace("_", "-"): value for name, value in config.to_dict().items()}
    return [
        f"--{name}={value}" if not isinstance(value, bool) else f"--{'' if value else 'no-'}{name}"
        for name, value in named.items()
    ]


def warm_the_server() -> None:
    """Have the libraries imported by this process's fork server, once it starts. Loaders' workers come from it too."""
    multiprocessing.set_forkserver_preload(list(LIBRARIES))


def _ranks(processes: int) -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _wait(started: Sequence[multiprocessing.process.BaseProcess], timeout: float) -> int:
    """The exit code of the first process that fails, else 0."""
    end = time.monotonic() + timeout
    running = {process.sentinel: process for process in started}
    while running:
        for sentinel in wait(list(running), timeout=max(0.0, end - time.monotonic())) or [None]:
            process = running.pop(sentinel, None)
            if process is not None:
                process.join()
            if process is None or process.exitcode:
                for other in running.values():
                    other.kill()
                    other.join()
                if process is None:
                    raise TimeoutError(f"A program ran for more than {timeout:.0f} s.")
                return process.exitcode
    return 0
