"""The tiles in the form of each contender, made once, and a look at whether each delivers them all, unchanged."""

import hashlib
import os
from pathlib import Path
from typing import Any

from shared.contenders import Contender

from rnagan.io.files import atomic_path, read_json, write_json

from .tiles import SAMPLE_EVERY, Tiles

WORKERS = Path(__file__).parent / "workers"
OWN_FORM = ("lmdb", "mosaicml", "litdata")
# The decoders agree to the bit or by a level; after JPEG anew, at quality 95 even, pixels are off by one on average.
LARGEST_MEAN_DIFFERENCE = 0.5


def make_store(worker: str, contender: Contender, tiles: Tiles) -> Path:
    """Where the tiles lie for a contender. Raises `ValueError` where it can't make them."""
    if worker not in OWN_FORM:
        return tiles.shards
    folder = tiles.folder / worker
    if not folder.is_dir():
        with atomic_path(folder) as temporary:
            contender.ask({"do": "make", "shards": str(tiles.shards), "to": str(temporary)})
    return folder


def megabytes(folder: Path) -> int:
    """On disk."""
    return round(sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 1e6)


def forget(folder: Path) -> None:
    """Take all of it out of the page cache, so that it is read before it is warm: from pages that were written LMDB is
    half as fast again, which lasts until they are needed for something else.
    """
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(folder: Path) -> None:
    """Have all of it in the page cache, from where a kernel may take what hasn't been used for minutes."""
    piece = bytearray(1 << 20)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass


def check(name: str, contender: Contender, request: dict[str, Any], tiles: Tiles, versions: str) -> dict[str, Any]:
    """What an epoch delivers, read once for each state of the contender (`versions`) and kept in the cache.

    Raises `ValueError` where it isn't every tile once, with the right pixels.
    """
    path = tiles.folder / "checked.json"
    kept = read_json(path) if path.is_file() else {}
    scripts = b"".join((WORKERS / f"{script}.py").read_bytes() for script in (f"run_{contender.name}", "measuring"))
    state = hashlib.sha256(scripts + versions.encode() + str(request).encode()).hexdigest()
    if kept.get(name, {}).get("state") != state:
        found = contender.ask(request | {"do": "check", "sample": str(tiles.sample)})
        kept[name] = found | {"state": state}
        write_json(path, kept)
    found = {key: value for key, value in kept[name].items() if key not in ("state", "core_share", "seconds", "others")}
    whole = found["tiles"] == found["different"] == found["different_in_content"] == tiles.count
    if not whole or found["compared"] != -(-tiles.count // SAMPLE_EVERY):
        raise ValueError(f"{name} doesn't deliver each of {tiles.count:,} tiles once: {found}")
    if found["mean_difference"] > LARGEST_MEAN_DIFFERENCE:
        raise ValueError(f"{name} delivers other pixels: {found}")
    return found
