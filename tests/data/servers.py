"""A web server on this machine that serves a folder by ranges, counts what it sends, and fails on request."""

import collections
import email.utils
import io
import random
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit


class Request(NamedTuple):
    method: str
    path: str
    query: str
    start: int | None  # of the range asked for; None: the whole file
    stop: int | None
    authorization: str | None


class WebServer:
    """`requests` holds what was asked. `fail("500", "reset")` spoils the next two answers to GET, `always` each one.

    Faults: a status; "reset", the connection breaks; "cut", fewer bytes than announced; "short", fewer bytes than
    asked for; "hang", silence; "slow", a flow for a second; "whole", ranges are ignored; "unsized", no length;
    "wrong", other bytes. `at_random` draws one of `faults` for a share of the answers, until it is None.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests = folder, []
        self.bytes_sent = self.most_at_once = self._at_once = 0
        self.faults: dict[str, collections.deque[str]] = {"GET": collections.deque(), "HEAD": collections.deque()}
        self.always: dict[str, str] = {}
        self.at_random: tuple[random.Random, float, list[str]] | None = None
        self.delay_seconds = 0.0
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.world = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, *faults: str, method: str = "GET") -> None:
        self.faults[method].extend(faults)

    def asked(self, method: str = "GET") -> list[tuple[int | None, int | None]]:
        """Ranges asked for, in order."""
        return [(request.start, request.stop) for request in self.requests if request.method == method]

    def close(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def note(self, request: Request) -> str | None:
        with self.lock:
            self.requests.append(request)
            queue = self.faults[request.method]
            if self.at_random is not None:
                draw, share, faults = self.at_random
                return draw.choice(faults) if draw.random() < share else None
            return queue.popleft() if queue else self.always.get(request.method)

    def count_sent(self, size: int) -> None:
        with self.lock:
            self.bytes_sent += size

    def count_at_once(self, step: int) -> None:
        with self.lock:
            self._at_once += step
            self.most_at_once = max(self.most_at_once, self._at_once)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that go away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        world = self.server.world
        world.count_at_once(1)
        try:
            time.sleep(world.delay_seconds)
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            world.count_at_once(-1)

    def _answer(self) -> None:
        world, url, asked = self.server.world, urlsplit(self.path), self.headers.get("Range")
        start = stop = None
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            start, stop = int(first), int(last) + 1
        fault = world.note(Request(self.command, url.path, url.query, start, stop, self.headers.get("Authorization")))
        file = world.folder / unquote(url.path).lstrip("/")
        if fault and fault.isdigit():
            return self._refuse(int(fault))
        if not file.is_file():
            return self._refuse(404)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return None
        if fault == "hang":
            world.stopping.wait(20)
            self.close_connection = True
            return None
        length, headers, status = file.stat().st_size, {}, 200
        first, last = 0, length
        if start is not None and fault != "whole":
            first, last, status = start, min(stop, length), 206
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{length}"
        if fault == "short":
            last = (first + last) // 2
        with file.open("rb") as handle:
            handle.seek(first)
            return self._send(status, handle, last - first, fault, headers)

    def _refuse(self, status: int) -> None:
        self._send(status, io.BytesIO(b"no"), 2, None, {})

    def _send(self, status: int, body: BinaryIO, size: int, fault: str | None, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", email.utils.formatdate(0, usegmt=True))
        if fault == "unsized":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "cut":
            size //= 2
            self.close_connection = True
        piece = -(-size // 10) if fault == "slow" else 1 << 16
        for at in range(0, size, max(1, piece)):
            data = body.read(min(piece, size - at))
            if fault == "wrong":
                data = bytes(255 - value for value in data)
            self.server.world.count_sent(len(data))
            self.wfile.write(data)
            if fault == "slow":
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        pass
