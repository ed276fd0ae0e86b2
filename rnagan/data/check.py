"""Checks a folder of shards byte by byte, and rebuilds what can be rebuilt (format: shards/README.md)."""

import collections
import dataclasses
import functools
import itertools
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from rnagan import progress, rng
from rnagan.cohort.names import check_shard_name
from rnagan.data.images import EXTENSIONS, image_problem
from rnagan.data.records import (
    INDEX,
    RECORD,
    RECORD_FORMAT,
    TAR,
    VERSION,
    IndexRow,
    make_digest,
    read_parquet,
    write_digest,
    write_index,
)
from rnagan.data.tars import Member, TarScan, scan_tar
from rnagan.files import atomic_path, read_json, sha256_of
from rnagan.workers import Workers, run_each

AGAIN = "build this slide again"
FETCH = "fetch this tar again"  # where it was made by others
REPAIR, MENDED = "--repair mends it", "mended"
MPP_TOLERANCE = 0.02  # share by which tiles may differ from the mpp of their set, where its options say no other
_FIELDS = {
    "slide": str,
    "status": str,
    "tiles": int,
    "counts": dict,
    "bytes": int,
    "source": dict,
    "options": dict,
    "options_digest": str,
    "versions": dict,
}


class Finding(NamedTuple):
    """A file that is not as it should be, and a phrase: what is wrong; what to do."""

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


@dataclasses.dataclass
class Report:
    """What was read, and the findings by file; `mended`: those that are no more.

    `records`: those that are well-formed. `leftovers`: temporary names of builds that run or were killed, which are no
    fault: the next build deletes the latter.
    """

    slides: int = 0
    tiles: int = 0
    bytes: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    mended: list[Finding] = dataclasses.field(default_factory=list)
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    leftovers: int = 0

    def add(self, other: "Report") -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, operator.iadd(getattr(self, field.name), getattr(other, field.name)))

    def mend(self) -> None:
        """All that was found has been put right."""
        self.mended += [Finding(file, problem.replace(REPAIR, MENDED)) for file, problem in self.findings]
        self.findings = []


def check_folder(
    folder: Path | str, workers: Workers | None = None, decode: bool = False, repair: bool = False
) -> Report:
    """Check every record, tar, index and sum of a folder of shards.

    `decode` decodes each image too. `repair` rebuilds indexes from tars that are as their record says, and the digest
    from the records, and reports what is left; it touches no tar and deletes nothing. No build may run meanwhile.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    slides = sorted(path.name.removesuffix(RECORD) for path in folder.glob("*" + RECORD))
    report = Report()
    total = sum(path.stat().st_size for path in folder.glob("*" + TAR))
    check = functools.partial(check_slide, folder, decode=decode, repair=repair)
    with progress.bar(total, "B", "check", scale=True) as bar:
        for slide, outcome in run_each(check, slides, workers or Workers()):
            if isinstance(outcome, OSError):  # the disk, or a worker that died: the other slides are still checked
                outcome = Report(1, findings=[_unread(slide, outcome)])
            elif isinstance(outcome, Exception):
                raise outcome
            report.add(outcome)
            bar.update(outcome.bytes)
    report.leftovers = sum(1 for _ in folder.glob(".tmp-*"))
    report.findings += _strangers(folder, set(slides))
    if len(report.records) == len(slides):  # else the digest is made again with the slides that failed
        report.add(_check_digest(folder, report.records, repair))
    report.findings.sort()
    report.mended.sort()
    return report


def check_slide(folder: Path, slide: str, decode: bool = False, repair: bool = False) -> Report:
    """Check one slide that has a record."""
    name = slide + RECORD
    try:
        record = read_json(folder / name)
    except ValueError:
        return Report(1, findings=[Finding(name, f"is no JSON; delete it and {AGAIN}")])
    if problem := _record_problem(record, slide):
        return Report(1, findings=[Finding(name, f"{problem}; delete it and {AGAIN}")])
    report = Report(1, record["tiles"], record["bytes"], records=[record])
    tar, index = folder / (slide + TAR), folder / (slide + INDEX)
    if not record["tiles"]:
        report.findings += [
            Finding(path.name, "belongs to a slide without tiles; delete it") for path in (tar, index) if path.exists()
        ]
        return report
    adopted = record["source"].get("adopted")
    if not tar.is_file():
        report.findings.append(Finding(tar.name, f"is missing; {FETCH if adopted else AGAIN}"))
        return report
    tile_px = record["options"].get("tile_px")
    scan = scan_tar(tar, functools.partial(image_problem, tile_px) if decode else None)
    problems = list(_tar_problems(scan, record))
    if problems:
        remedy = f"{FETCH}, or adopt it anew without its record" if adopted else f"delete the record and {AGAIN}"
        report.findings += [Finding(tar.name, f"{problem}; {remedy}") for problem in problems]
        return report
    rows = index_rows(scan.members, record)
    report.findings += [Finding(index.name, f"{problem}; {REPAIR}") for problem in _index_problems(index, rows)]
    if repair and report.findings:
        with atomic_path(index) as temporary:
            write_index(temporary, rows)
        report.mend()
    return report


def _unread(slide: str, error: OSError) -> Finding:
    name = Path(error.filename).name if error.filename else slide + TAR
    return Finding(name, f"couldn't be checked ({error.strerror or error}); see to that and check again")


def index_rows(members: list[Member], record: dict[str, Any]) -> list[IndexRow]:
    """The index of a tar's members: in their order, or, where others chose that, in one drawn from seed and slide."""
    described = {member.key: member.about for member in members if member.extension == "json"}
    rows = [
        IndexRow(member.key, member.offset, member.size, member.crc32, *_corner(described.get(member.key) or {}))
        for member in members
        if member.extension in EXTENSIONS
    ]
    if record["source"].get("adopted"):
        order = rng.generator(record["options"]["seed"], f"tiles/{record['slide']}").permutation(len(rows))
        rows = [rows[n] for n in order.tolist()]
    return rows


def sample_problems(members: list[Member]) -> Iterator[str]:
    """What keeps members from being samples: repeated keys and extensions, samples without an image, or with two."""
    extensions: dict[str, list[str]] = collections.defaultdict(list)
    for member in members:
        extensions[member.key].append(member.extension)
    for key, found in extensions.items():
        images = sum(extension in EXTENSIONS for extension in found)
        if images != 1 or len(set(found)) < len(found):
            yield f"has {images} images ({', '.join(found)}) under the key {key!r}, and must have one"
            return
    if not extensions:
        yield "holds no sample"


def _record_problem(record: Any, slide: str) -> str | None:
    if not isinstance(record, dict) or (record.get("format"), record.get("version")) != (RECORD_FORMAT, VERSION):
        return f"is no record of version {VERSION}"
    for name, kind in _FIELDS.items():
        if not isinstance(record.get(name), kind) or isinstance(record[name], bool):
            return f"has no {name}"
    if record["slide"] != slide:
        return f"says that it is of slide {record['slide']!r}"
    options = record["options"]
    if not is_positive(options.get("tile_px")) or not (
        "mpp" in options and (options["mpp"] is None or is_positive(options["mpp"]))
    ):
        return "doesn't say tile_px and mpp in its options"
    if record["options_digest"] != sha256_of(record["options"]):
        return "has options that their digest doesn't match"
    if not isinstance(record.get("sha256", 0), str | None):
        return "has no sha256"
    parts = {record["status"] == "done", record["tiles"] > 0, bool(record["sha256"]), record["bytes"] > 0}
    if len(parts) > 1 or record["tiles"] < 0:
        return f"says {record['status']} and {record['tiles']} tiles, which can't both be"
    if not all(isinstance(count, int) and count >= 0 for count in record["counts"].values()):
        return "has counts that are no numbers"
    return None


def _tar_problems(scan: TarScan, record: dict[str, Any]) -> Iterator[str]:
    yield from scan.problems
    if scan.bytes != record["bytes"]:
        yield f"has {scan.bytes:,} bytes, and its record says {record['bytes']:,}"
    elif scan.sha256 != record["sha256"]:
        yield "is not the file that its record vouches for (sha256 differs)"
    if scan.problems:
        return
    yield from sample_problems(scan.members)
    images = [member for member in scan.members if member.extension in EXTENSIONS]
    if len(images) != record["tiles"]:
        yield f"has {len(images):,} tiles, and its record says {record['tiles']:,}"
    if not record["source"].get("adopted"):
        yield from _description_problems(scan.members, record)


def _description_problems(members: list[Member], record: dict[str, Any]) -> Iterator[str]:
    """Whether each KEY.json says what our format says it does; the first that doesn't is told."""
    slide, options = record["slide"], record["options"]
    for image, description in itertools.zip_longest(members[::2], members[1::2]):
        key = image.key
        if not description or (image.extension, description.extension, description.key) != ("jpg", "json", key):
            yield f"has not KEY.jpg and KEY.json in turn (at {key}.{image.extension})"
            return
        about = description.about
        if about is None or about.get("slide") != slide:
            yield f"has a description of {key!r} that is no JSON or of another slide"
            return
        if not key.startswith(f"{slide}_"):
            yield f"has a key {key!r} that doesn't begin with its slide"
            return
        x, y = about.get("x"), about.get("y")
        if (x, y) != (None, None) and key != f"{slide}_x{x}_y{y}":
            yield f"has a description of {key!r} with another position"
            return
        if about.get("tile_px") != options["tile_px"]:
            yield f"has a description of {key!r} with tile_px {about.get('tile_px')}, not {options['tile_px']}"
            return
        if not same_mpp(about.get("mpp"), options["mpp"], options.get("mpp_tolerance", MPP_TOLERANCE)):
            yield f"has a description of {key!r} with mpp {about.get('mpp')}, not {options['mpp']}"
            return


def same_mpp(stored: Any, asked: float | None, tolerance: float = MPP_TOLERANCE) -> bool:
    """Whether tiles of `stored` mpp belong to a set of `asked` mpp: slides near it aren't resampled."""
    if asked is None or stored is None:
        return stored is asked
    return is_positive(stored) and abs(asked / stored - 1) <= tolerance + 1e-4  # stored values are rounded


def is_positive(value: Any) -> bool:
    """Whether a value from JSON is a number above 0; NaN, infinity and true aren't."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _index_problems(path: Path, rows: list[IndexRow]) -> Iterator[str]:
    if not path.is_file():
        yield "is missing"
        return
    try:
        found = read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield f"is damaged ({str(error).splitlines()[0]})"
        return
    if list(found) != list(IndexRow._fields):
        yield f"has columns {', '.join(map(str, found))}, not {', '.join(IndexRow._fields)}"
        return
    ours = {row.key: row for row in rows}
    theirs = {row[0]: IndexRow(*row) for row in found.itertuples(index=False, name=None)}
    if len(theirs) != len(found) or ours.keys() != theirs.keys():
        yield f"lists {len(found):,} tiles that aren't the {len(ours):,} of its tar"
        return
    for field in IndexRow._fields[1:]:
        wrong = [key for key, row in ours.items() if getattr(row, field) != getattr(theirs[key], field)]
        if wrong:
            yield f"has another {field} than the tar for {len(wrong):,} tiles ({wrong[0]})"
    if list(ours) != list(theirs):
        yield "lists its tiles in another order than the tar"


def _corner(about: dict[str, Any]) -> tuple[int, int]:
    """x and y of a description, -1 where they aren't whole numbers."""
    x, y = (about.get(axis) for axis in "xy")
    known = all(isinstance(n, int) and not isinstance(n, bool) and abs(n) < 2**62 for n in (x, y))
    return (x, y) if known else (-1, -1)  # type: ignore[return-value]


def _strangers(folder: Path, slides: set[str]) -> Iterator[Finding]:
    """Files that no record vouches for, and records whose names are no slides'."""
    for entry in sorted(os.listdir(folder)):
        for suffix in (TAR, INDEX):
            slide = entry.removesuffix(suffix)
            if entry.endswith(suffix) and slide not in slides:
                yield Finding(entry, f"has no record; {AGAIN}, or adopt tars of others with --index")
    for slide in sorted(slides):
        try:
            check_shard_name(slide)
        except ValueError as error:
            yield Finding(slide + RECORD, f"{str(error).rstrip('.')}; delete it")


def _check_digest(folder: Path, records: list[dict[str, Any]], repair: bool) -> Report:
    """Whether dataset.json and slides.parquet say what the records say."""
    report = Report()
    if not records:
        report.findings = [Finding("dataset.json", "can't be checked: the folder holds no record; build the slides")]
        return report
    try:
        dataset, slides = make_digest(folder, records)
    except ValueError as error:
        report.findings = [Finding("dataset.json", str(error).rstrip("."))]
        return report
    for name, same in _digest_matches(folder, dataset, slides).items():
        if not same:
            report.findings.append(Finding(name, f"is missing, damaged or older than the records; {REPAIR}"))
    if repair and report.findings:
        write_digest(folder)
        report.mend()
    return report


def _digest_matches(folder: Path, dataset: dict[str, Any], slides: pd.DataFrame) -> dict[str, bool]:
    try:
        same_dataset = read_json(folder / "dataset.json") == dataset
    except (ValueError, OSError):
        same_dataset = False
    try:
        same_slides = read_parquet(folder / "slides.parquet").equals(slides)
    except (pa.ArrowException, OSError, ValueError):
        same_slides = False
    return {"dataset.json": same_dataset, "slides.parquet": same_slides}
