"""Reads a whole tar once: what its members are and where, and the sum of its bytes. Nothing is unpacked."""

import dataclasses
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from rnagan.data.images import EXTENSIONS

_PIECE = 1 << 20
_BUFFER = 1 << 16  # tarfile moves what is left of it at every read
_END = bytes(2 * tarfile.BLOCKSIZE)
_MAX_IMAGE, _MAX_JSON = 1 << 28, 1 << 20


class Member(NamedTuple):
    """A file in a tar; `key` and `extension` as WebDataset splits them, at the name's first dot. `json`: its bytes."""

    key: str
    extension: str
    offset: int
    size: int
    crc32: int
    json: bytes | None


@dataclasses.dataclass
class TarScan:
    """Members in order, the tar's sha256 and size, and what is wrong with it, a phrase each."""

    members: list[Member] = dataclasses.field(default_factory=list)
    sha256: str = ""
    bytes: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)


class _Hashed:
    """A file that sums up what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sum, self.bytes = file, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._sum.update(data)
        self.bytes += len(data)
        return data

    def hexdigest(self) -> str:
        while self.read(_PIECE):
            pass
        return self._sum.hexdigest()


def scan_tar(path: Path, look: Callable[[bytes], str | None] | None = None) -> TarScan:
    """Read a tar of any size in bounded memory.

    `look` is given the bytes of every image, and returns what is wrong with it or None.
    """
    scan = TarScan()
    with open(path, "rb") as file:
        hashed = _Hashed(file)
        try:
            with tarfile.open(fileobj=hashed, mode="r|", bufsize=_BUFFER) as tar:  # type: ignore[call-overload]
                for info in tar:
                    scan.members.extend(_read_member(tar, info, scan, look))
        except (tarfile.TarError, EOFError, UnicodeDecodeError, OverflowError, ValueError) as error:
            scan.problems.append(f"is truncated or no tar ({error})")
        scan.sha256 = hashed.hexdigest()
        scan.bytes = hashed.bytes
        file.seek(-min(scan.bytes, len(_END)), os.SEEK_END)
        if not scan.problems and file.read() != _END:
            scan.problems.append("lacks the two blocks that end a tar, and may be truncated")
    return scan


def _read_member(
    tar: tarfile.TarFile, info: tarfile.TarInfo, scan: TarScan, look: Callable[[bytes], str | None] | None
) -> Iterator[Member]:
    """The member, unless it isn't a plain file under a plain name."""
    if info.isdir():
        return
    name = info.name.removeprefix("./")
    if not info.isreg() or info.issparse():
        scan.problems.append(f"holds {name!r}, which is no plain file")
        return
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        scan.problems.append(f"holds {name!r}, a name that leads out of a folder")
        return
    folder, _, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot:
        scan.problems.append(f"holds {name!r}, which is no sample (KEY.jpg and KEY.json)")
        return
    extension = extension.lower()
    is_image, is_json = extension in EXTENSIONS, extension == "json"
    if info.size > (_MAX_JSON if is_json else _MAX_IMAGE):
        scan.problems.append(f"holds {name!r} of {info.size:,} bytes, too large for a sample")
        return
    stream = tar.extractfile(info)
    assert stream is not None
    data = stream.read()
    if len(data) < info.size:
        scan.problems.append(f"is truncated in the middle of {name!r}")
        return
    if look and is_image and (problem := look(data)):
        scan.problems.append(f"holds {name!r}, {problem}")
    key = f"{folder}/{stem}" if folder else stem
    yield Member(key, extension, info.offset_data, info.size, zlib.crc32(data), data if is_json else None)
