"""Ids of slides, which are the names of their shards."""

import re
from collections.abc import Iterable
from pathlib import Path

SLIDE_SUFFIXES = {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif"}
_LONGEST_NAME = 70  # bytes; leaves room for `_x…_y….json` in the 100 that a tar header holds


def slide_id(path: Path | str) -> str:
    """A slide's id, which is its shard's name: the file name without its last extension, other dots replaced by `_`."""
    return shard_name(Path(path).stem)


def slide_of(text: str) -> str:
    """The id of a slide that a table gives by its id or by its file name."""
    return slide_id(text) if Path(text).suffix.lower() in SLIDE_SUFFIXES else shard_name(text)


def shard_name(text: str) -> str:
    """The name of the shard of a slide or donor called `text`: dots, which WebDataset splits keys at, become `_`."""
    return check_shard_name(text.replace(".", "_"))


def check_shard_name(name: str) -> str:
    """Return `name`, or raise `ValueError` where it could not name a file in the folder of shards."""
    if not re.fullmatch(r"[^/\\.\x00-\x1f]+", name) or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"{name!r} can't name a shard: 1 to {_LONGEST_NAME} bytes without dot, slash or control character."
        )
    return name


def find_slides(given: Iterable[Path | str]) -> dict[str, Path]:
    """Id → file, by id, of slide files and of all slides in folders and below them.

    Two files with one id are refused, and so is a folder without slides.
    """
    by_id: dict[str, Path] = {}
    for path in sorted({path for place in given for path in _slides_at(Path(place))}):
        if (other := by_id.setdefault(slide_id(path), path)) != path:
            raise ValueError(f"{other} and {path} would both become slide {slide_id(path)}; rename or remove one.")
    return dict(sorted(by_id.items()))


def _slides_at(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    found = [path for path in place.rglob("*") if path.suffix.lower() in SLIDE_SUFFIXES and path.is_file()]
    if not found:
        raise FileNotFoundError(f"{place} holds no slide ({', '.join(sorted(SLIDE_SUFFIXES))}).")
    return found
