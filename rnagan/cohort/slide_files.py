"""Which files are slides: those that OpenSlide recognises or that are called like one. The others are named."""

import dataclasses
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import openslide

from rnagan.cohort.slide_ids import SLIDE_SUFFIXES, printable, unchecked_slide_id
from rnagan.io.tables import first_few

_UNFINISHED = (".part", ".partial", ".crdownload", ".filepart", ".tmp")
_SERIES = re.compile(rb"\x20\x00\x0e\x00.{4}([0-9.]{1,64})", re.DOTALL)  # DICOM's (0020,000E), SeriesInstanceUID
_DICOM_MARK = slice(128, 132)  # bytes, after the preamble
_HEADER_BYTES = 2**16  # of a DICOM file; they hold its UIDs
_SEVERAL_NAMES = "slides are one file under several names"

Passed = dict[str, list[str]]


@dataclasses.dataclass(frozen=True)
class SlideFile:
    """A slide: the file to open, by the path as it was given; all files of its DICOM series, or that one alone; and
    further ids by which a table may mean it.
    """

    path: Path
    parts: tuple[Path, ...]
    names: frozenset[str]


def find_slides(given: Iterable[Path | str], notes: list[str] | None = None) -> dict[str, SlideFile]:
    """Id → slide, by id, of slide files and of all slides in folders and below them.

    A link counts by its own name. The files of a DICOM series are one slide, which is called like its folder where
    that holds no other slide, and by its SeriesInstanceUID otherwise; a series of one file is called like the file.
    `notes` gets a sentence for each kind of thing that was passed over: links to nothing, linked folders, hidden and
    unfinished files, files that are no slides, folders that can't be read.

    An id may be unfit for a shard (`slide_ids.check_shard_name`). Two slides with one id are refused, and so is a
    folder without slides.
    """
    passed: Passed = defaultdict(list)
    paths: dict[Path, Path] = {}  # by the folder's real path and the name, for a path may be spelled in two ways
    for place in map(Path, given):
        found = list(_slides_below(place, passed)) if place.is_dir() else [place]
        if not found:
            raise FileNotFoundError(
                f"{place} holds no slide, which is a file that OpenSlide recognises or that is called like one "
                f"({', '.join(sorted(SLIDE_SUFFIXES))}). {' '.join(_sentences(passed))}".rstrip()
            )
        for path in found:
            paths.setdefault(path.parent.resolve() / path.name, path.absolute())
    by_id: dict[str, SlideFile] = {}
    for slide, file in _with_series_joined(sorted(paths.values())):
        if (other := by_id.setdefault(slide, file)) != file:
            raise ValueError(f"{other.path} and {file.path} would both become slide {slide}; rename or remove one.")
    if notes is not None:
        targets = {slide: file.path.resolve() for slide, file in by_id.items()}
        counts = Counter(targets.values())
        passed[_SEVERAL_NAMES] = sorted(slide for slide, target in targets.items() if counts[target] > 1)
        notes += _sentences(passed)
    return dict(sorted(by_id.items()))


def readable_path(path: Path) -> Path:
    """The path itself, or that of the file which it links to, where OpenSlide reads only that: a slide of several files
    has the others beside the real one.
    """
    return path.resolve() if path.is_symlink() and not _vendor(path) and _vendor(path.resolve()) else path


def _vendor(path: Path) -> str | None:
    """The format by its content, in OpenSlide's words; None for what it doesn't know."""
    return openslide.OpenSlide.detect_format(path)


def _is_dicom(path: Path) -> bool:
    """Asked of every slide: a look at the mark that OpenSlide wants too spares most of them its search of formats."""
    try:
        with path.open("rb") as file:
            head = file.read(_DICOM_MARK.stop)
    except OSError:  # its build will say so
        return False
    return head[_DICOM_MARK] == b"DICM" and _vendor(path) == "dicom"


def _is_slide(path: Path) -> bool:
    return path.suffix.lower() in SLIDE_SUFFIXES or _vendor(readable_path(path)) is not None


def _slides_below(place: Path, passed: Passed) -> Iterator[Path]:
    """The slides of a folder and below it; what is passed over is added to `passed`, by what it is."""

    def refused(error: OSError) -> None:
        passed["folders can't be read"].append(str(error.filename))

    for folder, folders, files in os.walk(place, onerror=refused):
        slides = []
        for path in (Path(folder, name) for name in sorted(files)):
            if not path.is_file():
                passed["links lead to nothing" if path.is_symlink() else "are neither file nor folder"].append(
                    str(path)
                )
            elif path.name.startswith(".") or path.suffix.lower() in _UNFINISHED:
                passed["files are hidden or unfinished"].append(str(path))
            elif _is_slide(path):
                slides.append(path)
            else:
                passed["files are no slides"].append(str(path))
        parts = {name for slide in slides for name in _other_files(slide)}
        if parts:
            others = passed["files are no slides"]
            others[:] = [
                path for path in others if not (Path(path).parent == Path(folder) and Path(path).name in parts)
            ]
        folders[:] = sorted(name for name in folders if name not in parts)
        linked = [name for name in folders if Path(folder, name).is_symlink()]  # os.walk doesn't enter them
        passed["folders are links; give them by themselves"] += [str(Path(folder, name)) for name in linked]
        yield from slides


def _other_files(slide: Path) -> set[str]:
    """Names of what belongs to a slide of several files and lies beside it: MIRAX's folder, Hamamatsu's images."""
    match slide.suffix.lower():
        case ".mrxs":
            return {slide.stem}
        case ".vms" | ".vmu":
            lines = slide.read_text(errors="replace").splitlines()
            return {line.partition("=")[2].strip() for line in lines}
    return set()


def _with_series_joined(paths: Iterable[Path]) -> Iterator[tuple[str, SlideFile]]:
    """Id and slide of each path; the files of a DICOM series, also those that weren't given, become one."""
    series_in: dict[Path, dict[str, tuple[Path, ...]]] = {}
    folder_of: dict[str, Path] = {}
    for path in paths:
        if not _is_dicom(path):
            yield unchecked_slide_id(path), SlideFile(path, (path,), frozenset((_as_id(path.name),)))
            continue
        folder = path.parent
        if folder not in series_in:
            series_in[folder] = _series_in(folder)
        uid, files = next((uid, files) for uid, files in series_in[folder].items() if path in files)
        if (other := folder_of.setdefault(uid, folder)) != folder:
            raise ValueError(
                f"{other} and {folder} both hold files of the DICOM series {uid}, which is one slide; "
                "move them into one folder, or remove one if it is a copy."
            )
        alone = len(files) > 1 and not any(
            file.is_file() and _is_slide(file) for file in set(folder.iterdir()) - {*files}
        )
        slide = unchecked_slide_id(path) if len(files) == 1 else _as_id(folder.name if alone else uid)
        names = {_as_id(uid), *(unchecked_slide_id(file) for file in files), *(_as_id(file.name) for file in files)}
        yield slide, SlideFile(files[0], files, frozenset(names))


def _series_in(folder: Path) -> dict[str, tuple[Path, ...]]:
    """SeriesInstanceUID → files, by name, of the DICOM slides in a folder."""
    by_uid: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_file() and _is_dicom(path):
            by_uid[_series_uid(path)].append(path)
    return {uid: tuple(files) for uid, files in by_uid.items()}


def _series_uid(path: Path) -> str:
    """From the file's head; where that is unclear from OpenSlide, which looks into every file beside it."""
    with path.open("rb") as file:
        uids = set(_SERIES.findall(file.read(_HEADER_BYTES)))
    if len(uids) == 1:  # else it refers to other series too, or is compressed
        return uids.pop().decode("ascii")
    with openslide.OpenSlide(path) as slide:
        return slide.properties["dicom.SeriesInstanceUID"]


def _as_id(name: str) -> str:
    return name.replace(".", "_")


def _sentences(passed: Passed) -> list[str]:
    return [
        f"{len(things):,} {what}: {first_few(map(printable, sorted(things)))}."
        for what, things in passed.items()
        if things
    ]
