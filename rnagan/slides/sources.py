"""Which slides are tiled, with the resolution and coordinates that the user gives."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnagan.cohort.slide_ids import find_slides, slide_id, slide_of
from rnagan.io.files import sha256_of_file
from rnagan.io.tables import first_few, need_columns, read_table
from rnagan.slides.coordinates import find_coordinates


@dataclasses.dataclass(frozen=True)
class SlideSource:
    """A slide file, its resolution where the user gives it (µm per level-0 px), and a file of tile positions."""

    path: Path
    mpp: float | None = None
    coordinates: Path | None = None
    needs_coordinates: bool = False  # then a slide without such a file fails

    @property
    def slide(self) -> str:
        return slide_id(self.path)

    @functools.cached_property
    def stamp(self) -> dict[str, Any]:
        """What changes when the slide, or what the user says of it, does (`data.build_jobs.Source`)."""
        stamp: dict[str, Any] = {"file": self.path.name}
        if self.path.is_file():  # where it is missing, opening it says so
            status = self.path.stat()
            stamp |= {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        digest = sha256_of_file(self.coordinates) if self.coordinates else None
        return stamp | {"given_mpp": self.mpp, "coordinates_sha256": digest}

    @property
    def size(self) -> int:
        """Bytes of the file; 0 where it is missing."""
        return self.stamp.get("bytes", 0)


def find_sources(
    given: Iterable[Path], cohort: Path | None = None, coordinates: Path | None = None
) -> tuple[list[SlideSource], list[str]]:
    """The slides of files and folders, by name, and notes for the user.

    `cohort`: a table whose column `slide` says which slides are wanted, and whose column `mpp`, where there is one and
    a row fills it, their resolution. `coordinates`: a folder of TRIDENT's or CLAM's files.
    """
    paths = find_slides(given)
    notes: list[str] = []
    mpp: dict[str, float | None] = dict.fromkeys(paths)
    if cohort is not None:
        wanted = _read_cohort(cohort)
        left_out, missing = sorted(paths.keys() - wanted.keys()), sorted(wanted.keys() - paths.keys())
        if not paths.keys() & wanted.keys():
            raise ValueError(
                f"None of the {len(paths):,} slides is in {cohort} (column slide has {first_few(wanted)})."
            )
        for slides, what in ((left_out, "are not in"), (missing, "are missing, though they are in")):
            if slides:
                notes.append(f"{len(slides):,} slides {what} {cohort}: {first_few(slides)}.")
        mpp = {slide: wanted[slide] for slide in paths if slide in wanted}
    files = find_coordinates(coordinates) if coordinates is not None else {}
    asked = coordinates is not None
    return [SlideSource(paths[slide].resolve(), mpp[slide], files.get(slide), asked) for slide in mpp], notes


def _read_cohort(path: Path) -> dict[str, float | None]:
    """Slide id → resolution or None."""
    table = read_table(path)
    need_columns(list(table), ["slide"], path)
    wanted: dict[str, float | None] = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        name = row["slide"]
        if not name:
            continue
        slide = slide_of(name)
        mpp = _number(row.get("mpp", ""), path, line)
        if wanted.setdefault(slide, mpp) != mpp:
            raise ValueError(f"{path}, line {line}: slide {slide} has two resolutions ({wanted[slide]} and {mpp}).")
    if not wanted:
        raise ValueError(f"{path} names no slide in its column slide.")
    return wanted


def _number(text: str, path: Path, line: int) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1000:
        raise ValueError(f"{path}, line {line}: mpp must be µm per pixel, not {text!r}.")
    return number
