"""Makes a shard of each source over workers: skips what is done, keeps what succeeds, lists what fails."""

import collections
import csv
import dataclasses
import functools
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from rnagan.data.manifest import RECORD, kind_of_record, lost_records, read_records, shard_problem, write_record
from rnagan.data.set_digest import write_digest
from rnagan.data.shard_schema import TileKind, kind_of, name_kind
from rnagan.data.verify import check_slide
from rnagan.io.cells import safe
from rnagan.io.disk_errors import CONCERNS_ALL, in_words
from rnagan.io.files import remove_leftovers, sha256_of, write_text
from rnagan.io.tables import first_few
from rnagan.runtime import progress
from rnagan.runtime.folder_lock import locked
from rnagan.runtime.workers import WorkerDied, Workers, run_each


class Source(Protocol):
    """What one shard is made of; it is sent to a worker."""

    @property
    def slide(self) -> str:
        """Name of the shard."""

    @property
    def stamp(self) -> dict[str, Any]:
        """What identifies the source without opening it; it becomes part of `source` in the record of its shard.

        What is None there may be missing in a record of an earlier version, and must not be something else.
        It is taken once, before the source is read: one that changes later is made again by the next build.
        """

    @property
    def size(self) -> int:
        """Larger sources begin first, so that none is left alone at the end."""


S = TypeVar("S", bound=Source)
Record = dict[str, Any]


class SourceError(ValueError):
    """A source that can't become a shard: one sentence for the user, and a `reason` that groups such sources."""

    reason = "unreadable"


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How a build runs; no field changes the shards.

    `part` (i, n): only every n-th source, from the i-th (1 … n) on, by name: the i-th task of a job array. `verify`:
    every byte of the shards that are there is read; otherwise tars are known by their size, and indexes by their sum.
    """

    workers: Workers = dataclasses.field(default_factory=Workers)
    part: tuple[int, int] | None = None
    max_failures: int | None = None
    verify: bool = False

    def __post_init__(self) -> None:
        if self.part and not 1 <= self.part[0] <= self.part[1]:
            raise ValueError(f"part must be i/n with i from 1 to n, not {self.part[0]}/{self.part[1]}.")

    @property
    def part_name(self) -> str:
        """`_part3of8`, for the names of files that a part writes for itself; empty for a whole build."""
        return f"_part{self.part[0]}of{self.part[1]}" if self.part else ""


class Failure(NamedTuple):
    """Why a source became no shard: a word or two to group by, and a sentence."""

    reason: str
    sentence: str


@dataclasses.dataclass
class Summary:
    """What a build did. `left_out`: candidates that became no tile, by reason. `empty`: slide → why it has no tile,
    though it should have some. `warnings`: slide → what is doubtful, by `source.warnings` of its record. `captions`:
    slide → its outcome. `damaged`: slide → what was wrong with its shard, which was made again.
    """

    made: int = 0
    up_to_date: int = 0
    tiles: int = 0
    without_tiles: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # by status
    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    empty: dict[str, str] = dataclasses.field(default_factory=dict)
    warnings: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    failures: dict[str, Failure] = dataclasses.field(default_factory=dict)
    captions: dict[str, str] = dataclasses.field(default_factory=dict)
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)
    not_begun: int = 0  # given up after too many failures

    def count(self, record: Record, made: bool) -> None:
        self.made += made
        self.up_to_date += not made
        self.tiles += record["tiles"]
        self.left_out.update({reason: count for reason, count in record["counts"].items() if count})
        if not record["tiles"]:
            self.without_tiles[record["status"]] += 1
        if record["status"] == "no_tiles":
            reasons = collections.Counter({name: count for name, count in record["counts"].items() if count})
            self.empty[record["slide"]] = _listed(reasons) or "there is no place for a whole tile"
        if doubts := record["source"].get("warnings"):
            self.warnings[record["slide"]] = doubts
        status = record["status"].replace("_", " ")
        self.captions[record["slide"]] = f"{record['tiles']:,} tiles" if record["tiles"] else status

    @property
    def share_empty(self) -> float:
        """Share of the shards, 0 … 1, that should have tiles and have none."""
        return len(self.empty) / max(1, self.made + self.up_to_date)

    def fail(self, slide: str, failure: Failure) -> None:
        self.failures[slide] = failure
        self.captions[slide] = f"failed: {failure.reason}"

    def __str__(self) -> str:
        done = self.made + self.up_to_date
        nothing_to_do = not self.made and not self.failures
        status = "up to date" if nothing_to_do else f"{self.made:,} made, {self.up_to_date:,} up to date"
        empty = f" ({_listed(self.without_tiles)})" if self.without_tiles else ""
        failed = f" ({_listed(collections.Counter(f.reason for f in self.failures.values()))})" if self.failures else ""
        sentence = (
            f"{done:,} shards ({status}): {self.tiles:,} tiles, {self.without_tiles.total():,} without tiles{empty}; "
            f"left out: {_listed(self.left_out) or 'nothing'}; {len(self.failures):,} failed{failed}"
        )
        given_up = f"; {self.not_begun:,} not begun after so many failures" if self.not_begun else ""
        return f"{sentence}{given_up}."


def build_shards(
    sources: Iterable[S],
    make: Callable[[S], Record],
    folder: Path | str,
    options: dict[str, Any],
    how: BuildOptions | None = None,
    renew: Callable[[S, Record], Record | None] | None = None,
) -> Summary:
    """Make the shards that are missing, or whose source or options changed, and then the folder's digest.

    `make` commits the shard of a source and returns its record. `renew` is called where a source has another stamp
    than its earlier record: it may find that the record still holds, and return it with the new stamp. Workers run
    both, so they must be picklable.

    A source that fails is listed, in `failures.csv` too, and the shard that it may have from before stays; the others
    are finished and kept. After `max_failures` no more are begun. A full disk stops the build. A folder of another
    tile_px or mpp is refused. Damaged shards are made again; those of slides that aren't among the sources count as
    failed, and a damaged record of such a slide raises `ValueError`. Builds of the same options may run in a folder at
    the same time, as parts do; where one of others runs, `FolderInUse` is raised.
    """
    with locked(folder, "rnagan build-tiles", sha256_of(options)):
        return _build(list(sources), make, Path(folder), options, how or BuildOptions(), renew)


def _build(
    sources: list[S],
    make: Callable[[S], Record],
    folder: Path,
    options: dict[str, Any],
    how: BuildOptions,
    renew: Callable[[S, Record], Record | None] | None,
) -> Summary:
    remove_leftovers(folder)
    broken: dict[str, str] = {}
    records = {record["slide"]: record for record in read_records(folder, broken)}
    lost = lost_records(folder, records.values())
    _refuse_other_kind(records, folder, options)
    names = collections.Counter(source.slide for source in sources)
    if repeated := sorted(name for name, count in names.items() if count > 1):
        raise ValueError(f"Several sources would become one shard ({first_few(repeated)}); rename or remove some.")
    for slide in sorted(broken.keys() - names.keys()):
        raise ValueError(f"{folder}/{slide}{RECORD} {broken[slide]}; delete it, or give its slide too.")
    if how.part:
        sources = sorted(sources, key=lambda source: source.slide)[how.part[0] - 1 :: how.part[1]]
    digest, summary = sha256_of(options), Summary()
    wanted = {source.slide for source in sources}
    for slide in broken.keys() & wanted:  # it commits nothing
        summary.damaged[slide] = f"{slide}{RECORD} {broken[slide]}"
        (folder / (slide + RECORD)).unlink(missing_ok=True)
    current = [name for name in sorted(wanted & records.keys()) if records[name]["options_digest"] == digest]
    summary.damaged |= _damaged(folder, {name: records[name] for name in current}, how)
    todo: list[tuple[S, Record | None]] = []
    for source in sources:
        earlier = records[source.slide] if source.slide in current and source.slide not in summary.damaged else None
        if earlier and all(earlier["source"].get(name) == value for name, value in source.stamp.items()):
            summary.count(earlier, made=False)
        else:
            todo.append((source, earlier))
    todo.sort(key=lambda item: (-item[0].size, item[0].slide))
    with progress.bar(len(sources), "slide", "tiles", initial=summary.up_to_date) as bar:
        outcomes = run_each(functools.partial(_make_or_renew, make, renew, folder), todo, how.workers)
        for (source, _), outcome in outcomes:
            if isinstance(outcome, Exception):
                summary.fail(source.slide, _failure(outcome))
            else:
                summary.count(*outcome)
            bar.set_postfix_str(f"{summary.tiles:,} tiles, {len(summary.failures):,} failed", refresh=False)
            bar.update()
            if how.max_failures and len(summary.failures) >= how.max_failures:
                summary.not_begun = len(sources) - summary.made - summary.up_to_date - len(summary.failures)
                outcomes.close()
                break
    others = {slide: f"{slide}{RECORD} {problem}" for slide, problem in lost.items() if slide not in names}
    for slide in sorted(records.keys() - names.keys()):
        if problem := shard_problem(folder, records[slide]):
            others[slide] = problem
    for slide, problem in others.items():
        summary.fail(slide, Failure("damaged", f"{folder}/{problem}; give its slide too, to make it again."))
    summary.failures, summary.empty = dict(sorted(summary.failures.items())), dict(sorted(summary.empty.items()))
    summary.warnings = dict(sorted(summary.warnings.items()))
    _write_failures(folder, how, summary.failures)
    if any(folder.glob("*" + RECORD)):
        write_digest(folder, being_made=names.keys() - wanted)
    else:
        for name in ("dataset.json", "slides.parquet"):
            (folder / name).unlink(missing_ok=True)
    return summary


def _make_or_renew(
    make: Callable[[S], Record],
    renew: Callable[[S, Record], Record | None] | None,
    folder: Path,
    item: tuple[S, Record | None],
) -> tuple[Record, bool]:
    """The record, and whether the shard was made anew. Runs in a worker."""
    source, earlier = item
    if renew and earlier and (renewed := renew(source, earlier)):
        write_record(folder, renewed)
        return renewed, False
    return make(source), True


def _failure(error: Exception) -> Failure:
    """What an error says of its source; one that concerns the whole build, as a full disk does, is raised."""
    if isinstance(error, OSError) and error.errno in CONCERNS_ALL:
        raise error
    match error:
        case SourceError():
            return Failure(error.reason, str(error))
        case WorkerDied():
            return Failure("worker died", str(error))
        case FileNotFoundError():
            return Failure("missing", in_words(error))
        case OSError():
            return Failure("unreadable", in_words(error))
        case ValueError():
            return Failure("unreadable", str(error))
    return Failure("unexpected", f"{type(error).__name__}: {error}; this should not happen, please report it.")


def _damaged(folder: Path, records: dict[str, Record], how: BuildOptions) -> dict[str, str]:
    """What is wrong with shards that are there, by slide; where tars aren't to be read, what a quick look finds."""
    found = {name: problem for name, record in records.items() if (problem := shard_problem(folder, record))}
    if how.verify:
        whole = sorted(records.keys() - found.keys())
        with progress.bar(len(whole), "slide", "verify") as bar:
            for name, report in run_each(functools.partial(check_slide, folder), whole, how.workers):
                if isinstance(report, OSError):
                    found[name] = f"{name} couldn't be read ({report.strerror or report})"
                elif isinstance(report, Exception):
                    raise report
                elif report.findings:
                    found[name] = f"{report.findings[0].file} {report.findings[0].problem.partition(';')[0]}"
                bar.update()
    return found


def _write_failures(folder: Path, how: BuildOptions, failures: dict[str, Failure]) -> None:
    """Write the list of failures of this run, if there are any. Lists of builds in other parts are deleted."""
    path = folder / f"failures{how.part_name}.csv"
    for other in folder.glob("failures*.csv"):
        if not how.part or not other.stem.endswith(f"of{how.part[1]}"):
            other.unlink(missing_ok=True)
    if not failures:
        if path.exists():  # a disk that can't be written says so even of a file that isn't there
            path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["slide", *Failure._fields])
    table.writerows([safe(cell) for cell in (slide, *failure)] for slide, failure in failures.items())
    write_text(path, text.getvalue())


def _listed(counts: collections.Counter[str]) -> str:
    return ", ".join(f"{counts[reason]:,} {reason}" for reason in sorted(counts))


def _refuse_other_kind(records: dict[str, Record], folder: Path, options: dict[str, Any]) -> None:
    asked = kind_of(options)
    kind = name_kind(asked) if isinstance(asked, TileKind) else str(asked)
    for slide, record in records.items():
        present = kind_of_record(folder, record)
        if present != asked:
            raise ValueError(f"{folder} already holds {present} ({slide}, …); choose another --out for {kind}.")
