"""Where a folder of shards lies, here or elsewhere, as ranges of bytes of its files."""

import functools
import os
import resource
from pathlib import Path
from typing import BinaryIO, Protocol

DEFAULT_CACHE_GB = "50"
OPEN_FILES = 4096  # kept open at most; above any window of the order


class Storage(Protocol):
    """A folder of shards. All methods may be called from several threads, and raise `OSError`."""

    is_remote: bool  # read over a network, through a cache

    @property
    def address(self) -> str:
        """What a message calls it: a path, or a URL without secrets."""

    def read_file(self, name: str) -> bytes:
        """A whole small file."""

    def read_file_again(self, name: str) -> bytes:
        """As `read_file`, after bytes that were not what their sum says: nothing kept of that file is used."""

    def names(self) -> list[str] | None:
        """Names of all files; None where they can't be listed."""

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer where the file ends before."""

    def read_again(self, name: str, offset: int, size: int) -> bytes:
        """As `read_range`, after bytes that were not what their sum says: nothing kept of that range is used."""

    def size(self, name: str) -> int:
        """Size of a file, bytes."""

    def use_generation(self, digest: str) -> None:
        """Say which set this is: what was kept of a set with another digest is not used."""


class LocalFolder:
    """A folder of this machine's file system."""

    is_remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = functools.lru_cache(maxsize=_allow_open_files())(self._open_file)

    @property
    def address(self) -> str:
        return str(self.folder)

    def read_file(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def read_file_again(self, name: str) -> bytes:
        return self.read_file(name)

    def names(self) -> list[str]:
        return os.listdir(self.folder)

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        # Held until it is read: another thread may open it too, and only that one be kept.
        file = self._open(name)
        return os.pread(file.fileno(), size, offset)

    def read_again(self, name: str, offset: int, size: int) -> bytes:
        return self.read_range(name, offset, size)

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def use_generation(self, digest: str) -> None:
        """A local folder keeps nothing."""

    def __reduce__(self) -> tuple:
        return LocalFolder, (self.folder,)  # worker processes open their own files

    def _open_file(self, name: str) -> BinaryIO:
        return open(self.folder / name, "rb")  # closed when the last that reads from it lets go


def open_storage(address: Path | str) -> Storage:
    """The storage at a path, or at a URL that fsspec opens, such as https://… or s3://…

    What is fetched is kept in `$RNAGAN_CACHE` (by default ~/.cache/rnagan/shards), at most `$RNAGAN_CACHE_GB` (50).
    """
    if "://" not in str(address):
        return LocalFolder(Path(address))
    from rnagan.data.block_cache import BlockCache
    from rnagan.data.remote import RemoteFolder  # fsspec, which a local folder doesn't need

    folder = os.environ.get("RNAGAN_CACHE") or Path.home() / ".cache" / "rnagan" / "shards"
    return RemoteFolder(str(address), BlockCache(folder, _cache_bytes()))


def _cache_bytes() -> int:
    given = os.environ.get("RNAGAN_CACHE_GB", DEFAULT_CACHE_GB)
    try:
        size = int(float(given) * 1e9)
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise ValueError(f"RNAGAN_CACHE_GB must be a size in GB, not {given!r}.")
    return size


def _allow_open_files() -> int:
    """Ask for `OPEN_FILES` handles, and return how many shards may be kept open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES + 512 if hard == resource.RLIM_INFINITY else min(OPEN_FILES + 512, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return OPEN_FILES if soft == resource.RLIM_INFINITY else max(16, min(OPEN_FILES, soft - 512))
