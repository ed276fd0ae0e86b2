"""Slides to shards: tissue, grid, tiles without background, in a seeded random order (paper: STAR Methods).

One slide goes one way: open it (slide.py), find candidates on its tissue (grid.py), read and test tiles, store them in
their order (data/writer.py), draw the QC picture (qc.py).
"""

import functools
import importlib.metadata
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.cohort.slide_files import readable_path
from rnagan.cohort.slide_ids import LONGEST_NAME, is_shard_name, printable
from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions, SourceError, Summary, build_shards
from rnagan.data.image_codec import encode_jpeg
from rnagan.data.writer import ShardWriter
from rnagan.runtime import rng
from rnagan.slides.grid import STRIP_PX, Candidates, find_candidates, reading_order
from rnagan.slides.masks import MaskFile
from rnagan.slides.qc import draw_qc, write_contact_sheets
from rnagan.slides.quality import quality_problem
from rnagan.slides.resolution import MissingResolutionError
from rnagan.slides.slide import VERSIONS, DamagedSlideError, Slide
from rnagan.slides.sources import SlideSource

KEPT = "kept"
REASONS = ("background", "ink", "outside", "low_contrast", "out_of_focus", "over_limit")
UNREADABLE = "unreadable"  # a further reason, counted where there are such tiles
MAX_UNREADABLE = 0.25  # share of a slide's tiles
QC_FOLDER = "qc"
WAITING_BYTES = 256 * 2**20  # encoded tiles of a slide that wait in memory for their turn; more wait in a file
VERSIONS_OF_TILES = VERSIONS | {
    name: importlib.metadata.version(name) for name in ("simplejpeg", "pillow", "scikit-image")
}


class UnfitNameError(SourceError):
    """A slide whose file name can't become the name of a shard."""

    reason = "name"


def tile_slides(
    sources: list[SlideSource],
    out_folder: Path | str,
    config: TilingConfig,
    how: BuildOptions | None = None,
    qc: bool = True,
    max_unreadable: float = MAX_UNREADABLE,
) -> Summary:
    """Make a shard of every slide in `sources`; slides that are done and unchanged are skipped.

    A slide of which more than `max_unreadable` of the tiles (a share) can't be read fails; else it lacks those. With
    `qc`, `out_folder/qc` gets a picture of each slide made, and a contact sheet of the run.
    """
    out_folder, how = Path(out_folder).resolve(), how or BuildOptions()
    make = functools.partial(tile_slide, out_folder=out_folder, config=config, qc=qc, max_unreadable=max_unreadable)
    renew = functools.partial(renew_record, config=config)
    summary = build_shards(sources, make, out_folder, config.to_dict(), how, renew)
    if qc and (summary.made or summary.failures):
        write_contact_sheets(out_folder / QC_FOLDER, summary.captions, how.part_name)
    return summary


def tile_slide(
    source: SlideSource | Path,
    out_folder: Path | str,
    config: TilingConfig,
    qc: bool = False,
    max_unreadable: float = MAX_UNREADABLE,
) -> dict[str, Any]:
    """Make the shard of one slide and return its record, of status `done`, `no_tiles` or `skipped` (no resolution).

    Raises `ValueError` or `OSError` with one sentence; the slide then has no record.
    """
    source = source if isinstance(source, SlideSource) else SlideSource(Path(source))
    options, stamp = config.to_dict(), source.stamp
    if not is_shard_name(source.slide):
        raise UnfitNameError(
            f"{source.slide!r} is no name for a shard, which has 1 to {LONGEST_NAME} bytes and no control character; "
            "rename the file, or tile a link to it that has another name."
        )
    with ShardWriter(out_folder, source.slide) as shard:
        try:
            slide = open_slide(source, config)
        except MissingResolutionError as error:
            if config.missing_mpp != "skip":
                raise
            return shard.commit("skipped", {}, {"reason": str(error), **stamp}, options, VERSIONS_OF_TILES)
        with slide:
            identity = {
                "quickhash": slide.quickhash,
                "vendor": slide.vendor,
                "mpp": slide.mpp,
                "mpp_source": slide.mpp_source,
                "width_px": slide.width_px,
                "height_px": slide.height_px,
                "level": slide.plan(config.mpp)[0],
                "decoder": slide.decoder(config.mpp),
                **stamp,
            }
            candidates = find_candidates(slide, source, config)
            if candidates.warnings:
                identity["warnings"] = list(candidates.warnings)
            decided_by = {"mask": source.about_mask} if source.mask else {}
            outcomes = add_tiles(shard, slide, candidates, config, max_unreadable, decided_by)
        reasons = (*REASONS, UNREADABLE) if UNREADABLE in outcomes else REASONS
        counts = {reason: int((outcomes == reason).sum()) for reason in reasons}
        status = "done" if shard.tiles else "no_tiles"
        if qc:
            path = Path(out_folder) / QC_FOLDER / f"{source.slide}.jpg"
            _draw(path, slide, candidates, outcomes, config, status, source.mask)
        return shard.commit(status, counts, identity, options, VERSIONS_OF_TILES)


def open_slide(source: SlideSource, config: TilingConfig) -> Slide:
    """Open a slide with the resolution and the tolerances that table and config give."""
    return Slide(
        readable_path(source.path),
        config.fallback_mpp,
        given_mpp=source.mpp,
        tolerance=config.mpp_tolerance,
        max_upsampling=config.max_upsampling,
    )


def add_tiles(
    shard: ShardWriter,
    slide: Slide,
    candidates: Candidates,
    config: TilingConfig,
    max_unreadable: float,
    provenance: dict[str, Any],
    profiles: Sequence[str] | None = None,
    margin_px: int = 0,
) -> NDArray[np.object_]:
    """Add the tiles to keep, in their random order, and return what became of every candidate.

    `provenance` joins the description of every tile. `profiles`: of each candidate, where tiles have their own. Images
    are stored wider than their tiles by `margin_px` on each side; a candidate's position is then the image's corner.

    Tiles are read along the rows of the slide, so that each of its own tiles is decoded once, and wait encoded until
    their turn: in memory, and beyond `WAITING_BYTES` in a file without a name, which goes with the process. No more are
    read at a time than could be kept, so what is kept is the same as if they were read in the order in which they are
    stored.
    """
    outcomes, positions = candidates.outcomes.copy(), candidates.positions
    order = rng.generator(config.seed, f"tiles/{shard.slide}").permutation(len(candidates.usable))
    order = candidates.usable[order]
    outcomes[order] = "over_limit"
    level, _ = slide.plan(config.mpp)
    strip_px = STRIP_PX * slide.level_downsamples[level]
    stored_mpp = round(slide.footprint_px(config.mpp) * slide.mpp, 6)
    side_px, middle = config.tile_px + 2 * margin_px, slice(margin_px, margin_px + config.tile_px)
    begun = unreadable = 0
    places: dict[int, tuple[int, int]] = {}  # offset and size of each tile that waits
    with tempfile.SpooledTemporaryFile(WAITING_BYTES, dir=str(shard.folder)) as waiting:
        while begun < len(order) and len(places) < config.max_tiles:
            batch = order[begun : begun + config.max_tiles - len(places)]
            begun += len(batch)
            for n in batch[reading_order(positions[batch], strip_px)].tolist():
                x, y = positions[n].tolist()
                try:
                    tile = slide.read(x, y, side_px, config.mpp)
                except DamagedSlideError as error:
                    outcomes[n] = UNREADABLE
                    unreadable += 1
                    if unreadable > max_unreadable * min(len(order), config.max_tiles):
                        raise DamagedSlideError(
                            f"{error} More than {max_unreadable:.0%} of its tiles can't be read (--max-unreadable)."
                        ) from None
                    continue
                outcomes[n] = quality_problem(tile[middle, middle], config) or KEPT
                if outcomes[n] == KEPT:
                    stored = slide.stored_jpeg(x, y, side_px, config.mpp) if config.keep_jpeg else None
                    jpeg = stored or encode_jpeg(tile, config.jpeg_quality)
                    places[n] = waiting.tell(), len(jpeg)
                    waiting.write(jpeg)
        for n in filter(places.__contains__, order[:begun].tolist()):
            x, y = positions[n].tolist()
            offset, size = places[n]
            waiting.seek(offset)
            about = {"slide": shard.slide, "x": x, "y": y, "tile_px": config.tile_px, "mpp": stored_mpp} | provenance
            own = None if profiles is None else profiles[n]
            shard.add(f"{shard.slide}_x{x}_y{y}", waiting.read(size), about, x, y, own)
    return outcomes


def renew_record(source: SlideSource, earlier: dict[str, Any], config: TilingConfig) -> dict[str, Any] | None:
    """The earlier record with the file's new time, where nothing else of the slide has changed: copied, say.

    None where tiles were unreadable: the new copy may be whole.
    """
    if earlier["counts"].get(UNREADABLE):
        return None
    before = {name: earlier["source"].get(name) for name in source.stamp}
    if source.stamp | {"modified_ns": 0} != before | {"modified_ns": 0} or not earlier["source"].get("quickhash"):
        return None
    with open_slide(source, config) as slide:
        same = slide.quickhash == earlier["source"]["quickhash"]
    return earlier | {"source": earlier["source"] | source.stamp} if same else None


def _draw(
    path: Path,
    slide: Slide,
    candidates: Candidates,
    outcomes: NDArray[np.object_],
    config: TilingConfig,
    status: str,
    mask: MaskFile | None,
) -> None:
    footprint_px = config.tile_px * slide.footprint_px(config.mpp)
    width_mm, height_mm = (side * slide.mpp / 1000 for side in (slide.width_px, slide.height_px))
    draw_qc(
        path,
        candidates.thumbnail,
        candidates.masks,
        pd.DataFrame(candidates.positions, columns=["x", "y"]).assign(outcome=outcomes),
        footprint_px,
        candidates.pixel_px,
        [
            path.stem,
            f"{slide.width_px:,} × {slide.height_px:,} px, {width_mm:.1f} × {height_mm:.1f} mm; "
            f"{slide.mpp:.4g} µm per px ({slide.mpp_source}); {status.replace('_', ' ')}",
            *([f"tissue by {printable(mask.path.name)}"] if mask else []),
        ],
        slide.mpp,
    )
