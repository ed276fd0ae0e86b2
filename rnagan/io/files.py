"""Files that appear whole or not at all, and digests of what they hold."""

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

_OWNER = re.compile(r"\.tmp-(?P<host>.+)-(?P<pid>\d+)-[^-]*")
_UNTOUCHED_SECONDS = 24 * 3600  # after which a temporary name of another host counts as left behind


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is renamed to `path` if the block succeeds.

    Works for a file or a folder that the block creates. An existing folder at `path` is replaced.
    A process that dies inside the block leaves at most a name starting with `.tmp-` behind, and the first write of
    another process into that folder deletes it. An `OSError` that names no file gets the name of this one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers_once(str(path.parent), os.getpid())
    scratch = Path(tempfile.mkdtemp(prefix=scratch_prefix(), dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        assert temporary.exists(), f"nothing was written for {path}"  # before the old one is moved away
        if path.is_dir():
            os.replace(path, scratch / "replaced")
        os.replace(temporary, path)
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def name_file(error: OSError, path: Path) -> None:
    """Say in an error of the system that names no file which one was written."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def scratch_prefix() -> str:
    """How this process's temporary names start: `.tmp-HOST-PID-`."""
    return f".tmp-{socket.gethostname()}-{os.getpid()}-"


def remove_leftovers(folder: Path) -> None:
    """Delete temporary names in `folder` that killed processes left.

    These are names of processes of this host that have ended; and those of other hosts, of which nobody here knows,
    where nothing has changed for a day.
    """
    for left in folder.glob(".tmp-*"):
        with contextlib.suppress(OSError):  # another process may be deleting it
            owner = _OWNER.fullmatch(left.name)
            if owner is None:  # of another program
                continue
            changed = max(path.lstat().st_mtime for path in (left, *left.rglob("*")))
            here = owner["host"] == socket.gethostname()
            if _has_ended(int(owner["pid"])) if here else time.time() - changed > _UNTOUCHED_SECONDS:
                shutil.rmtree(left)


@functools.cache
def _remove_leftovers_once(folder: str, _process: int) -> None:
    """A listing for each write would take long in a folder of many shards."""
    remove_leftovers(Path(folder))


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file by rename."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON by rename. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a broken one raises `ValueError` with its name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); delete it and run the step that makes it again."
        ) from None


def sha256_of_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping; anything else raises with the file's name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The config file {path} does not exist.")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML ({error}).".replace("\n", " ")) from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold `name: value` lines.")
    return value
