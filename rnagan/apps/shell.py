"""The shell of all applications: templates, static files, forms, tiles, errors in words, and the server itself."""

import base64
import contextlib
import dataclasses
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

import jinja2
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from rnagan.apps.answers_database import AnswersDatabase, Reader
from rnagan.apps.guard import LOOPBACK, MAX_BODY_BYTES, Guard, address_of
from rnagan.apps.limits import Buckets, Clock
from rnagan.io.visible import visible

MIN_TOKEN = 16  # characters of an admin token
MAX_FIELDS = 20
MAX_CONNECTIONS = 500  # at once; a browser holds up to six
RATE = 20.0  # requests a second; a page with its tile is two
_FOLDER = Path(__file__).parent
_STATIC = {"style.css": "text/css", "keys.js": "text/javascript", "explorer.js": "text/javascript"}
_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("rnagan.apps"), autoescape=True, undefined=jinja2.StrictUndefined
)
_PAGES.filters["visible"] = lambda text: visible(str(text))
_SENTENCES = {404: "There is no such page. Check the link, all of it.", 405: "This page isn't asked for like that."}


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server listens. `admin_token`: opens /admin, and is needed where others than this machine can reach it.

    Raises `ValueError` where it is needed and missing, or too short.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    admin_token: str | None = None
    allow_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.admin_token is None and not self.is_local:
            raise ValueError(
                f"--host {self.host} lets other machines in; give --admin-token (or RNAGAN_ADMIN_TOKEN), of "
                f"{MIN_TOKEN} characters or more."
            )
        if self.admin_token is not None and len(self.admin_token) < MIN_TOKEN:
            raise ValueError(f"The admin token has {len(self.admin_token)} characters; {MIN_TOKEN} are needed.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> set[str]:
        """Names under which it may be asked."""
        return {*LOOPBACK, self.host, *self.allow_hosts}

    @property
    def url(self) -> str:
        """What links begin with, without a slash at the end: the first of `allow_hosts`, where there is one."""
        name = (*self.allow_hosts, self.host)[0]
        return f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"

    def with_token(self) -> "Address":
        """The same with an admin token, a random one where none was given."""
        return self if self.admin_token else dataclasses.replace(self, admin_token=secrets.token_urlsafe(24))


class Shell:
    """An application without pages of its own, to which `quiz`, `reader_study` and `explorer` add theirs; `guarded` is
    served.

    `private`: first parts of the paths whose second part is a secret link. `rate`: requests a second of a link, or of
    an address without one; `clock` counts them. `most_bytes` and `headers`: as `Guard` takes them.
    """

    def __init__(
        self,
        address: Address,
        private: Iterable[str],
        rate: float = RATE,
        clock: Clock = time.monotonic,
        most_bytes: Callable[[str], int] = lambda _: MAX_BODY_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self._misses = Buckets(rate=1, burst=30, clock=clock)
        self._admin_token = address.admin_token
        files = {name: (_FOLDER / "static" / name).read_bytes() for name in _STATIC}

        @self.app.get("/static/{name}")
        def static(name: str) -> Response:
            if name not in files:
                raise HTTPException(404)
            return Response(files[name], media_type=_STATIC[name])

        @self.app.get("/favicon.ico")
        def icon() -> Response:
            return Response(status_code=204)  # asked for beside a file opened by itself; pages name an empty one

        self.app.add_exception_handler(404, self._error)
        self.app.add_exception_handler(405, self._error)
        self.app.add_exception_handler(HTTPException, self._error)
        self.app.add_exception_handler(500, self._error)
        self.guarded = Guard(self.app, address.hosts, private, rate, clock, most_bytes, headers)

    async def _error(self, request: Request, error: Exception) -> Response:
        """One sentence. Who asks for pages that aren't there too often is asked to wait: links can't be guessed."""
        status = getattr(error, "status_code", 500)
        if status in (401, 404) and not self._misses.take(address_of(request.scope)):
            status = 429
        headers = getattr(error, "headers", None) if status == 401 else None
        detail = getattr(error, "detail", "")
        said = _SENTENCES.get(status) or {
            429: "Too many requests; wait a minute.",
            401: "The admin token is needed.",
            500: "Something went wrong on the server; what was saved before is kept.",
        }.get(status, str(detail))
        return page("message.html", status=status, headers=headers, title="Not here", said=said)

    def check_admin(self, request: Request) -> None:
        """Raise 401 unless the admin token came as the password of HTTP's own form; 429 after too many tries."""
        if self._misses.is_empty(address_of(request.scope)):
            raise HTTPException(429)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            password = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            password = ""
        right = self._admin_token is not None and scheme.lower() == "basic"
        if not right or not secrets.compare_digest(password.encode(), (self._admin_token or "").encode()):
            raise HTTPException(401, headers={"WWW-Authenticate": 'Basic realm="admin", charset="UTF-8"'})


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> HTMLResponse:
    """A page of templates/, every value escaped."""
    return HTMLResponse(_PAGES.get_template(template).render(**values), status, headers)


def reader_of_link(database: AnswersDatabase, token: str) -> Reader:
    """Whose secret link it is; 404 where nobody's."""
    reader = database.reader(token)
    if reader is None:
        raise HTTPException(404)
    return reader


def png(data: bytes) -> Response:
    """A tile; all answers of this kind have the same headers and length."""
    return Response(data, media_type="image/png")


def see(path: str) -> RedirectResponse:
    """Go there with GET."""
    return RedirectResponse(path, 303)


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form is needed.")
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise HTTPException(400, "The form can't be read.") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise HTTPException(400, "A field of the form comes twice.")
    return dict(pairs)


Form = Annotated[dict[str, str], Depends(_form)]  # the fields of a form, as text; bounded by Guard


def serve(shell: Shell, address: Address) -> None:
    """Answer until the process is stopped. Requests aren't logged: links are secrets."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address.host, address.port))
        except (OSError, OverflowError):
            raise ValueError(f"{address.host}:{address.port} can't be listened on; is the port in use?") from None
        server_of(shell).run([listening])


def server_of(shell: Shell) -> uvicorn.Server:
    """What answers; who comes when MAX_CONNECTIONS are open gets 503."""
    config = uvicorn.Config(
        shell.guarded,
        access_log=False,
        lifespan="off",  # its task would die with a traceback when a signal ends the server
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=32_768,
        timeout_keep_alive=30,
        limit_concurrency=MAX_CONNECTIONS,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Signals are answered as those of every command (rnagan/runtime/ends.py)."""

    def install_signal_handlers(self) -> None:
        """Of earlier versions of uvicorn."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()
