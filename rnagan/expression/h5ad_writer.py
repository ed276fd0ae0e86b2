"""New HDF5 files whose disk may fill up: an `OSError` comes out, and the process lives."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import anndata
import anndata.io
import h5py

from rnagan.io.files import atomic_path


class NewHDF5(h5py.File):
    """A new, empty HDF5 file; use it in a `with` block, which raises `OSError` where the disk took less than all."""

    def __init__(self, path: Path) -> None:
        self._disk = _Disk(path)
        super().__init__(path, "w", driver="fileobj", fileobj=self._disk)

    def check(self) -> None:
        """Raise the `OSError` of the disk, if there was one."""
        if self._disk.error is not None:
            raise self._disk.error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._disk.close()
        if (error is None or isinstance(error, Exception)) and self._disk.error is not None:
            raise self._disk.error from None


class _Disk:
    """What HDF5 reads and writes instead of a file of its own.

    HDF5 can't close a file that it couldn't write, and ends the whole process then. So it sees no error: after the
    first one, in `error`, what it writes stays in memory. That is little: whoever writes much calls `NewHDF5.check`.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._path, self._at = path, 0
        self._late: list[tuple[int, bytes]] = []  # place and bytes, in the order in which they were written
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end()}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; what was never written is zero, as in a file with holes."""
        into = memoryview(buffer).cast("B")
        got = os.preadv(self._file, [into], self._at)
        into[got:] = bytes(len(into) - got)
        for place, data in self._late:
            start, end = max(place, self._at), min(place + len(data), self._at + len(into))
            if start < end:
                into[start - self._at : end - self._at] = data[start - place : end - place]
        self._at += len(into)
        return len(into)

    def write(self, data: Any) -> int:
        left, place = memoryview(data).cast("B"), self._at
        self._at += len(left)
        count = len(left)
        try:
            while len(left) and self.error is None:
                written = os.pwrite(self._file, left, place)
                left, place = left[written:], place + written
        except OSError as error:
            self._note(error)
        if len(left):
            self._late.append((place, bytes(left)))
        return count

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._file, size)
        except OSError as error:
            self._note(error)
        return size

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Close the file; an `OSError` of the disk that comes this late is noted too."""
        try:
            os.close(self._file)
        except OSError as error:
            self._note(error)

    def _end(self) -> int:
        return max([os.fstat(self._file).st_size, *(place + len(data) for place, data in self._late)])

    def _note(self, error: OSError) -> None:
        self.error = self.error or OSError(error.errno, error.strerror, str(self._path))


def write_anndata(path: Path | str, data: anndata.AnnData) -> None:
    """Write an .h5ad by rename, as `AnnData.write_h5ad` lays it out; raises `OSError` where the disk is full."""
    data.strings_to_categoricals()
    with atomic_path(path) as temporary, NewHDF5(temporary) as file:
        anndata.io.write_elem(file, "/", data)
