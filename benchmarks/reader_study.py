"""How many readers a study's server carries: many of them at once, each filling in a form of 18 tiles.

The server is `rnagan serve-reader-study` as users start it, a process with SQLite; readers are coroutines of this
process, on the same cores. Each reader asks for the page and its tile, and sends the answer. Three runs: with a pause
between tiles, as people make; without, for the rate; and without, while the server is killed with kill -9 and started
again. The last line printed is one JSON object.
"""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import psutil
from PIL import Image
from shared.options import benchmark
from shared.report import Report, rounded

from rnagan.apps.answers_database import AnswersDatabase, database_url
from rnagan.io.tables import read_table

SOURCES, TISSUES, EACH = ("real", "GAN", "RNA-GAN"), ("brain cortex", "lung"), 3
START_SECONDS = 300
_ANSWER = b"called=lung&quality=4&artefact=no&text="


@benchmark(
    readers=(100, 5, "Readers at once."),
    pause=(2.0, 0.02, "Seconds between two tiles of a reader."),
    tile_px=(256, 32, "Side of tiles."),
)
def main(run: SimpleNamespace) -> None:
    report = Report()
    report.end(report.attempt(measure, run.cache / "reader_study", run.readers, run.pause, run.tile_px, report))


class Asked(NamedTuple):
    """A request that was answered: what was asked for, and milliseconds."""

    what: str
    milliseconds: float


class Load:
    """What readers found: times, errors, and answers that were acknowledged."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.errors: list[str] = []
        self.acknowledged: set[str] = set()


def measure(cache: Path, readers: int, pause: float, tile_px: int, report: Report) -> dict[str, Any]:
    """Errors, lost answers, 95th percentiles in ms and tiles a second; see the module's docstring."""
    study = cache / f"study-{os.getpid()}"
    options = _options(cache / f"images-{tile_px}", study, tile_px)
    report.begin(f"{readers} readers with a pause of {pause:g} s")
    with _server(options, study, readers) as (port, paths, process):
        before = _cpu_seconds(process.pid)
        paced = asyncio.run(_play(port, paths, pause))
        cpu = _cpu_seconds(process.pid) - before
    report.begin(f"{readers} readers without a pause")
    with _server(options, study, readers) as (port, paths, process):
        began = time.perf_counter()
        fast = asyncio.run(_play(port, paths, 0))
        seconds = time.perf_counter() - began
    report.begin("killed in the middle")
    with _server(options, study, readers) as (port, paths, process):
        killed = asyncio.run(_play(port, paths, 0, kill_after=(len(paths) * 9, process)))
    with _server(options, study, 0) as (port, _, process):
        resumed = asyncio.run(_play(port, paths, 0))
    stored = {showing.id for _, showing in AnswersDatabase(database_url(study, None)).answers()}
    loads = (paced, fast, killed, resumed)
    acknowledged = set().union(*(load.acknowledged for load in loads))
    tiles = len(SOURCES) * len(TISSUES) * EACH
    errors = [error for load in (paced, fast, resumed) for error in load.errors]
    of_page_and_tile = [each.milliseconds for each in paced.asked if each.what != "answer"]
    found: dict[str, Any] = {
        "readers": readers,
        "tiles_each": tiles,
        "pause_s": pause,
        "errors": len(errors),
        "first_errors": errors[:3],
        "p95_ms": rounded(_p95(of_page_and_tile)),
        "p95_ms_by_request": {
            what: rounded(_p95([each.milliseconds for each in paced.asked if each.what == what]))
            for what in ("page", "tile", "answer")
        },
        "answers": len(paced.acknowledged),
        "server_cpu_ms_a_tile": rounded(1000 * cpu / max(len(paced.acknowledged), 1)),
        "tiles_a_second": rounded(len(fast.acknowledged) / seconds),
        "acknowledged_before_kill": len(killed.acknowledged),
        "lost_answers": len(acknowledged - stored),
        "answers_after_resuming": len(killed.acknowledged | resumed.acknowledged),
    }
    expected = readers * tiles
    if errors or len(acknowledged - stored) or len(paced.acknowledged) != expected or len(stored) < 3 * expected:
        report.fail(
            {}, {"reader_study": f"{len(errors)} errors, {len(stored)} of {3 * expected} answers: {errors[:3]}"}
        )
    return found


def _options(images: Path, study: Path, tile_px: int) -> list[str]:
    random = np.random.default_rng(0)
    words = []
    for source in SOURCES:
        for tissue in TISSUES:
            folder = images / source / tissue
            folder.mkdir(parents=True, exist_ok=True)
            for k in range(EACH):
                if not (path := folder / f"{k}.png").is_file():
                    tile = np.clip(random.normal((190, 120, 170), 30, (tile_px, tile_px, 3)), 0, 255)
                    Image.fromarray(tile.astype(np.uint8)).save(path)
        words += ["--source", f"{source}={images / source}"]
    return [*words, "--out", str(study), "--each", str(EACH), "--tile-px", str(tile_px), "--repeats", "0"]


@contextlib.contextmanager
def _server(options: list[str], study: Path, readers: int) -> Any:
    """A server with so many new readers: its port, their paths, and its process."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [sys.executable, "-m", "rnagan", "serve-reader-study", *options]
    words += ["--readers", str(readers), "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        ends = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > ends:
                process.kill()
                assert process.stderr is not None
                raise ValueError(f"the server doesn't start: {process.stderr.read().decode()[-500:]}")
            time.sleep(0.05)
        links = read_table(study / "invitations.csv")["link"].tolist()[-readers:] if readers else []
        yield port, [re.sub(r"^.*?://[^/]+", "", link) for link in links], process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _p95(milliseconds: list[float]) -> float | None:
    return float(np.percentile(milliseconds, 95)) if milliseconds else None


async def _play(
    port: int, paths: list[str], pause: float, kill_after: tuple[int, subprocess.Popen] | None = None
) -> Load:
    """All readers at once, begun within one pause; `kill_after`: answers after which a process is killed."""
    load = Load()

    async def watch() -> None:
        assert kill_after is not None
        while len(load.acknowledged) < kill_after[0]:
            await asyncio.sleep(0.002)
        kill_after[1].kill()

    watching = asyncio.create_task(watch()) if kill_after else None
    starts = np.random.default_rng(0).uniform(0, pause, len(paths))
    await asyncio.gather(*(_read(port, path, pause, start, load) for path, start in zip(paths, starts, strict=True)))
    if watching is not None:
        watching.cancel()
    return load


async def _read(port: int, path: str, pause: float, start: float, load: Load) -> None:
    """A reader, from the first tile without an answer to the last."""
    await asyncio.sleep(start)
    try:
        async with _connection(port) as connection:
            while True:
                page = await _ask(connection, load, "page", f"{path}/next")
                if page is None:
                    return  # all are answered
                picture, action = (
                    re.search(pattern, page) for pattern in (rb'class="tile" src="([^"]+)"', rb'action="([^"]+)"')
                )
                if picture is None or action is None:
                    load.errors.append("a page without a tile")
                    return
                tile = await _ask(connection, load, "tile", picture[1].decode())
                if tile is None or not tile.startswith(b"\x89PNG"):
                    load.errors.append("no PNG")
                await asyncio.sleep(pause)
                await _ask(connection, load, "answer", action[1].decode(), _ANSWER)
                load.acknowledged.add(action[1].decode().rpartition("/")[2])
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        load.errors.append(f"{type(error).__name__}: {error}")


@contextlib.asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _ask(connection: Any, load: Load, what: str, path: str, form: bytes | None = None) -> bytes | None:
    """The body of an answer; None where it leads elsewhere. `ValueError` on any other status."""
    reader, writer = connection
    head = f"{'GET' if form is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if form is not None:
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n"
    began = time.perf_counter()
    writer.write(head.encode() + b"\r\n" + (form or b""))
    headers = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", headers)
    body = await reader.readexactly(int(length[1])) if length else b""
    load.asked.append(Asked(what, 1000 * (time.perf_counter() - began)))
    status = int(headers.split(b" ", 2)[1])
    if status not in (200, 303):
        raise ValueError(f"{what} gave {status}")
    return body if status == 200 else None


if __name__ == "__main__":
    main()
