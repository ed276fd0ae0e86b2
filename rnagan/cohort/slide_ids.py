"""Ids of slides, which are the names of their shards."""

import re
from pathlib import Path

# What slides are called; whether a file is one, its content says (`slide_files.find_slides`).
SLIDE_SUFFIXES = frozenset(
    (".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm")
)
_EXTENSION = re.compile(r"(.+)\.[A-Za-z]\w{0,7}", re.DOTALL)  # .2 of a DICOM file called 1.3.6.2 is none
LONGEST_NAME = 70  # bytes; leaves room for `_x…_y….json` in the 100 that a tar header holds


def slide_id(path: Path | str) -> str:
    """A slide's id, which is its shard's name: the file name without its last extension, other dots replaced by `_`.

    The name is that of the path as given, also where it is a link to a file of another name.
    """
    return check_shard_name(unchecked_slide_id(path))


def unchecked_slide_id(path: Path | str) -> str:
    """As `slide_id`, of a file whose name may be unfit for a shard: its build then says so."""
    name = printable(Path(path).name)
    extension = _EXTENSION.fullmatch(name)
    return (extension.group(1) if extension else name).replace(".", "_")


def printable(name: str) -> str:
    """A file name whose bytes that aren't UTF-8 are written as `\\udc…`."""
    return name.encode(errors="backslashreplace").decode()


def slide_of(text: str) -> str:
    """The id of a slide that a table gives by its id or by its file name."""
    return slide_id(text) if Path(text).suffix.lower() in SLIDE_SUFFIXES else shard_name(text)


def shard_name(text: str) -> str:
    """The name of the shard of a slide or donor called `text`: dots, which WebDataset splits keys at, become `_`."""
    return check_shard_name(text.replace(".", "_"))


def is_shard_name(name: str) -> bool:
    """Whether `name` can name a file in the folder of shards."""
    return bool(re.fullmatch(r"[^/\\.\x00-\x1f]+", name)) and len(name.encode()) <= LONGEST_NAME


def check_shard_name(name: str) -> str:
    """Return `name`, or raise `ValueError` where it could not name a file in the folder of shards."""
    if not is_shard_name(name):
        raise ValueError(
            f"{name!r} can't name a shard: 1 to {LONGEST_NAME} bytes without dot, slash or control character."
        )
    return name
