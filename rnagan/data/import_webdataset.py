"""Adopts WebDataset tars made by others: writes an index and a record beside each, and leaves the tar as it is."""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnagan.cohort.slide_ids import check_shard_name
from rnagan.data.image_codec import EXTENSIONS, image_size
from rnagan.data.manifest import (
    INDEX,
    INDEX_SUM,
    TAR,
    kind_of_record,
    make_record,
    read_records,
    write_index,
    write_record,
)
from rnagan.data.set_digest import write_digest
from rnagan.data.shard_schema import TileKind, is_positive, name_kind, same_mpp
from rnagan.data.tars import Member, scan_tar
from rnagan.data.verify import Finding, index_rows, sample_problems
from rnagan.io.files import atomic_path, remove_leftovers, sha256_of_file
from rnagan.io.tables import first_few
from rnagan.runtime import progress
from rnagan.runtime.workers import Workers, run_each

PEEKED = 16  # members of a tar, enough for one sample
_COMPRESSED = re.compile(r".*\.(tar\.(gz|bz2|xz|zst|lz4|Z)|tgz|tbz2?|txz)")


class Refusal(Exception):  # noqa: N818
    """Why a tar can't be adopted, a phrase."""


def adopt_folder(
    folder: Path | str, mpp: float | None = None, seed: int = 0, workers: Workers | None = None
) -> tuple[list[str], list[Finding]]:
    """Adopt every tar of a folder that has no record; returns the slides adopted, and what is wrong with the others.

    `mpp`: resolution that the images stand for; needed where the samples' json doesn't say it, and where it says some
    that differ by a percent or two. `seed` draws the order of the index: the first n of it are a uniform draw, whatever
    order the tar has. Tars of several kinds are refused, by their first samples, before anything is written; what was
    adopted when a run is killed stays so.
    """
    folder, workers = Path(folder), workers or Workers()
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    kinds = _kinds_of_records(folder)
    known = set(kinds)
    tars = [
        path
        for path in sorted(folder.iterdir())
        if (path.suffix == TAR or _COMPRESSED.fullmatch(path.name)) and path.name.removesuffix(TAR) not in known
    ]
    if not tars and not known:
        raise FileNotFoundError(f"{folder} holds no tar.")
    remove_leftovers(folder)
    findings, looked_into = [], []
    for path, found in run_each(functools.partial(peek, mpp), tars, workers):
        if isinstance(found, Exception):
            findings.append(_refused(path, found))
        else:
            kinds[path.name.removesuffix(TAR)] = found
            looked_into.append(path)
    if not looked_into and not known:
        return [], sorted(findings)
    kind = _the_one_kind(folder, kinds)
    adopted = []
    with progress.bar(sum(path.stat().st_size for path in looked_into), "B", "adopt", scale=True) as bar:
        adopt = functools.partial(adopt_tar, kind, mpp is not None, seed)
        for path, outcome in run_each(adopt, sorted(looked_into), workers):
            if isinstance(outcome, Exception):
                findings.append(_refused(path, outcome))
            else:
                adopted.append(outcome)
            bar.update(path.stat().st_size)
    if adopted or known:
        write_digest(folder)
    return sorted(adopted), sorted(findings)


def peek(mpp: float | None, path: Path) -> TileKind:
    """The kind of a tar's first sample; `Refusal` where its name or its beginning is none of ours."""
    if path.suffix != TAR:
        raise Refusal("is compressed, and tiles are read by offset; unpack it to a plain .tar")
    try:
        check_shard_name(path.name.removesuffix(TAR))
    except ValueError as error:
        raise Refusal(f"{str(error).rstrip('.')}; rename it") from None
    sizes: dict[tuple[int, int], None] = {}
    scan = scan_tar(path, functools.partial(_note_size, sizes), most=PEEKED)
    if scan.problems or not sizes:  # the whole tar may still have one
        raise Refusal([*scan.problems, *sample_problems(scan.members), "has no image among its first members"][0])
    (width, height), *_ = sizes
    if width != height:
        raise Refusal(_sizes_problem(sizes))
    return TileKind(width, mpp if mpp is not None else next(filter(is_positive, _stated_mpp(scan.members)), None))


def adopt_tar(kind: TileKind, mpp_given: bool, seed: int, path: Path) -> str:
    """Write the index and then the record of a tar whose images are all of `kind`, and return its slide.

    Raises `Refusal` otherwise.
    """
    slide, sizes = path.name.removesuffix(TAR), dict[tuple[int, int], None]()
    scan = scan_tar(path, functools.partial(_note_size, sizes))
    if problems := [*scan.problems, *sample_problems(scan.members)]:
        raise Refusal(problems[0])
    if set(sizes) != {(kind.tile_px, kind.tile_px)}:
        raise Refusal(_sizes_problem(sizes))
    for value in _stated_mpp(scan.members):
        if not (same_mpp(value, kind.mpp) or (mpp_given and value is None)):
            others = "--mpp is" if mpp_given else "others say"
            raise Refusal(f"says mpp {_name_mpp(value)} in its json, and {others} {_name_mpp(kind.mpp)}")
    tiles = sum(member.extension in EXTENSIONS for member in scan.members)
    options = {**kind.facts, "seed": seed}
    source = {"adopted": True, "file": path.name}
    record = make_record(slide, "done", tiles, {}, source, options, {}, scan.sha256, scan.bytes)
    with atomic_path(path.with_name(slide + INDEX)) as temporary:
        write_index(temporary, index_rows(scan.members, record))
        record[INDEX_SUM] = sha256_of_file(temporary)
    write_record(path.parent, record)
    return slide


def _kinds_of_records(folder: Path) -> dict[str, TileKind]:
    kinds = {}
    for record in read_records(folder):
        kind = kind_of_record(folder, record)
        if not isinstance(kind, TileKind):
            raise ValueError(f"{folder} holds {kind}, and only tars of tiles are adopted.")
        kinds[record["slide"]] = kind
    return kinds


def _the_one_kind(folder: Path, kinds: dict[str, TileKind]) -> TileKind:
    slides: dict[TileKind, list[str]] = {}
    for slide, kind in sorted(kinds.items()):
        slides.setdefault(kind, []).append(slide)
    if len(slides) > 1:
        listed = "; ".join(sorted(f"{name_kind(kind)}: {first_few(names)}" for kind, names in slides.items()))
        raise ValueError(
            f"{folder} mixes tiles of several kinds ({listed}); move each kind to a folder of its own, "
            "or say with --mpp what they all stand for."
        )
    return next(iter(slides))


def _refused(path: Path, error: Exception) -> Finding:
    if isinstance(error, Refusal):
        return Finding(path.name, str(error))
    if isinstance(error, OSError):
        return Finding(path.name, f"couldn't be read ({error.strerror or error}); see to that and start again")
    raise error


def _note_size(sizes: dict[tuple[int, int], None], data: bytes) -> str | None:
    try:
        sizes[image_size(data)] = None
    except ValueError as error:
        return f"which {error}"
    return None


def _sizes_problem(sizes: Iterable[tuple[int, int]]) -> str:
    first = ", ".join(f"{width} × {height}" for width, height in sorted(sizes)[:4])
    return f"has images of {first} px; all must be square and of one size"


def _name_mpp(value: Any) -> str:
    return "nothing" if value is None else f"{value:g}" if is_positive(value) else repr(value)[:20]


def _stated_mpp(members: list[Member]) -> list[Any]:
    """What the samples' json say of mpp, each value once; None stands for those that say nothing."""
    said: dict[str, Any] = {member.key: None for member in members if member.extension in EXTENSIONS}
    said |= {member.key: member.about.get("mpp") for member in members if member.about}
    return list(dict.fromkeys(said.values()))
