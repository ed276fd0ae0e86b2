"""Servers of tests: `rnagan serve-…` as a process of its own, and a PostgreSQL of a folder of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 400  # of a very busy machine


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Serving:
    """A server that runs; `kill` is kill -9."""

    def __init__(self, words: list[str], url: str) -> None:
        self.url = url
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait_until_it_answers(self) -> None:
        ends = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(self.url)
                return
            if self._process.poll() is not None or time.monotonic() > ends:
                self.kill()
                raise AssertionError(self.output())
            time.sleep(0.1)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self._process.send_signal(number)
        return self._process.wait(60)

    def output(self) -> str:
        """All that it printed; it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.read().decode()


@contextlib.contextmanager
def serving(command: str, *options: object, port: int | None = None) -> Iterator[Serving]:
    """`rnagan COMMAND` with these options, asked until it answers."""
    port = port or free_port()
    words = [sys.executable, "-m", "rnagan", command, *map(str, options), "--port", str(port)]
    running = Serving(words, f"http://127.0.0.1:{port}")
    try:
        running.wait_until_it_answers()
        yield running
    finally:
        running.kill()


def postgres_programs() -> Path | None:
    """Where Debian keeps the server's programs."""
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A new PostgreSQL server, as the URL of its database. Skips where it isn't installed."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL isn't installed (tests/apps/servers.sh install).")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    before = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if os.getuid() == 0 else []
    place = Path("/tmp") / f"rnagan-postgres-{os.getpid()}"  # the server's user can't enter pytest's folders
    place.mkdir()
    if os.getuid() == 0:
        shutil.chown(place, user)
    port = free_port()

    def run(*words: object) -> None:
        done = subprocess.run([*before, *map(str, words)], capture_output=True, text=True, cwd="/tmp")
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"

    try:
        run(programs / "initdb", "--pgdata", place / "data", "--auth", "trust", "--username", "rnagan", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place}"
        log = place / "log"
        start = [
            *before,
            str(programs / "pg_ctl"),
            "-D",
            str(place / "data"),
            "-o",
            options,
            "-l",
            str(log),
            "-w",
            "start",
        ]
        done = subprocess.run(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/tmp", timeout=120)
        assert done.returncode == 0, log.read_text()
        yield f"postgresql+psycopg://rnagan@127.0.0.1:{port}/postgres"
    finally:
        stop = [*before, str(programs / "pg_ctl"), "-D", str(place / "data"), "-m", "immediate", "stop"]
        subprocess.run(stop, capture_output=True, cwd="/tmp")
        shutil.rmtree(place, ignore_errors=True)
