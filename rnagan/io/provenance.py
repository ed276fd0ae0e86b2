"""Is a product on disk what the same request would make today? A request is one digest, kept in the product."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar, overload

from rnagan.io.files import read_json, sha256_of_file

PACKAGE = Path(__file__).parents[1]
T = TypeVar("T")
KEY = "asked"  # under which a JSON product holds the digest of its request


def asked(*, code: bool = True, **what: Any) -> str:
    """Digest of a request: hex SHA-256 of `what`, JSON-able values by name; a `Path` stands for the file's content.

    With `code` the digest also covers rnagan's own source, so that a product goes stale when the code changes. Caches
    that cost hours pass `code=False` and name an explicit version of what decides them instead. Raises `TypeError` for
    a value that isn't JSON, and `FileNotFoundError` where there is no such file.
    """
    if code:
        what |= {"code": source_digest()}
    text = json.dumps(what, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def source_digest() -> str:
    """Hex SHA-256 over names and contents of rnagan's source files, read once a process."""
    return _digest_of_sources(PACKAGE)


@overload
def read_current(path: Path | str, digest: str) -> dict[str, Any] | None: ...
@overload
def read_current(path: Path | str, digest: str, format_: type[T]) -> T | None: ...
def read_current(path: Path | str, digest: str, format_: Any = dict[str, Any]) -> Any:
    """The JSON product at `path` where this request made it; None where it is missing, broken, of another format or
    made otherwise."""
    try:
        product = read_json(path, format_)
    except (FileNotFoundError, ValueError):
        return None
    return product if product.get(KEY) == digest else None


@functools.cache
def _digest_of_sources(package: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            found.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return {"sha256": sha256_of_file(value)}
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return value.tolist()
    raise TypeError(f"A request can't hold {value!r}: it is no JSON value.")
