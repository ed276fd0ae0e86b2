"""Adopts WebDataset tars made by others: writes an index and a record beside each, and leaves the tar as it is."""

import functools
from pathlib import Path
from typing import Any

from rnagan import __version__, progress
from rnagan.cohort.names import check_shard_name
from rnagan.data.check import Finding, index_rows, read_description, sample_problems
from rnagan.data.images import EXTENSIONS, image_size
from rnagan.data.records import (
    INDEX,
    RECORD_FORMAT,
    TAR,
    VERSION,
    name_kind,
    read_records,
    write_digest,
    write_index,
    write_record,
)
from rnagan.data.tars import Member, scan_tar
from rnagan.files import atomic_path, sha256_of
from rnagan.tables import first_few
from rnagan.workers import Workers, run_each


def adopt_folder(
    folder: Path | str, mpp: float | None = None, seed: int = 0, workers: Workers | None = None
) -> tuple[list[str], list[Finding]]:
    """Adopt every tar of a folder that has no record; returns the slides adopted, and what is wrong with the others.

    `mpp`: resolution of the images, where the samples' json doesn't say it. `seed` draws the order of the index: the
    first n of it are a uniform draw, whatever order the tar has. Tiles of several kinds are refused: nothing is
    written then.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    known = {record["slide"]: record for record in read_records(folder)}
    tars = [path for path in sorted(folder.glob("*.tar*")) if path.name.removesuffix(TAR) not in known]
    if not tars and not known:
        raise FileNotFoundError(f"{folder} holds no tar.")
    records, findings = [], []
    with progress.bar(len(tars), "tar", "adopt") as bar:
        for _, outcome in run_each(functools.partial(look_into, mpp, seed), tars, workers or Workers()):
            if isinstance(outcome, Finding):
                findings.append(outcome)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                records.append(outcome)
            bar.update()
    kinds: dict[str, list[str]] = {}
    for record in [*known.values(), *(record for record, _ in records)]:
        kind = name_kind(record["options"]["tile_px"], record["options"]["mpp"])
        kinds.setdefault(kind, []).append(record["slide"])
    if len(kinds) > 1:
        told = "; ".join(f"{kind}: {first_few(sorted(slides))}" for kind, slides in sorted(kinds.items()))
        raise ValueError(f"{folder} mixes tiles of several kinds ({told}); move each kind to a folder of its own.")
    for record, rows in sorted(records, key=lambda pair: pair[0]["slide"]):
        with atomic_path(folder / (record["slide"] + INDEX)) as temporary:
            write_index(temporary, rows)
        write_record(folder, record)
    if records:
        write_digest(folder)
    return sorted(record["slide"] for record, _ in records), sorted(findings)


def look_into(mpp: float | None, seed: int, path: Path) -> tuple[dict[str, Any], list[Any]] | Finding:
    """The record and the index rows of a tar, or why it can't be adopted."""
    if path.suffix != TAR:
        return Finding(path.name, "is compressed, and tiles are read by offset; unpack it to a plain .tar")
    try:
        slide = check_shard_name(path.name.removesuffix(TAR))
    except ValueError as error:
        return Finding(path.name, f"{str(error).rstrip('.')}; rename it")
    sizes: set[tuple[int, int]] = set()
    scan = scan_tar(path, functools.partial(_note_size, sizes))
    problems = [*scan.problems, *sample_problems(scan.members)]
    if not problems and (len(sizes) != 1 or len(set(next(iter(sizes)))) != 1):
        told = ", ".join(f"{width} × {height}" for width, height in sorted(sizes)[:4])
        problems.append(f"has images of {told} px; all must be square and of one size")
    said = _stated_mpp(scan.members)
    if not problems and mpp is not None and said - {mpp}:
        problems.append(f"says mpp {sorted(said - {mpp})[0]:g} in its json, and --mpp is {mpp:g}")
    if not problems and len(said) > 1:
        problems.append(f"has tiles of several mpp ({', '.join(f'{value:g}' for value in sorted(said)[:4])})")
    if problems:
        return Finding(path.name, problems[0])
    options = {"tile_px": next(iter(sizes))[0], "mpp": mpp if mpp is not None else next(iter(said), None), "seed": seed}
    record: dict[str, Any] = {
        "format": RECORD_FORMAT,
        "version": VERSION,
        "slide": slide,
        "status": "done",
        "tiles": sum(member.extension in EXTENSIONS for member in scan.members),
        "counts": {},
        "sha256": scan.sha256,
        "bytes": scan.bytes,
        "source": {"adopted": True, "file": path.name},
        "options": options,
        "options_digest": sha256_of(options),
        "versions": {"rnagan": __version__},
    }
    return record, index_rows(scan.members, record)


def _note_size(sizes: set[tuple[int, int]], data: bytes) -> str | None:
    try:
        sizes.add(image_size(data))
    except ValueError as error:
        return f"which is {error}"
    return None


def _stated_mpp(members: list[Member]) -> set[float]:
    """Every mpp that a sample's json says."""
    said = {(read_description(member) or {}).get("mpp") for member in members if member.extension == "json"}
    return {float(value) for value in said if isinstance(value, int | float) and not isinstance(value, bool)}
