"""Reads a whole tar once: what its members are and where, and the sum of its bytes. Nothing is unpacked."""

import dataclasses
import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from rnagan.data.image_codec import EXTENSIONS

_PIECE = 1 << 20
_MAX_IMAGE, _MAX_JSON = 1 << 26, 1 << 20
_END = bytes(tarfile.BLOCKSIZE)  # two by the standard; readers are content with one
_DESCRIBED = (
    "slide",
    "x",
    "y",
    "tile_px",
    "margin_px",
    "mpp",
    "profile",
    "sample",
    "units",
)  # what is kept of a KEY.json
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # the last stand for bytes that aren't UTF-8
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_BROKEN = (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError, RecursionError)


class Member(NamedTuple):
    """A file in a tar; `key` and `extension` as WebDataset splits them, at the name's first dot.

    `about`: of a JSON object, those of slide, x, y, tile_px, margin_px, mpp and profile, or sample and units, that it
    has.
    """

    key: str
    extension: str
    offset: int
    size: int
    crc32: int
    about: dict[str, Any] | None


@dataclasses.dataclass
class TarScan:
    """Members in order, the tar's sha256 and size, and what is wrong with it, a phrase each."""

    members: list[Member] = dataclasses.field(default_factory=list)
    sha256: str = ""
    bytes: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)


class _Window:
    """A file that is read once, from front to back, and summed up. tarfile may step back to the byte before `tell()`.

    Memory holds one piece of the file and one read, whose size is bounded whatever a header says.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sum = file, hashlib.sha256()
        self._data, self._start, self._at = b"", 0, 0

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        if position < self._start:
            raise ValueError("a header leads backwards")
        self._at = position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= 2 * _MAX_IMAGE:
            raise ValueError(f"a header asks for {size:,} bytes")
        while self._start + len(self._data) < self._at + size and self._read_on():
            pass
        data = self._data[self._at - self._start : self._at - self._start + size]
        self._at += len(data)
        return data

    def finish(self) -> tuple[str, int]:
        """Read the rest; sha256 and size of the file."""
        self._at = self._start + len(self._data)
        while self._read_on():
            self._at = self._start + len(self._data)
        return self._sum.hexdigest(), self._at

    def _read_on(self) -> bool:
        piece = self._file.read(_PIECE)
        self._sum.update(piece)
        passed = min(max(self._at - 1 - self._start, 0), len(self._data))
        self._data, self._start = self._data[passed:] + piece, self._start + passed
        return bool(piece)


class _Faults:
    """What is wrong with members: each fault once, with the first member that has it and how many do."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, name: str, fault: str) -> None:
        first, count = self._found.get(fault, (name, 0))
        self._found[fault] = first, count + 1

    def phrases(self) -> Iterator[str]:
        for fault, (name, count) in self._found.items():
            yield f"holds {name!r}, {fault}" + (f" (and {count - 1:,} more)" if count > 1 else "")


def scan_tar(
    path: Path,
    look: Callable[[bytes], str | None] | None = None,
    most: int | None = None,
    extensions: tuple[str, ...] = EXTENSIONS,
) -> TarScan:
    """Read a tar of any size in bounded memory.

    `look` is given the bytes of every image (or member of other `extensions`), and returns what is wrong with it or
    None. `most`: stop after so many members, without the sum and without a look at the end. Raises `OSError` where the
    disk fails.
    """
    scan, faults = TarScan(), _Faults()
    with open(path, "rb") as file:
        window = _Window(file)
        if kind := _compression(window):
            scan.problems.append(f"is compressed ({kind}), and tiles are read by offset; unpack it to a plain .tar")
            return scan
        try:
            tar = tarfile.TarFile(fileobj=window, encoding="utf-8")  # type: ignore[arg-type]
            last = -1
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # they would grow with the tar
                if info.offset <= last or info.size < 0:
                    raise ValueError("a header leads backwards")
                last = info.offset
                if member := _read_member(window, info, faults, look, extensions):
                    scan.members.append(member)
                if most and len(scan.members) >= most:
                    return scan
            scan.problems += faults.phrases()
            scan.problems += _end_problems(window, tar.offset)
        except _BROKEN as error:
            scan.problems += [*faults.phrases(), f"is truncated or no tar ({error})"]
        scan.sha256, scan.bytes = window.finish()
    return scan


def _compression(window: _Window) -> str | None:
    start = window.read(8)
    window.seek(0)
    return next((kind for magic, kind in _COMPRESSED.items() if start.startswith(magic)), None)


def _end_problems(window: _Window, end: int) -> Iterator[str]:
    """Whether the last member is followed by zeros alone: tarfile takes a damaged header for the end of the tar."""
    window.seek(end)
    last, blank = b"", True
    while piece := window.read(_PIECE):
        blank = blank and piece.count(0) == len(piece)
        last = (last + piece)[-len(_END) :]
    if last != _END:
        yield "lacks the two blocks that end a tar, and may be truncated"
    elif not blank:
        yield f"has a damaged header, or a second tar joined to it, at byte {end:,}"


def _read_member(
    window: _Window,
    info: tarfile.TarInfo,
    faults: _Faults,
    look: Callable[[bytes], str | None] | None,
    extensions: tuple[str, ...],
) -> Member | None:
    """The member, unless it is a folder, or no plain file under a plain name."""
    name = info.name.removeprefix("./")
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    extension = extension.lower()
    is_item, is_json = extension in extensions, extension == "json"
    if fault := _fault(name, stem, extension, info):
        faults.add(name, fault)
        return None
    if info.isdir():
        return None
    window.seek(info.offset_data)
    data = window.read(info.size)
    if len(data) < info.size:
        raise ValueError(f"it ends in the middle of {name!r}")
    if look and is_item and (problem := look(data)):
        faults.add(name, problem)
    key = f"{folder}/{stem}" if folder else stem
    about = _description(data) if is_json else None
    return Member(key, extension, info.offset_data, info.size, zlib.crc32(data), about)


def _fault(name: str, stem: str, extension: str, info: tarfile.TarInfo) -> str | None:
    if name.startswith("/") or ".." in name.split("/"):
        return "a name that leads out of a folder"
    if info.isdir():
        return None
    if not info.isreg() or info.issparse():
        return "which is no plain file"
    if not stem or not extension:
        return "which is no sample (KEY.jpg and KEY.json)"
    if _UNPRINTABLE.search(name):
        return "a name with control characters or not in UTF-8"
    most = _MAX_JSON if extension == "json" else _MAX_IMAGE
    return f"of more than {most >> 20} MiB, too large for a sample" if info.size > most else None


def _description(data: bytes) -> dict[str, Any] | None:
    """What is kept of a JSON object, or None. Lists and objects in the place of a value are left out."""
    try:
        about = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(about, dict):
        return None
    return {name: about[name] for name in _DESCRIBED if isinstance(about.get(name, []), str | int | float | None)}
