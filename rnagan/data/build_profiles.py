"""Builds profile shards from an .h5ad. Profiles of further files are added as further shards, and none comes twice.

The profiles that a build adds are dealt into shards once, as `deal` has it. Each record names the dealing of its
shard, so a build that was killed goes on with the same one, and equal profiles give equal tars.
"""

import contextlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rnagan.data.manifest import (
    GENES,
    INDEX,
    RECORD,
    kind_of_record,
    lost_records,
    read_genes,
    read_records,
    shard_problem,
)
from rnagan.data.npy_codec import encode_profile
from rnagan.data.profile_layout import PER_SHARD, deal
from rnagan.data.sampler import Indices
from rnagan.data.set_digest import write_digest, write_table
from rnagan.data.shard_schema import ProfileKind, genes_digest
from rnagan.data.writer import ShardWriter
from rnagan.expression.h5ad import StoredExpression, open_expression
from rnagan.io.files import remove_leftovers, sha256_of
from rnagan.io.parquet import read_parquet
from rnagan.io.tables import first_few
from rnagan.runtime import progress


class _Dealing(NamedTuple):
    """Profiles that were dealt together into shards number `first` … `first + shards − 1`."""

    first: int
    shards: int
    digest: str  # of what decides it


class _Present(NamedTuple):
    """What a folder holds: the CRC-32 of each sample's .npy, the samples of each whole shard, what is wrong with broken
    ones."""

    crc_of: dict[str, int]
    samples_of: dict[str, list[str]]
    broken: dict[str, str]
    dealings: list[_Dealing]  # by first


def build_profiles(expression: Path, out: Path, per_shard: int = PER_SHARD, seed: int = 0) -> list[str]:
    """Write the profiles of an .h5ad that `out` lacks into shards there; returns lines that say what happened.

    Refuses, by `ValueError`, a folder of tiles, of other genes or units, or made with another `per_shard` or `seed`,
    and a profile that is there already with other values. One shard's profiles are in memory at a time.
    """
    with open_expression(expression) as data:
        samples, genes = data.obs.index.tolist(), pd.DataFrame({"gene": data.genes, "symbol": data.symbols})
        _check_samples(samples, expression)
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        damaged: dict[str, str] = {}
        records = list(read_records(out, damaged))
        kind = _agree_on_genes(out, records, genes, data.units, expression)
        _refuse_other_settings(out, records, {"per_shard": per_shard, "seed": seed})
        present = _look_at(out, records)
        lost = lost_records(out, records) | damaged
        dealing, todo = _plan(samples, present, _samples_of_lost(out, lost), per_shard, seed)
        for name in sorted(damaged.keys() - todo.keys()):
            raise ValueError(f"{out}/{name}{RECORD} {damaged[name]}; start with the .h5ad that its shard was made of.")
        if still_broken := sorted(present.broken.keys() - todo.keys()):
            raise ValueError(
                f"{out}/{present.broken[still_broken[0]]}; mend it with "
                "rnagan check-shards --repair, or start with the .h5ad that it was made of."
            )
        _compare(data, samples, present, out)
        options = {**kind.facts, "per_shard": per_shard, "seed": seed}
        source = {"file": expression.name, "dealing": dealing.digest, "first": dealing.first, "shards": dealing.shards}
        with progress.bar(sum(map(len, todo.values())), "profile", "profiles") as bar:
            for name, rows in todo.items():
                _write_shard(out, name, [samples[row] for row in rows], data.rows(rows), source, options)
                bar.update(len(rows))
    dataset = write_digest(out)
    made = f"{len(todo):,} shards made" if todo else "up to date"
    return [
        f"{out}: {dataset['tiles']:,} profiles of {kind.genes:,} genes in {kind.units}, "
        f"{dataset['slides']:,} shards ({made}).",
        *(
            f"Warning: {name}{RECORD} {problem}: its profiles are no more in the set, unless they are in this file; "
            "start with the .h5ad that they are from."
            for name, problem in lost.items()
            if name not in todo
        ),
    ]


def shard_name(number: int) -> str:
    """The name of a profile shard."""
    return f"profiles-{number:05d}"


def _write_shard(
    out: Path,
    name: str,
    samples: list[str],
    values: NDArray[np.float32],
    source: dict[str, Any],
    options: dict[str, Any],
) -> None:
    with ShardWriter(out, name) as shard:
        for place, (sample, profile) in enumerate(zip(samples, values, strict=True)):
            shard.add_profile(f"{name}_n{place}", encode_profile(profile), sample, options["units"])
        shard.commit("done", {}, source, options, {"numpy": np.__version__})


def _check_samples(samples: list[str], expression: Path) -> None:
    if not samples:
        raise ValueError(f"{expression} holds no profile.")
    twice = pd.Index(samples)[pd.Index(samples).duplicated()]
    if len(twice) or "" in samples:
        what = f"two profiles of sample {twice[0]}" if len(twice) else "a profile without a sample id"
        raise ValueError(f"{expression} holds {what}; give each a name of its own.")


def _agree_on_genes(
    out: Path, records: list[dict[str, Any]], genes: pd.DataFrame, units: str, expression: Path
) -> ProfileKind:
    """The kind of the folder's shards, with its genes.parquet in place; symbols are those of the first build."""
    ours = kind = ProfileKind(len(genes), units, genes_digest(genes, units))
    stored = None
    if records:
        present = kind_of_record(out, records[0])
        if not isinstance(present, ProfileKind):
            raise ValueError(f"{out} holds {present}; choose another --out for profiles.")
        kind, stored = present, read_genes(out, present)
    same = kind == ours if stored is None else (stored["gene"].tolist(), kind.units) == (genes["gene"].tolist(), units)
    if not same:
        raise ValueError(
            f"{expression} holds {ours}, and {out} {kind}: genes, their order and units must be the same; choose "
            "another --out."
        )
    if stored is None:
        write_table(out / GENES, genes)
    return kind


def _refuse_other_settings(out: Path, records: list[dict[str, Any]], settings: dict[str, int]) -> None:
    for record in records:
        for name, value in settings.items():
            before = record["options"].get(name)
            if before != value:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{out} was made with {option} {before}, not {value}; give that, or another --out.")


def _samples_of_lost(out: Path, lost: Iterable[str]) -> dict[str, set[str]]:
    """Whose profiles the shards without a whole record hold, as their indexes say, where these can be read."""
    held = {}
    for name in lost:
        with contextlib.suppress(pa.ArrowException, OSError, ValueError, KeyError):
            held[name] = set(read_parquet(out / (name + INDEX), ["sample"])["sample"])
    return held


def _look_at(out: Path, records: list[dict[str, Any]]) -> _Present:
    present = _Present({}, {}, {}, [])
    for record in records:
        name, source = record["slide"], record["source"]
        try:
            dealing = _Dealing(source["first"], source["shards"], source["dealing"])
        except KeyError:
            problem = "doesn't say with which profiles its shard was dealt"
            raise ValueError(f"{out}/{name}{RECORD} {problem}; delete it and start again.") from None
        if dealing not in present.dealings:
            present.dealings.append(dealing)
        if wrong := shard_problem(out, record):
            present.broken[name] = wrong
            continue
        index = read_parquet(out / (name + INDEX), ["sample", "crc32"])
        present.samples_of[name] = index["sample"].tolist()
        present.crc_of.update(zip(index["sample"], index["crc32"].tolist(), strict=True))
    present.dealings.sort()
    return present


def _plan(
    samples: list[str], present: _Present, lost: dict[str, set[str]], per_shard: int, seed: int
) -> tuple[_Dealing, dict[str, Indices]]:
    """The dealing, and the shards of it that are to be written, by name, with the rows of their profiles.

    It is one that was begun with the profiles of this file and lacks shards, or else a new one of those not there.
    The names of shards that have `lost` their records are taken again by their own profiles alone.
    """
    earlier: set[str] = set()
    for dealing in present.dealings:
        left = [row for row, sample in enumerate(samples) if sample not in earlier]
        if _digest([samples[row] for row in left], per_shard, seed) == dealing.digest:
            shards = _dealt(samples, left, dealing.first, per_shard, seed)
            todo = {name: rows for name, rows in shards.items() if name not in present.samples_of}
            if todo and not any(samples[row] in present.crc_of for rows in todo.values() for row in rows):
                return dealing, todo
        for number in range(dealing.first, dealing.first + dealing.shards):
            earlier.update(present.samples_of.get(shard_name(number), []))
    left = [row for row, sample in enumerate(samples) if sample not in present.crc_of]
    first = max((dealing.first + dealing.shards for dealing in present.dealings), default=0)
    todo = _dealt(samples, left, first, per_shard, seed)
    if any(not held <= {samples[row] for row in todo[name]} for name, held in lost.items() if name in todo):
        numbers = [name.rpartition("-")[2] for name in lost]
        first = max(first, *(int(number) + 1 for number in numbers if number.isdigit()))
        todo = _dealt(samples, left, first, per_shard, seed)
    return _Dealing(first, len(todo), _digest([samples[row] for row in left], per_shard, seed)), todo


def _dealt(samples: list[str], left: list[int], first: int, per_shard: int, seed: int) -> dict[str, Indices]:
    shards = deal([samples[row] for row in left], seed, per_shard)
    return {shard_name(first + number): np.array(left)[rows] for number, rows in enumerate(shards)}


def _digest(samples: Sequence[str], per_shard: int, seed: int) -> str:
    return sha256_of([sorted(samples), per_shard, seed])


def _compare(data: StoredExpression, samples: list[str], present: _Present, out: Path) -> None:
    """Refuse a profile that is there already with other values."""
    both = np.array([row for row, sample in enumerate(samples) if sample in present.crc_of], np.int64)
    differs, at = [], 0
    for block in data.blocks(both):
        for row, profile in zip(both[at : at + len(block)].tolist(), block, strict=True):
            if zlib.crc32(encode_profile(profile)) != present.crc_of[samples[row]]:
                differs.append(samples[row])
        at += len(block)
    if differs:
        raise ValueError(
            f"{len(differs):,} profiles of {data.path} ({first_few(differs)}) are in {out} with other values; choose "
            "another --out."
        )
