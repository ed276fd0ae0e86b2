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
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

import psutil
import yaml

from rnagan.io.bounds import MAX_DIGITS, MAX_JSON_BYTES, MAX_YAML_BYTES
from rnagan.io.json_values import json_of

T = TypeVar("T")

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
            if has_ended(int(owner["pid"])) if here else time.time() - changed > _UNTOUCHED_SECONDS:
                shutil.rmtree(left)


@functools.cache
def _remove_leftovers_once(folder: str, _process: int) -> None:
    """A listing for each write would take long in a folder of many shards."""
    remove_leftovers(Path(folder))


def has_ended(pid: int) -> bool:
    """Whether there is no such process on this host, or none that still runs."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def check_holds_only(folder: Path, files: Collection[str], folders: Collection[str] = ()) -> None:
    """Refuse a folder that is given away where it holds anything but plain files, and folders, of these names: a link
    would show its reader, or whoever gets a copy, another file of this machine."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            is_known = entry.is_file(follow_symlinks=False) and entry.name in files
            if not is_known and not (entry.is_dir(follow_symlinks=False) and entry.name in folders):
                what = "a link" if entry.is_symlink() else "no part of it"
                raise ValueError(
                    f"{folder} holds {entry.name!r}, which is {what}; take it out, or copy the folder again from where "
                    "it was made."
                )


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file by rename."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON by rename. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


@overload
def read_json(path: Path | str) -> Any: ...
@overload
def read_json(path: Path | str, format_: type[T], *, nan: bool = False) -> T: ...
def read_json(path: Path | str, format_: Any = Any, *, nan: bool = False) -> Any:
    """Read a JSON file of a format (`json_values`), by default of any; `nan` as `parse_json` takes it.

    One that is broken, or of another format, raises `ValueError` with its name and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    return json_of(_read_within(path, MAX_JSON_BYTES), format_, path, nan=nan)


def _read_within(path: Path, most: int) -> bytes:
    """The bytes of a file, of which only one more than `most` are read: it is then too large."""
    with open(path, "rb") as handle:
        return handle.read(most + 1)


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
    """Read a YAML mapping of names without aliases; anything else raises with the file's name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The config file {path} does not exist.")
    data = _read_within(path, MAX_YAML_BYTES)
    if len(data) > MAX_YAML_BYTES:
        raise ValueError(f"{path} is larger than the {MAX_YAML_BYTES:,} bytes that a config file may have.")
    try:
        value = _PlainLoader(data.decode("utf-8")).get_single_data()
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply for a config file.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not valid YAML ({error}).".replace("\n", " ")) from None
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{path} must hold `name: value` lines.")
    return value


class _PlainLoader(yaml.SafeLoader):
    """YAML's plain values: no alias, which makes a small file large, and no name twice, of which one would win."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.composer.ComposerError(None, None, f"the alias *{event.anchor}: write it out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise yaml.constructor.ConstructorError(None, None, "a number of too many digits", node.start_mark)
        return self.construct_yaml_int(node)


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_whole)
