"""Which slides are tiled, with the resolution and coordinates that the user gives."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnagan.cohort.slide_files import SlideFile, find_slides
from rnagan.cohort.slide_ids import slide_of, unchecked_slide_id
from rnagan.io.files import sha256_of_file
from rnagan.io.tables import first_few, need_columns, read_table
from rnagan.slides.coordinates import find_coordinates


@dataclasses.dataclass(frozen=True)
class SlideSource:
    """A slide file, its resolution where the user gives it (µm per level-0 px), and a file of tile positions.

    `name`: its id, where that isn't the file's; `parts`: all its files; none: `path` alone.
    """

    path: Path
    mpp: float | None = None
    coordinates: Path | None = None
    needs_coordinates: bool = False  # then a slide without such a file fails
    name: str = ""
    parts: tuple[Path, ...] = ()

    @property
    def slide(self) -> str:
        return self.name or unchecked_slide_id(self.path)

    @functools.cached_property
    def stamp(self) -> dict[str, Any]:
        """What changes when the slide, or what the user says of it, does (`data.build_jobs.Source`)."""
        stamp: dict[str, Any] = {"file": self.path.name}
        states = [path.stat() for path in self.parts or (self.path,) if path.is_file()]
        if states:  # where it is missing, opening it says so
            stamp["bytes"] = sum(state.st_size for state in states)
            stamp["modified_ns"] = max(state.st_mtime_ns for state in states)
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
    a row fills it, their resolution. It may call a slide by its id, by a file or by its DICOM series; the shard is
    called as it says. `coordinates`: a folder of TRIDENT's or CLAM's files.
    """
    notes: list[str] = []
    found = find_slides(given, notes)
    mpp: dict[str, float | None] = dict.fromkeys(found)
    if cohort is not None:
        wanted = _read_cohort(cohort)
        found = _called_as_wanted(found, wanted, cohort)
        left_out, missing = sorted(found.keys() - wanted.keys()), sorted(wanted.keys() - found.keys())
        if not found.keys() & wanted.keys():
            raise ValueError(
                f"None of the {len(found):,} slides is in {cohort} (column slide has {first_few(wanted)})."
            )
        for slides, what in ((left_out, "are not in"), (missing, "are missing, though they are in")):
            if slides:
                notes.append(f"{len(slides):,} slides {what} {cohort}: {first_few(slides)}.")
        mpp = {slide: wanted[slide] for slide in found if slide in wanted}
    files = find_coordinates(coordinates) if coordinates is not None else {}
    sources = []
    for slide, resolution in mpp.items():
        file = found[slide]
        positions = next((files[name] for name in (slide, *sorted(file.names)) if name in files), None)
        sources.append(SlideSource(file.path, resolution, positions, coordinates is not None, slide, file.parts))
    return sources, notes


def _called_as_wanted(found: dict[str, SlideFile], wanted: Iterable[str], cohort: Path) -> dict[str, SlideFile]:
    """The slides by the names that the table has for them, sorted; those that it doesn't have keep their ids."""
    meant: dict[str, list[str]] = {}
    for slide, file in found.items():
        for name in (file.names - found.keys()) | {slide}:
            meant.setdefault(name, []).append(slide)
    called: dict[str, str] = {}
    for name in wanted:
        slides = meant.get(name, [])
        if len(slides) > 1:
            raise ValueError(f"{cohort}: slide {name} may be {first_few(slides)}; call it by its id.")
        for slide in slides:
            if (other := called.setdefault(slide, name)) != name:
                raise ValueError(f"{cohort}: {other} and {name} are one slide ({found[slide].path}); keep one of them.")
    return dict(sorted((called.get(slide, slide), file) for slide, file in found.items()))


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
