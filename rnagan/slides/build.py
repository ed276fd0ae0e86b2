"""Runs one job a slide over processes, skips what is done, keeps what succeeds, lists what fails."""

import collections
import concurrent.futures
import dataclasses
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rnagan import progress
from rnagan.data.writer import name_kind, read_records, write_digest
from rnagan.files import sha256_of
from rnagan.workers import worker_pool


@dataclasses.dataclass(frozen=True)
class Job:
    """One shard to make. `make` is picklable, commits the shard and returns its record.

    `stamp` tells an unchanged source without opening it: each of its items must equal the record's `source`.
    """

    slide: str
    stamp: dict[str, Any]
    make: Callable[[], dict[str, Any]]


@dataclasses.dataclass
class Summary:
    """What a build did. `failures`: slide → reason. `left_out`: candidates that became no tile, by reason."""

    made: int = 0
    up_to_date: int = 0
    tiles: int = 0
    empty: int = 0
    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def count(self, record: dict[str, Any]) -> None:
        self.tiles += record["tiles"]
        self.empty += not record["tiles"]
        self.left_out.update(record["counts"])

    def __str__(self) -> str:
        done = self.made + self.up_to_date
        nothing_to_do = not self.made and not self.failures
        status = "up to date" if nothing_to_do else f"{self.made:,} made, {self.up_to_date:,} up to date"
        reasons = ", ".join(f"{self.left_out[reason]:,} {reason}" for reason in sorted(self.left_out))
        return (
            f"{done:,} shards ({status}): {self.tiles:,} tiles, {self.empty:,} without tiles; "
            f"left out: {reasons or 'nothing'}; {len(self.failures):,} failed."
        )


def build_shards(jobs: list[Job], folder: Path | str, options: dict[str, Any], processes: int = 1) -> Summary:
    """Make the shards that are missing, or whose source or options changed, and then the folder's digest.

    A job that fails (`ValueError`, `OSError`) is listed, and the shard that its slide may have from before stays; the
    others are finished and kept. A full disk stops the build. A folder of another tile_px or mpp is refused.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = {record["slide"]: record for record in read_records(folder)}
    _refuse_other_kind(records, folder, options)
    digest, summary, todo = sha256_of(options), Summary(), []
    for job in jobs:
        record = records.get(job.slide)
        if record and record["options_digest"] == digest and job.stamp.items() <= record["source"].items():
            summary.up_to_date += 1
            summary.count(record)
        else:
            todo.append(job)
    with progress.bar(len(jobs), "slide", "tiles", initial=summary.up_to_date) as bar:
        for slide, outcome in _run(todo, min(processes, len(todo))):
            if isinstance(outcome, str):
                summary.failures[slide] = outcome
            else:
                summary.made += 1
                summary.count(outcome)
            bar.update()
    if any(read_records(folder)):
        write_digest(folder)
    else:
        for name in ("dataset.json", "slides.parquet"):
            (folder / name).unlink(missing_ok=True)
    summary.failures = dict(sorted(summary.failures.items()))
    return summary


def _run(jobs: list[Job], processes: int) -> Iterator[tuple[str, dict[str, Any] | str]]:
    if processes <= 1:
        for job in jobs:
            yield job.slide, _attempt(job)
        return
    with worker_pool(processes) as pool:
        futures = {pool.submit(_attempt, job): job.slide for job in jobs}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()


def _attempt(job: Job) -> dict[str, Any] | str:
    """The record, or the reason for the failure."""
    try:
        return job.make()
    except ValueError as error:
        return str(error)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        return str(error)


def _refuse_other_kind(records: dict[str, dict], folder: Path, options: dict[str, Any]) -> None:
    asked = name_kind(options["tile_px"], options["mpp"])
    for slide, record in records.items():
        present = name_kind(record["options"]["tile_px"], record["options"]["mpp"])
        if present != asked:
            raise ValueError(
                f"{folder} already holds tiles of {present} ({slide}, …); choose another --out for {asked}."
            )
