"""Encoded tiles that wait for their turn in a tar, in bounded memory."""

import tempfile
from pathlib import Path
from typing import IO, Self


class Pile:
    """Byte strings by number: the first in memory, beyond `memory_bytes` in an unnamed file in `folder`."""

    def __init__(self, folder: Path, memory_bytes: int = 256 * 2**20) -> None:
        self._folder, self._room = folder, memory_bytes
        self._kept: dict[int, bytes] = {}
        self._filed: dict[int, tuple[int, int]] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()  # it has no name: closing it, or dying, deletes it

    def __len__(self) -> int:
        return len(self._kept) + len(self._filed)

    def __contains__(self, number: int) -> bool:
        return number in self._kept or number in self._filed

    def put(self, number: int, data: bytes) -> None:
        if len(data) <= self._room:
            self._room -= len(data)
            self._kept[number] = data
            return
        self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (closed by __exit__)
        self._file.seek(0, 2)
        self._filed[number] = self._file.tell(), len(data)
        self._file.write(data)

    def get(self, number: int) -> bytes:
        if number in self._kept:
            return self._kept[number]
        offset, size = self._filed[number]
        assert self._file is not None
        self._file.seek(offset)
        return self._file.read(size)
