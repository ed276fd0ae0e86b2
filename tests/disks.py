"""Disks for tests: one that is soon full, and a folder that can't be written, also not by root."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _mount(*words: object) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """An empty disk of a size such as `2m` at `folder`."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield folder
    finally:
        _unmount(folder)


def enlarge(folder: Path, size: str) -> None:
    """Make room on a `small_disk`."""
    _mount("-o", f"remount,size={size}", folder)


@contextlib.contextmanager
def read_only(folder: Path, shown_at: Path) -> Iterator[Path]:
    """The files of `folder` on a disk that can't be written, at `shown_at`."""
    shown_at.mkdir()
    _mount("--bind", folder, shown_at)
    try:
        _mount("-o", "remount,bind,ro", shown_at)
        yield shown_at
    finally:
        _unmount(shown_at)
