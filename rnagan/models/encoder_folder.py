"""The folder of an encoder of profiles: what its model.json vouches for, and how it is handed on."""

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch

import rnagan
from rnagan.io.files import check_holds_only, read_json, sha256_of_file, write_json
from rnagan.io.json_values import check_json

_RECORD = "model.json"
_MOST_FILES = 16  # whose digests are remembered


class EncoderKind(NamedTuple):
    """What an encoder is called in its model.json and to people, the command that makes it, and its files."""

    name: str
    called: str
    made_by: str
    files: tuple[str, ...]


class EncoderRecord(TypedDict):
    """The model.json of an encoder. `files`: hex SHA-256 of each other file. `train_donors`: as `donor_digest`s."""

    kind: str
    tissues: list[str]
    files: dict[str, str]
    train_donors: NotRequired[list[str]]
    metrics: NotRequired[dict[str, Any]]


def write_record(folder: Path, kind: EncoderKind, record: dict[str, Any], tissues: Sequence[str]) -> None:
    """Write the model.json of a folder that holds all other files: `record`, versions and a digest of every file."""
    files = {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}
    versions = {"rnagan": rnagan.__version__, "torch": torch.__version__, "numpy": np.__version__}
    own = {"kind": kind.name, "versions": versions} | record | {"tissues": list(tissues)}
    write_json(folder / _RECORD, own | {"files": files})


def checked_record(folder: Path, kind: EncoderKind, sha256: Callable[[Path], str] = sha256_of_file) -> EncoderRecord:
    """What model.json says, after the folder's files have been compared with it; changed, missing and strange files
    are refused by name."""
    path = folder / _RECORD
    record = read_json(path, dict[str, Any])
    if record.get("kind") != kind.name:
        raise ValueError(f"{folder} holds no {kind.called}; give the model folder that {kind.made_by} wrote.")
    checked = check_json(record, EncoderRecord, path)
    check_holds_only(folder, kind.files)
    if strange := sorted(checked["files"].keys() ^ {*kind.files} - {path.name}):
        raise ValueError(
            f"{path} must list the files of a {kind.called}, and is wrong about {strange[0]!r}; copy the folder."
        )
    for name, digest in checked["files"].items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise ValueError(f"{folder / name} is missing or was changed after training; copy the model folder again.")
    return checked


def hand_on(folder: Path, target: Path, kind: EncoderKind, link: bool = False) -> dict[str, str]:
    """Put an encoder's folder into a new folder, with the errors of `checked_record`: a model that is given away holds
    nothing else. Returns hex SHA-256 by file name.

    `link`: by hard links, plain files that take no time and no room, or copies where the disk makes none.
    """
    checked = checked_record(folder, kind, _sha256_unless_changed)
    target.mkdir()
    for name in kind.files:
        if not (link and _linked(folder / name, target / name)):
            shutil.copyfile(folder / name, target / name, follow_symlinks=False)
    return checked["files"] | {_RECORD: sha256_of_file(target / _RECORD)}


def _linked(path: Path, target: Path) -> bool:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:  # another disk, or one without links
        return False
    return True


def _sha256_unless_changed(path: Path) -> str:
    """The digest of a file, read again only after it has changed."""
    stat = path.stat()
    return _sha256_once(path, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=_MOST_FILES)
def _sha256_once(path: Path, *_version: int) -> str:
    return sha256_of_file(path)
