"""Which slides are tiled, with the resolution, coordinates and masks that the user gives."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnagan.cohort.slide_files import SlideFile, find_slides
from rnagan.cohort.slide_ids import printable, slide_of, unchecked_slide_id
from rnagan.io.files import sha256_of_file
from rnagan.io.tables import first_few, need_columns, positive_number, read_table
from rnagan.slides.coordinates import find_coordinates
from rnagan.slides.masks import MaskFile, MaskFolder, find_masks


@dataclasses.dataclass(frozen=True)
class SlideSource:
    """A slide file, its resolution where the user gives it (µm per level-0 px), and files of tile positions or tissue.

    `name`: its id, where that isn't the file's; `parts`: all its files; none: `path` alone.
    """

    path: Path
    mpp: float | None = None
    coordinates: Path | None = None
    needs_coordinates: bool = False  # then a slide without such a file fails
    name: str = ""
    parts: tuple[Path, ...] = ()
    mask: MaskFile | None = None
    needs_mask: bool = False  # then a slide without one fails

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
        stamp |= {"given_mpp": self.mpp, "coordinates_sha256": _digest(self.coordinates, self.needs_coordinates)}
        return stamp | {"mask": self.about_mask}

    @functools.cached_property
    def about_mask(self) -> dict[str, Any] | None:
        """What decides instead of our own mask: a file's name and digest, and how it is read; None: nothing does."""
        if self.mask is None:
            return {"file": None} if self.needs_mask else None
        about = {"file": printable(self.mask.path.name), "sha256": _digest(self.mask.path, True)}
        chosen = {"classes": list(self.mask.classes), "origin": self.mask.origin}
        return about | {name: value for name, value in chosen.items() if value}

    @property
    def size(self) -> int:
        """Bytes of the file; 0 where it is missing."""
        return self.stamp.get("bytes", 0)


def find_sources(
    given: Iterable[Path],
    cohort: Path | None = None,
    coordinates: Path | None = None,
    masks: MaskFolder | None = None,
) -> tuple[list[SlideSource], list[str]]:
    """The slides of files and folders, by name, and notes for the user.

    `cohort`: a table whose column `slide` says which slides are wanted, and whose column `mpp`, where there is one and
    a row fills it, their resolution. It may call a slide by its id, by a file or by its DICOM series; the shard is
    called as it says. `coordinates`: a folder of TRIDENT's or CLAM's files. `masks`: tissue masks made elsewhere.
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
    positions = _files_of(found, mpp, {name: (path,) for name, path in files.items()}, "coordinates")
    mask_of_slide = _masks_of(found, mpp, masks, notes) if masks else {}
    sources = []
    for slide, resolution in mpp.items():
        file, mask = found[slide], mask_of_slide.get(slide)
        needs_mask = masks is not None and masks.required
        places, needs_places = positions.get(slide), coordinates is not None
        sources.append(SlideSource(file.path, resolution, places, needs_places, slide, file.parts, mask, needs_mask))
    return sources, notes


def _files_of(
    found: dict[str, SlideFile], wanted: Iterable[str], files: dict[str, tuple[Path, ...]], what: str
) -> dict[str, Path]:
    """The file, of those by name, that each of the `wanted` slides has, where it has one.

    A file may be called by the slide's id, by its file, or by the DICOM series or a part of it. Two files of one slide
    and one file of two slides are refused.
    """
    file_of: dict[str, Path] = {}
    slide_of_file: dict[Path, str] = {}
    for slide in wanted:
        names = {slide} | ({unchecked_slide_id(found[slide].path), *found[slide].names} - found.keys())
        paths = sorted({path for name in names for path in files.get(name, ())})
        if len(paths) > 1:
            raise ValueError(f"{paths[0]} and {paths[1]} both hold {what} of slide {slide}; keep one.")
        for path in paths:
            if (other := slide_of_file.setdefault(path, slide)) != slide:
                raise ValueError(f"{path} may hold {what} of {other} or of {slide}; call it by the slide's id.")
            file_of[slide] = path
    return file_of


def _masks_of(
    found: dict[str, SlideFile], wanted: Iterable[str], folder: MaskFolder, notes: list[str]
) -> dict[str, MaskFile]:
    """The mask of each slide that has one, of those that are `wanted`."""
    masks = find_masks(folder.path, notes)
    mask_of_slide = _files_of(found, wanted, masks, "the mask")
    used = set(mask_of_slide.values())
    others = sorted(name for name, paths in masks.items() if not used.issuperset(paths))
    if not used:
        raise ValueError(
            f"None of the {len(others):,} masks in {folder.path} ({first_few(others)}) is called like a slide "
            f"({first_few(wanted)})."
        )
    if others:
        notes.append(f"Warning: {len(others):,} masks of {folder.path} are of no slide here: {first_few(others)}.")
    without = [slide for slide in wanted if slide not in mask_of_slide]
    if without and not folder.required:
        notes.append(f"{len(without):,} slides have no mask in {folder.path} and get our own: {first_few(without)}.")
    return {slide: MaskFile.of(path, folder) for slide, path in mask_of_slide.items()}


def _digest(path: Path | None, needed: bool) -> str | None:
    """Of a file's bytes; where it is needed and can't be read, a word that no earlier shard has."""
    try:
        return sha256_of_file(path) if path else "missing" if needed else None
    except OSError:
        return "missing"


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
        mpp = positive_number(row.get("mpp", ""), "mpp must be µm per pixel", path, line)
        if wanted.setdefault(slide, mpp) != mpp:
            raise ValueError(f"{path}, line {line}: slide {slide} has two resolutions ({wanted[slide]} and {mpp}).")
    if not wanted:
        raise ValueError(f"{path} names no slide in its column slide.")
    return wanted
