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

from rnagan.cohort.slide_ids import check_shard_name
from rnagan.data.manifest import (
    GENES,
    INDEX,
    INDEX_SUM,
    RECORD,
    SAMPLES,
    SLIDES,
    TAR,
    TILE_PROFILES,
    read_genes,
    record_problem,
    write_index,
    write_record,
)
from rnagan.data.set_digest import holds, make_digest, read_joins, seal_digest, write_digest
from rnagan.data.shard_schema import Kind, ProfileKind, TileKind, kind_of
from rnagan.data.tars import Member, TarScan, scan_tar
from rnagan.data.tile_profiles import TileProfiles
from rnagan.io.files import atomic_path, read_json, sha256_of_file
from rnagan.io.parquet import read_parquet
from rnagan.runtime import progress, rng
from rnagan.runtime.workers import Workers, run_each

FETCH = "fetch this tar again"  # where it was made by others
REPAIR, MENDED = "--repair mends it", "mended"


class Finding(NamedTuple):
    """A file that is not as it should be, and a phrase: what is wrong; what to do."""

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


@dataclasses.dataclass
class Report:
    """What was read, and the findings by file; `mended`: those that were repaired.

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

    @property
    def extent(self) -> str:
        """`3 slides, 8 tiles`."""
        kind = kind_of(self.records[0]["options"]) if self.records else TileKind
        return f"{self.slides:,} {kind.shard}s, {self.tiles:,} {kind.item}s"

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
        return Report(1, findings=[Finding(name, f"is no JSON; delete it and {TileKind.again}")])
    if problem := record_problem(record, slide):
        return Report(1, findings=[Finding(name, f"{problem}; delete it and {_again(record)}")])
    kind = kind_of(record["options"])
    report = Report(1, record["tiles"], record["bytes"], records=[record])
    tar, index = folder / (slide + TAR), folder / (slide + INDEX)
    if not record["tiles"]:
        report.findings += [
            Finding(path.name, "belongs to a slide without tiles; delete it") for path in (tar, index) if path.exists()
        ]
        return report
    adopted = record["source"].get("adopted")
    if not tar.is_file():
        report.findings.append(Finding(tar.name, f"is missing; {FETCH if adopted else kind.again}"))
        return report
    scan = scan_tar(tar, kind.item_problem if decode else None, extensions=kind.extensions)
    problems = list(_tar_problems(scan, record, kind))
    if problems:
        remedy = f"{FETCH}, or adopt it anew without its record" if adopted else f"delete the record and {kind.again}"
        report.findings += [Finding(tar.name, f"{problem}; {remedy}") for problem in problems]
        return report
    rows = index_rows(scan.members, record)
    problems = list(_index_problems(index, rows, kind)) or list(_index_sum_problems(index, record))
    report.findings += [Finding(index.name, f"{problem}; {REPAIR}") for problem in problems]
    if repair and report.findings:
        with atomic_path(index) as temporary:
            write_index(temporary, rows)
            found = sha256_of_file(temporary)
        if record.get(INDEX_SUM, found) != found:  # another version of Parquet's library writes other bytes
            report.records = [write_record(folder, record | {INDEX_SUM: found})]
        report.mend()
    return report


def _again(record: Any) -> str:
    """How to make a shard again, if a broken record still says its kind."""
    options = record.get("options") if isinstance(record, dict) else None
    is_of_profiles = isinstance(options, dict) and options.get("kind") == "profiles"
    return ProfileKind.again if is_of_profiles else TileKind.again


def _unread(slide: str, error: OSError) -> Finding:
    name = Path(error.filename).name if error.filename else slide + TAR
    return Finding(name, f"couldn't be checked ({error.strerror or error}); see to that and check again")


def index_rows(members: list[Member], record: dict[str, Any]) -> list[Any]:
    """The index of a tar's members: in their order, or, where others chose that, in one drawn from seed and slide."""
    kind = kind_of(record["options"])
    described = {member.key: member.about for member in members if member.extension == "json"}
    rows = [
        kind.index_row(member, described.get(member.key) or {})
        for member in members
        if member.extension in kind.extensions
    ]
    if record["source"].get("adopted"):
        order = rng.generator(record["options"]["seed"], f"tiles/{record['slide']}").permutation(len(rows))
        rows = [rows[n] for n in order.tolist()]
    return rows


def sample_problems(members: list[Member], kind: type[TileKind] | Kind = TileKind) -> Iterator[str]:
    """What keeps members from being samples: repeated keys and extensions, samples without an image, or with two."""
    extensions: dict[str, list[str]] = collections.defaultdict(list)
    for member in members:
        extensions[member.key].append(member.extension)
    for key, found in extensions.items():
        items = sum(extension in kind.extensions for extension in found)
        if items != 1 or len(set(found)) < len(found):
            yield f"has {items} {kind.stored}s ({', '.join(found)}) under the key {key!r}, and must have one"
            return
    if not extensions:
        yield "holds no sample"


def _tar_problems(scan: TarScan, record: dict[str, Any], kind: Kind) -> Iterator[str]:
    yield from scan.problems
    if scan.bytes != record["bytes"]:
        yield f"has {scan.bytes:,} bytes, and its record says {record['bytes']:,}"
    elif scan.sha256 != record["sha256"]:
        yield "is not the file that its record vouches for (sha256 differs)"
    if scan.problems:
        return
    yield from sample_problems(scan.members, kind)
    items = sum(member.extension in kind.extensions for member in scan.members)
    if items != record["tiles"]:
        yield f"has {items:,} {kind.item}s, and its record says {record['tiles']:,}"
    if not record["source"].get("adopted"):
        yield from _description_problems(scan.members, record, kind)


def _description_problems(members: list[Member], record: dict[str, Any], kind: Kind) -> Iterator[str]:
    """Whether each KEY.json says what our format demands; the first that doesn't is reported."""
    for item, description in itertools.zip_longest(members[::2], members[1::2]):
        key, extension = item.key, item.extension
        if not description or (extension, description.extension, description.key) != (kind.stored_as, "json", key):
            yield f"has not KEY.{kind.stored_as} and KEY.json in turn (at {key}.{extension})"
            return
        if problem := kind.description_problem(key, description.about or {}, record):
            yield f"has {problem}"
            return


def _index_problems(path: Path, rows: list[Any], kind: Kind) -> Iterator[str]:
    if not path.is_file():
        yield "is missing"
        return
    try:
        found = read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield f"is damaged ({str(error).splitlines()[0]})"
        return
    fields = kind.row_type._fields
    if list(found) != list(fields):
        yield f"has columns {', '.join(map(str, found))}, not {', '.join(fields)}"
        return
    ours = {row.key: row for row in rows}
    theirs = {row[0]: kind.row_type(*row) for row in found.itertuples(index=False, name=None)}
    if len(theirs) != len(found) or ours.keys() != theirs.keys():
        yield f"lists {len(found):,} {kind.item}s that aren't the {len(ours):,} of its tar"
        return
    for field in fields[1:]:
        wrong = [key for key, row in ours.items() if getattr(row, field) != getattr(theirs[key], field)]
        if wrong:
            yield f"has another {field} than the tar for {len(wrong):,} {kind.item}s ({wrong[0]})"
    if list(ours) != list(theirs):
        yield f"lists its {kind.item}s in another order than the tar"


def _index_sum_problems(path: Path, record: dict[str, Any]) -> Iterator[str]:
    """Of an index whose rows are right: a record of an earlier version has no sum of it."""
    if INDEX_SUM in record and record[INDEX_SUM] != sha256_of_file(path):
        yield "is not the file that its record vouches for (sha256 differs)"


def _strangers(folder: Path, slides: set[str]) -> Iterator[Finding]:
    """Files that no record vouches for, and records whose names are no slides'."""
    for entry in sorted(os.listdir(folder)):
        for suffix in (TAR, INDEX):
            slide = entry.removesuffix(suffix)
            if entry.endswith(suffix) and slide not in slides:
                yield Finding(entry, f"has no record; {TileKind.again}, or adopt tars of others with --index")
    for slide in sorted(slides):
        try:
            check_shard_name(slide)
        except ValueError as error:
            yield Finding(slide + RECORD, f"{str(error).rstrip('.')}; delete it")


def _check_digest(folder: Path, records: list[dict[str, Any]], repair: bool) -> Report:
    """Whether dataset.json and the tables say what the records say, and in a set of profiles the indexes."""
    report = Report()
    if not records:
        report.findings = [Finding("dataset.json", "can't be checked: the folder holds no record; build the slides")]
        return report
    tables: dict[str, Any] = {}
    try:
        dataset, tables[SLIDES] = make_digest(folder, records)
    except ValueError as error:
        report.findings = [Finding("dataset.json", str(error).rstrip("."))]
        return report
    kind = kind_of(dataset)
    if isinstance(kind, ProfileKind) and read_genes(folder, kind) is None:
        report.findings.append(Finding(GENES, f"is missing, damaged or of another set; {kind.again}"))
    try:
        tables |= read_joins(folder, kind, records)
    except (pa.ArrowException, OSError):  # reported with the index that is missing or damaged
        return report
    except ValueError as error:
        name = SAMPLES if isinstance(kind, ProfileKind) else TILE_PROFILES
        report.findings.append(Finding(name, str(error).rstrip(".")))
        return report
    stale = [name for name, table in tables.items() if not _is_table(folder / name, table)]
    if not _is_json(folder / "dataset.json", seal_digest(dataset, tables)):
        stale.append("dataset.json")
    digest = Report(
        findings=[Finding(name, f"is missing, damaged or older than the records; {REPAIR}") for name in stale]
    )
    if repair and stale:
        write_digest(folder)
        digest.mend()
    report.add(digest)
    return report


def _is_json(path: Path, expected: Any) -> bool:
    try:
        return read_json(path) == expected
    except (ValueError, OSError):
        return False


def _is_table(path: Path, expected: pd.DataFrame | TileProfiles) -> bool:
    if isinstance(expected, TileProfiles):
        return holds(path, expected)
    try:
        return read_parquet(path).equals(expected)
    except (pa.ArrowException, OSError, ValueError):
        return False
