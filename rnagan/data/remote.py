"""A folder of shards at a URL: the blocks of its files that are needed are fetched once, and kept in a cache."""

import functools
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import fsspec

from rnagan.data.block_cache import BlockCache

BLOCK_BYTES = 1 << 20
FRESH = {"dataset.json", "slides.parquet"}  # they say what the rest is
_SENT_WHOLE = "is sent whole where a range was asked for; use a server that knows byte ranges."
_IN_URLS = "%/?:@!$&'()*+,;=[]"  # besides letters, digits and -._~
_AGAIN = {408, 429}  # answers of HTTP that pass, besides 5xx
_HTTP, _S3 = {"http", "https"}, {"s3", "s3a"}
_T = TypeVar("_T")


class _UnusableError(OSError):
    """A server that can't serve ranges; the message goes on after the name of the file."""


class _TruncatedError(OSError):
    """A server sends less than it was asked for."""


class RemoteFolder:
    """A folder at `https://…`, `http://…`, `s3://…` or any other address of fsspec; a `Storage`.

    `url` may hold a user and a password, or a query that every file gets (a signature); messages show neither.
    Each file is cut into blocks of `block_bytes`; those that a read touches are fetched by a request each and kept in
    `cache`, under the address and the generation. `connect_seconds` and `read_seconds`, the longest silence, hold for
    HTTP and S3. What may pass is tried `tries` times, after `backoff_seconds`, twice that, and so on.

    An address that can't be used raises `ValueError`. Reads raise `FileNotFoundError`, `PermissionError`,
    `ConnectionError` after the last try, and `OSError` for other answers; threads and processes may share the object.
    """

    is_remote = True

    def __init__(
        self,
        url: str,
        cache: BlockCache,
        *,
        block_bytes: int = BLOCK_BYTES,
        tries: int = 5,
        backoff_seconds: float = 0.25,
        connect_seconds: float = 10,
        read_seconds: float = 30,
    ) -> None:
        self._opened: tuple[Any, str] | None
        self.url, self.cache, self.block_bytes = url, cache, block_bytes
        self.tries, self.backoff_seconds = tries, backoff_seconds
        self.connect_seconds, self.read_seconds = connect_seconds, read_seconds
        if cache.max_bytes < block_bytes:
            raise ValueError(
                f"The cache may hold {cache.max_bytes:,} bytes, and one block has {block_bytes:,}; let it hold more."
            )
        _check_protocol(self.address, url)
        self.use_generation("")
        self._disconnect()

    @property
    def address(self) -> str:
        """The URL without user, password and query."""
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        if at and (":" in user or parts.scheme in _HTTP):  # abfs:// has its container there
            user = "***"
        return urlunsplit((parts.scheme, user + at + host, parts.path.rstrip("/"), "", ""))

    def use_generation(self, digest: str) -> None:
        """Say which set this is, so that blocks which the cache kept of an older one aren't taken for its own."""
        self._prefix = f"{self.address}\0{digest}\0{self.block_bytes}"
        self._sizes: dict[str, int] = {}

    def read_file(self, name: str) -> bytes:
        """A whole small file; `dataset.json` and `slides.parquet` are fetched anew each time."""
        fetch = functools.partial(self._ask, name, lambda files, path: files.cat_file(path))
        return fetch() if name in FRESH else self._kept(self._key(name, "whole"), fetch)

    def read_file_again(self, name: str) -> bytes:
        """As `read_file`, after what is kept of it was dropped."""
        self.cache.drop(self._key(name, "whole"))
        return self.read_file(name)

    def names(self) -> None:
        """A web server lists no files."""

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer where the file ends before."""
        file_size = self.size(name)
        end = min(offset + size, file_size)
        parts = []
        for block, first in self._blocks(offset, end):
            length = min(self.block_bytes, file_size - first)
            fetch = functools.partial(self._ask, name, functools.partial(_fetch_block, first, length))
            part = slice(max(0, offset - first), min(end - first, length))
            parts.append(self.cache.read(self._key(name, str(block)), fetch, part, length))
        return b"".join(parts)

    def read_again(self, name: str, offset: int, size: int) -> bytes:
        """As `read_range`, after all that is kept of that range was dropped."""
        self.cache.drop(self._key(name, "size"))
        self._sizes.pop(name, None)
        for block, _ in self._blocks(offset, offset + size):
            self.cache.drop(self._key(name, str(block)))
        return self.read_range(name, offset, size)

    def size(self, name: str) -> int:
        """Size of a file, bytes; asked once, and kept."""
        if (known := self._sizes.get(name)) is None:
            known = int(self._kept(self._key(name, "size"), lambda: self._ask(name, _fetch_size)))
            self._sizes[name] = known
        return known

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_opened", "_pid")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._disconnect()

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Number and first byte of the blocks that bytes start … stop − 1 lie in."""
        if start < stop:
            for block in range(start // self.block_bytes, (stop - 1) // self.block_bytes + 1):
                yield block, block * self.block_bytes

    def _kept(self, key: str, fetch: Callable[[], bytes]) -> bytes:
        """A small entry of the cache, in which it is kept with a sum of its own: nobody else could check it."""
        for _ in range(2):
            sealed = self.cache.read(key, lambda: _sum(data := fetch()) + data)
            if _sum(sealed[4:]) == sealed[:4]:
                return sealed[4:]
            self.cache.drop(key)
        raise OSError(f"The cache folder {self.cache.folder} doesn't return what is written there; choose another.")

    def _key(self, name: str, what: str) -> str:
        return f"{self._prefix}\0{name}\0{what}"

    def _ask(self, name: str, question: Callable[[Any, str], _T]) -> _T:
        """Ask the server about a file, up to `tries` times where another try may succeed."""
        if not name or name.startswith(".") or ".." in name or "/" in name or "\\" in name:
            raise ValueError(f"{name!r} can't name a file of {self.address}.")
        reason = ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.backoff_seconds * 2 ** (attempt - 1))
            try:
                files, folder = self._connected()
                return question(files, self._join(folder, name))
            except Exception as error:  # each protocol has its own
                reason = self._without_secrets(_reason(error))
                if (final := _final(error, f"{self.address}/{name}", reason)) is not None:
                    raise final from None  # the error of the library would show secrets
        raise ConnectionError(
            f"{self.address}/{name} could not be read in {self.tries} tries ({reason}); "
            "see whether the server can be reached from here, and start again."
        )

    def _join(self, folder: str, name: str) -> str:
        if not folder.startswith(("http://", "https://")):
            return f"{folder.rstrip('/')}/{name}"
        parts = urlsplit(folder)
        path = f"{quote(parts.path.rstrip('/'), _IN_URLS)}/{quote(name, '')}"
        return urlunsplit(parts._replace(path=path, query=quote(parts.query, _IN_URLS)))

    def _without_secrets(self, text: str) -> str:
        parts = urlsplit(self.url)
        for secret in (parts.query, parts.netloc.rpartition("@")[0], parts.password):
            text = text.replace(secret, "***") if secret else text
        return " ".join(text.split())

    def _connected(self) -> tuple[Any, str]:
        """The file system of this process, which its threads share, and its name of the folder."""
        if self._pid != os.getpid():  # a connection doesn't live through a fork
            self._disconnect()
        with self._lock:
            if self._opened is None:
                files, folder = fsspec.core.url_to_fs(self.url, skip_instance_cache=True, **self._options())
                files.retries = 1  # of S3: tries are counted here
                self._opened = files, folder
            return self._opened

    def _disconnect(self) -> None:
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._opened = None

    def _options(self) -> dict[str, Any]:
        scheme = urlsplit(self.url).scheme
        if scheme in _HTTP:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.connect_seconds, sock_read=self.read_seconds)
            headers = {"Accept-Encoding": "identity"}  # ranges of the file, not of something compressed
            return {
                "encoded": True,  # a signature is sent as it was given
                "client_kwargs": {
                    "timeout": timeout,
                    "headers": headers,
                    "trust_env": True,  # proxies
                    "raise_for_status": _refuse_whole_file,
                },
            }
        if scheme in _S3:
            limits = {"connect_timeout": self.connect_seconds, "read_timeout": self.read_seconds}
            config = {**limits, "retries": {"total_max_attempts": 1}, "max_pool_connections": 64}
            return {"config_kwargs": config, "use_listings_cache": False}
        return {}


def _check_protocol(address: str, url: str) -> None:
    protocol, _, rest = url.partition("://")
    if "::" in url:
        raise ValueError(f"{address} is a chain of addresses (::); give one plain address.")
    if not rest:
        raise ValueError(f"{address} is no URL such as https://… or s3://….")
    if protocol in ("file", "local"):
        raise ValueError(f"{address} lies on this machine; give its plain path.")
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        raise ValueError(f"{address}: nothing here reads {protocol}://; use https:// or s3://.") from None
    except ImportError as error:
        package = getattr(error.__cause__, "name", None) or protocol
        raise ValueError(f"{address} needs a package that isn't there; pip install {package.split('.')[0]}") from None


def _fetch_block(first: int, length: int, files: Any, path: str) -> bytes:
    data = files.cat_file(path, start=first, end=first + length)
    if len(data) > length:
        raise _UnusableError(_SENT_WHOLE)
    if len(data) < length:
        raise _TruncatedError(f"{len(data):,} of {length:,} bytes came")
    return data


def _fetch_size(files: Any, path: str) -> bytes:
    found = files.info(path)
    if found["type"] == "directory":
        raise FileNotFoundError(path)
    if found["size"] is None:
        raise _UnusableError("has no known length; use a server that sends Content-Length.")
    return b"%d" % found["size"]


async def _refuse_whole_file(response: Any) -> None:
    """Don't begin to read the answer of an HTTP server that ignores which range it was asked for."""
    asked = response.request_info.headers.get("Range")
    if asked is None or response.status != 200:
        return
    first, last = asked.removeprefix("bytes=").split("-")
    if response.content_length is None or response.content_length > int(last) - int(first) + 1:
        response.close()
        raise _UnusableError(_SENT_WHOLE)


def _final(error: Exception, url: str, reason: str) -> OSError | None:
    """The error to raise where another try can't help; None where it may."""
    if isinstance(error, _UnusableError):
        return OSError(f"{url} {error}")
    status, root = _status(error), _causes(error)[-1]
    if status in _AGAIN or (status or 0) >= 500:
        return None
    if status in (404, 410) or (status is None and isinstance(root, FileNotFoundError)):
        return FileNotFoundError(f"{url} does not exist.")
    if status in (401, 403) or isinstance(error, PermissionError) or "Credentials" in type(root).__name__:
        public = "; where all may read it set FSSPEC_S3_ANON=true" if url.startswith("s3") else ""
        return PermissionError(f"{url} may not be read ({reason}); see to your credentials{public}.")
    if status is not None:
        return OSError(f"{url} can't be read ({reason}); see whether the address is right.")
    return None


def _status(error: Exception) -> int | None:
    """The HTTP status behind an error of aiohttp, botocore or azure."""
    for cause in _causes(error):
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict) and "HTTPStatusCode" in answer.get("ResponseMetadata", {}):
            return int(answer["ResponseMetadata"]["HTTPStatusCode"])
        for name in ("status", "status_code"):
            if isinstance(value := getattr(cause, name, None), int) and 300 <= value < 600:
                return value
    return None


def _reason(error: Exception) -> str:
    status, root = _status(error), _causes(error)[-1]
    if isinstance(error, _TruncatedError):
        return str(error)
    if status is not None:
        return f"HTTP {status} {getattr(root, 'message', '') or root}".strip()
    return f"{type(root).__name__}: {root}".rstrip(": ")


def _causes(error: BaseException) -> list[BaseException]:
    """An error, what caused it, and so on: fsspec hides answers behind `FileNotFoundError`."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")
