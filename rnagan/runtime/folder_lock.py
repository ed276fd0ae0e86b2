"""A folder is written by one run at a time: each says in the folder which process it is, and refuses a second one.

Claims are files, `.lock-HOST-PID-…`, so they hold across hosts that share a disk, and builds of the same settings may
hold a folder together. A claim is void when its process has ended. That can be looked up on the same host. Of a process
elsewhere its claim tells: a living owner touches it every half minute, and after ten minutes of silence it is void; a
job that SLURM has put back into its queue takes over its own claim at once.
"""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil

from rnagan.io.files import read_json, write_json

PREFIX = ".lock-"  # of the names of claims
BEAT_SECONDS, SILENT_SECONDS = 30, 600
GUARD_SECONDS = 10  # for which others may be looking at the claims


class FolderInUse(ValueError):  # noqa: N818
    """Another run writes into the folder; one sentence that says which, and what to do."""


@dataclasses.dataclass(frozen=True)
class _Claim:
    """Who holds a folder, and for what. `place`: where `pid` means something (host, boot and container); `since`: when
    the process began, in that place's own count, so that a pid which was given again isn't taken for it."""

    doing: str
    settings: str
    host: str
    place: str
    pid: int
    since: str
    began: float  # seconds since 1970
    job: str  # of SLURM, or empty,
    restarts: int  # and how often it went back to the queue

    @classmethod
    def read(cls, path: Path) -> Self:
        """The claim in a file; of one that isn't whole nothing is known."""
        try:
            said = read_json(path)
            return cls(**{field.name: said[field.name] for field in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError, OSError):
            return cls("another program", "", "?", "?", -1, "?", 0.0, "", 0)


class FolderLock:
    """This process's claim to a folder, until `release`.

    `doing`: the command, for messages. Processes that give equal `settings`, not empty, hold the folder together. This
    process may hold it several times over. A folder that can't be written to isn't claimed: nobody writes there.
    Raises `FolderInUse`.
    """

    def __init__(self, folder: Path | str, doing: str, settings: str = "") -> None:
        self.folder = Path(folder)
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError(f"{folder}, or a part of its path, is a file; choose another --out.") from None
        host = socket.gethostname()
        name = f"{PREFIX}{re.sub(r'[^A-Za-z0-9.]', '_', host)}-{os.getpid()}-{secrets.token_hex(4)}"
        self._path: Path | None = self.folder / name
        self._ended = threading.Event()
        pid, restarts = os.getpid(), os.environ.get("SLURM_RESTART_COUNT", "")
        own = _Claim(
            doing=doing,
            settings=settings,
            host=host,
            place=_place(),
            pid=pid,
            since=_since(pid) or "?",
            began=time.time(),
            job=os.environ.get("SLURM_JOB_ID", ""),
            restarts=int(restarts) if restarts.isdigit() else 0,
        )
        try:
            self._claim(own)
        except FolderInUse:
            self.release()
            raise
        except PermissionError:
            self._path = None
        except OSError as error:
            self.release()
            if error.errno != errno.EROFS:
                raise

    def _claim(self, own: _Claim) -> None:
        assert self._path is not None
        with _one_at_a_time(self.folder):
            write_json(self._path, dataclasses.asdict(own))
            for path in sorted(self.folder.glob(PREFIX + "*")):
                other = _Claim.read(path)
                shared = own.settings and other.settings == own.settings
                if path == self._path or (other.pid, other.place, other.since) == (own.pid, own.place, own.since):
                    continue
                if _is_void(other, path, own, self._path):
                    path.unlink(missing_ok=True)
                elif not shared:
                    raise FolderInUse(_sentence(self.folder, other, path, own))
        threading.Thread(target=self._beat, name="folder lock", daemon=True).start()

    def _beat(self) -> None:
        """Touch the claim until it is given back, or gone."""
        while not self._ended.wait(BEAT_SECONDS):
            path = self._path
            try:
                if path is not None:
                    os.utime(path)
            except FileNotFoundError:
                return
            except OSError:  # a disk that is away for a moment
                continue

    def release(self) -> None:
        """Give the folder back. Called again, it does nothing."""
        self._ended.set()
        path, self._path = self._path, None
        with contextlib.suppress(OSError):
            if path is not None:
                path.unlink(missing_ok=True)
            for made in self._made:  # where nothing came to be in them
                made.rmdir()


@contextlib.contextmanager
def locked(folder: Path | str, doing: str, settings: str = "") -> Iterator[None]:
    """A block in which `folder` is held, as `FolderLock` has it."""
    lock = FolderLock(folder, doing, settings)
    try:
        yield
    finally:
        lock.release()


def is_claim(path: Path) -> bool:
    """Whether a file in a folder is a claim to it."""
    return path.name.startswith(PREFIX)


def _is_void(claim: _Claim, path: Path, own: _Claim, own_path: Path) -> bool:
    """Whether the owner of a claim is known, or must be taken, to be no more."""
    if claim.place == own.place:
        return _since(claim.pid) != claim.since
    if claim.job and claim.job == own.job and claim.restarts < own.restarts:
        return True
    try:  # both times are those of the disk's own clock
        return own_path.stat().st_mtime - path.stat().st_mtime > SILENT_SECONDS
    except FileNotFoundError:
        return True


def _sentence(folder: Path, claim: _Claim, path: Path, own: _Claim) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(claim.began)) if claim.began else "an unknown time"
    other = " with other settings" if own.settings and claim.doing == own.doing else ""
    sentence = (
        f"{folder} is in use: {claim.doing}{other} writes there since {began} (host {claim.host}, process "
        f"{claim.pid}). Wait until it has ended, end it, or choose another --out"
    )
    if claim.place != own.place:
        minutes = SILENT_SECONDS // 60
        sentence += f"; if it is no more, start again after {minutes} minutes, or delete {path} now"
    return sentence + "."


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """A block that one process at a time is in, so that of two that start together one gets the folder.

    Where the disk can't do that (NFS locks no folders), two may refuse each other, and neither is ever let in beside
    the other: each writes its claim before it looks at those of others.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(GUARD_SECONDS * 20):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
    finally:
        os.close(handle)


@functools.cache
def _place() -> str:
    """Where this process's pid means something: this host, since it was started, in this container."""
    parts: list[str] = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _since(pid: int) -> str | None:
    """When a process began, None where there is none; on Linux in ticks since the start, which no clock moves."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None
