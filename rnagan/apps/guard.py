"""What stands before every page: known host names, own forms, small bodies, limits, and the headers of each answer."""

from collections.abc import Callable, Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rnagan.apps.limits import Buckets, Clock

MAX_BODY_BYTES = 16_384
MAX_PATH = 512
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_METHODS = ("GET", "HEAD", "POST")


class Guard:
    """ASGI middleware. `hosts`: names under which the server may be asked (another one is a page of a stranger that
    points at this machine). `private`: first parts of paths whose second part is a secret, with a bucket of their own;
    all else shares one an address. `most_bytes`: how large the body of a request to a path may be. `headers`: in place
    of those of HEADERS."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str],
        private: Iterable[str],
        rate: float,
        clock: Clock,
        most_bytes: Callable[[str], int] = lambda _: MAX_BODY_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._app, self._hosts, self._private = app, {host.lower() for host in hosts}, set(private)
        self._most_bytes, self._headers = most_bytes, HEADERS | dict(headers or {})
        self._of_links, self._of_addresses = (Buckets(rate, clock=clock) for _ in range(2))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        answered = _with_headers(send, self._headers)
        most = self._most_bytes(scope["path"])
        refusal = self._refusal(scope, most)
        if refusal is not None:
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, answered)
            return
        try:
            body = await _read(receive, most)
        except _CutOff:
            return
        if body is None:
            sentence = f"A request may have {most:,} bytes."
            await PlainTextResponse(sentence, 413)(scope, receive, answered)
            return
        await self._app(scope, _replayed(body, receive), answered)

    def _refusal(self, scope: Scope, most: int) -> tuple[int, str] | None:
        """Status and sentence, where a request is refused before it is read."""
        headers = Headers(scope=scope)
        if scope["method"] not in _METHODS:
            return 405, "Only GET and POST are answered."
        if len(scope["path"]) > MAX_PATH or len(scope["query_string"]) > MAX_PATH:
            return 414, "The address is too long."
        if _name_of(headers.get("host", "")) not in self._hosts:
            return 400, "This host name isn't served; the server's --allow-host names others."
        if not headers.get("content-length", "0").isdigit():
            return 400, "The length of the request is no number."
        if int(headers.get("content-length", "0")) > most:
            return 413, f"A request may have {most:,} bytes."
        if scope["method"] == "POST" and not _is_own(headers):
            return 403, "The form is of another site."
        if not self._within(scope):
            return 429, "Too many requests; wait a few seconds."
        return None

    def _within(self, scope: Scope) -> bool:
        first, _, rest = scope["path"].lstrip("/").partition("/")
        if first in self._private and rest:
            return self._of_links.take(rest.partition("/")[0])
        return self._of_addresses.take(address_of(scope))


def address_of(scope: Scope) -> str:
    """The address that asks."""
    return scope["client"][0] if scope.get("client") else "unknown"


def _name_of(host: str) -> str:
    """A host without its port, in small letters."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_own(headers: Headers) -> bool:
    """Whether a form was on one of our own pages. Programs that send neither header have no one's cookies either."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()


def _with_headers(send: Send, added: Mapping[str, str]) -> Send:
    async def answered(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in added.items():
                headers[name] = value
        await send(message)

    return answered


class _CutOff(Exception):  # noqa: N818
    """The visitor left before the whole request was here."""


async def _read(receive: Receive, most: int) -> bytes | None:
    """The body of a request; None where it is longer than `most` bytes, whatever its length was said to be. Raises
    `_CutOff` where it ends early: a form of which the end is missing is no answer."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _CutOff
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            return None
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, and then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
