"""A folder of bounded size that keeps what was fetched from elsewhere, shared by threads and processes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rnagan.io.files import scratch_prefix

TOUCH_SECONDS = 60  # how much older than its last use an entry may look
_PAGE = 4096  # bytes; what a file takes on a disk is a multiple of it
_ROOM = 0.1  # of the bound, made at once when it is reached: a scan of the folder for many entries


class BlockCache:
    """Keeps entries, bytes under a key, in `folder`: at most `max_bytes` of them, of which the oldest used go first.

    Any number of processes and threads of hosts whose file system locks files (`flock`) may share the folder. One
    fetches an entry while others that want it wait. A process may be killed at any moment: entries appear by rename,
    and the kernel releases what it locked. The bound counts whole pages of 4 KiB and holds at every moment, but for
    entries that are being read while they are evicted, and for up to 4,096 empty files that serve as locks.
    A folder that can't be used raises `ValueError`; one that fails later raises `OSError`.
    """

    def __init__(self, folder: Path | str, max_bytes: int) -> None:
        if max_bytes < _PAGE:
            raise ValueError(f"A cache of {max_bytes:,} bytes holds nothing; give it {_PAGE:,} bytes or more.")
        self.folder, self.max_bytes = Path(folder), max_bytes
        try:
            with self._usage() as usage:
                self._remove_leftovers()
                used = self._count(usage)
                _write(usage, used if used <= max_bytes else self._evict(max_bytes))
        except OSError as error:
            raise ValueError(
                f"The cache folder {self.folder} can't be used ({error.strerror}); choose another."
            ) from None

    def read(self, key: str, fetch: Callable[[], bytes], part: slice = slice(None), length: int | None = None) -> bytes:
        """The `part` of the entry `key`, which `fetch` makes where it isn't there or isn't of `length` bytes.

        `fetch` must not use this cache: another entry may be behind the same lock.
        """
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self._path(name)
        if (found := _read(path, part, length)) is not None:
            return found
        with self._locked(f"locks/{name[:3]}"):
            if (found := _read(path, part, length)) is not None:
                return found
            data = fetch()
            try:
                self._keep(path, data)
            except OSError as error:
                raise OSError(
                    f"The cache folder {self.folder} can't be written ({error.strerror}); "
                    "make room there or choose another."
                ) from None
        return data[part]

    def drop(self, key: str) -> None:
        """Forget an entry, if it is there."""
        path = self._path(hashlib.sha256(key.encode()).hexdigest())
        with self._usage() as usage, contextlib.suppress(FileNotFoundError):
            used = self._count(usage) - _pages(path.stat().st_size)
            path.unlink()
            _write(usage, used)

    def _path(self, name: str) -> Path:
        return self.folder / "blocks" / name[:2] / name

    def _keep(self, path: Path, data: bytes) -> None:
        """Under the lock of `usage` from count to rename. What is counted is never less than what is there.

        A process that is killed in between leaves too high a count, which the next scan of the folder corrects.
        """
        needed = _pages(len(data))
        if needed > self.max_bytes:
            return
        with self._usage() as usage:
            used = self._count(usage)
            if used + needed > self.max_bytes:
                used = self._evict(max(0, int((1 - _ROOM) * self.max_bytes) - needed))
            _write(usage, used + needed)
            temporary = self._incoming / f"{scratch_prefix()}block"
            try:
                temporary.parent.mkdir(exist_ok=True)
                temporary.write_bytes(data)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    def _evict(self, goal: int) -> int:
        """Scan the folder, delete the oldest used entries until at most `goal` bytes are left, and return how many."""
        self._remove_leftovers()
        entries = []
        for path in self.folder.glob("blocks/*/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime_ns, _pages(status.st_size), path))
        used = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if used <= goal:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used

    def _remove_leftovers(self) -> None:
        """Only the holder of the lock of `usage` writes there, so whatever is found was left by a killed process."""
        for left in self._incoming.glob(".tmp-*"):
            left.unlink(missing_ok=True)

    @property
    def _incoming(self) -> Path:
        return self.folder / "incoming"

    def _count(self, usage: int) -> int:
        """Bytes in use as `usage` says, or as a scan of the folder finds."""
        try:
            return int(os.pread(usage, 32, 0))
        except ValueError:
            return self._evict(self.max_bytes)

    def _usage(self) -> contextlib.AbstractContextManager[int]:
        return self._locked("usage")

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        """Hold the lock of a file, which other threads' and processes' calls wait for, and yield its handle."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield handle
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)  # closing isn't enough where a fork has copied the handle
        finally:
            os.close(handle)


def _read(path: Path, part: slice, length: int | None) -> bytes | None:
    """A part of a file, None where there is none of that length; it counts as used now."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            status = os.fstat(handle)
            if length is not None and status.st_size != length:
                return None
            if time.time() - status.st_mtime > TOUCH_SECONDS:
                os.utime(handle)
            start, stop, _ = part.indices(status.st_size)
            return os.pread(handle, stop - start, start)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):  # evicted, the latter by another host
            return None
        raise


def _write(usage: int, used: int) -> None:
    os.pwrite(usage, b"%020d" % max(0, used), 0)


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
