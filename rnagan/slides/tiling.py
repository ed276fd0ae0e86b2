"""Slides to shards: tissue, grid, tiles without background, in a seeded random order (paper: STAR Methods)."""

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
from numpy.typing import NDArray

from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions, Job, Summary, build_shards
from rnagan.data.pile import Pile
from rnagan.data.writer import ShardWriter
from rnagan.runtime import rng
from rnagan.slides.candidates import STRIP_PX, Candidates, find_candidates, reading_order
from rnagan.slides.errors import MissingResolutionError
from rnagan.slides.qc import draw_qc, write_contact_sheets
from rnagan.slides.quality import tile_quality
from rnagan.slides.slide import VERSIONS, Slide
from rnagan.slides.sources import SlideSource

KEPT = "kept"
REASONS = ("background", "ink", "outside", "low_contrast", "out_of_focus", "over_limit")
QC_FOLDER = "qc"
_VERSIONS = VERSIONS | {name: importlib.metadata.version(name) for name in ("simplejpeg", "pillow", "scikit-image")}


def tile_slides(
    sources: list[SlideSource],
    out_folder: Path | str,
    config: TilingConfig,
    how: BuildOptions | None = None,
    qc: bool = True,
) -> Summary:
    """Make a shard of every slide in `sources`; slides that are done and unchanged are skipped.

    With `qc`, `out_folder/qc` gets a picture of each slide made, and a contact sheet of the run.
    """
    out_folder, how = Path(out_folder).resolve(), how or BuildOptions()
    jobs = []
    for source in sources:
        stamp = source.stamp()
        make = functools.partial(tile_slide, source, out_folder, config, qc)
        renew = functools.partial(_renewed, source, config)
        jobs.append(Job(source.slide, stamp, make, renew, size=stamp.get("bytes", 0)))
    summary = build_shards(jobs, out_folder, config.to_dict(), how)
    if qc and (summary.made or summary.failures):
        write_contact_sheets(out_folder / QC_FOLDER, summary.captions, how.part_name)
    return summary


def tile_slide(
    source: SlideSource | Path, out_folder: Path | str, config: TilingConfig, qc: bool = False
) -> dict[str, Any]:
    """Make the shard of one slide and return its record, of status `done`, `no_tiles` or `skipped` (no resolution).

    Raises `ValueError` or `OSError` with one sentence; the slide then has no record.
    """
    source = source if isinstance(source, SlideSource) else SlideSource(Path(source))
    options = config.to_dict()
    with ShardWriter(out_folder, source.slide) as shard:
        try:
            slide = open_slide(source, config)
        except MissingResolutionError as error:
            if config.missing_mpp != "skip":
                raise
            return shard.commit("skipped", {}, {"reason": str(error), **source.stamp()}, options, _VERSIONS)
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
                **source.stamp(),
            }
            candidates = find_candidates(slide, source, config)
            outcomes = _add_tiles(shard, slide, candidates, config)
        counts = {reason: int((outcomes == reason).sum()) for reason in REASONS}
        status = "done" if shard.tiles else "no_tiles"
        if qc:
            _draw(Path(out_folder) / QC_FOLDER / f"{source.slide}.jpg", slide, candidates, outcomes, config, status)
        return shard.commit(status, counts, identity, options, _VERSIONS)


def open_slide(source: SlideSource, config: TilingConfig) -> Slide:
    """Open a slide with the resolution and the tolerances that table and config give."""
    return Slide(
        source.path,
        config.fallback_mpp,
        given_mpp=source.mpp,
        tolerance=config.mpp_tolerance,
        max_upsampling=config.max_upsampling,
    )


def _add_tiles(shard: ShardWriter, slide: Slide, candidates: Candidates, config: TilingConfig) -> NDArray[np.object_]:
    """Add the tiles to keep, in their random order, and return what became of every candidate.

    Tiles are read along the rows of the slide, so that each of its own tiles is decoded once, and wait encoded until
    their turn. No more are read at a time than could be kept, so what is kept is the same as if they were read in the
    order in which they are stored.
    """
    outcomes, positions = candidates.outcomes.copy(), candidates.positions
    order = rng.generator(config.seed, f"tiles/{shard.slide}").permutation(len(candidates.usable))
    order = candidates.usable[order]
    outcomes[order] = "over_limit"
    level, _ = slide.plan(config.mpp)
    strip_px = STRIP_PX * slide.level_downsamples[level]
    stored_mpp = round(slide.footprint_px(config.mpp) * slide.mpp, 6)
    begun = 0
    with Pile(shard.folder) as pile:
        while begun < len(order) and len(pile) < config.max_tiles:
            batch = order[begun : begun + config.max_tiles - len(pile)]
            begun += len(batch)
            for n in batch[reading_order(positions[batch], strip_px)].tolist():
                x, y = positions[n].tolist()
                tile = slide.read(x, y, config.tile_px, config.mpp)
                outcomes[n] = _evaluate(tile, config)
                if outcomes[n] == KEPT:
                    stored = slide.stored_jpeg(x, y, config.tile_px, config.mpp) if config.keep_jpeg else None
                    pile.put(n, stored or encode(tile, config.jpeg_quality))
        for n in order[:begun].tolist():
            if n in pile:
                x, y = positions[n].tolist()
                about = {"slide": shard.slide, "x": x, "y": y, "tile_px": config.tile_px, "mpp": stored_mpp}
                shard.add(f"{shard.slide}_x{x}_y{y}", pile.get(n), about, x, y)
    return outcomes


def encode(tile: NDArray[np.uint8], quality: int) -> bytes:
    """A tile (h, w, 3) uint8 RGB as baseline JPEG without chroma subsampling."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(tile), quality, "RGB", "444")


def _evaluate(tile: NDArray[np.uint8], config: TilingConfig) -> str:
    contrast, sharpness = tile_quality(tile)
    if contrast < config.min_contrast:
        return "low_contrast"
    return "out_of_focus" if sharpness < config.min_sharpness else KEPT


def _renewed(source: SlideSource, config: TilingConfig, earlier: dict[str, Any]) -> dict[str, Any] | None:
    """The earlier record with the file's new time, where nothing else of the slide has changed: copied, say."""
    stamp = source.stamp()
    if stamp | {"modified_ns": 0} != {name: earlier["source"].get(name) for name in stamp} | {"modified_ns": 0}:
        return None
    if not earlier["source"].get("quickhash"):
        return None
    with open_slide(source, config) as slide:
        same = slide.quickhash == earlier["source"]["quickhash"]
    return earlier | {"source": earlier["source"] | stamp} if same else None


def _draw(
    path: Path,
    slide: Slide,
    candidates: Candidates,
    outcomes: NDArray[np.object_],
    config: TilingConfig,
    status: str,
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
        ],
        slide.mpp,
    )
