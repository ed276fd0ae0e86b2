"""A section to its shard: tiles centred on its spots, each with its spot's profile, and the spots' own table."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from rnagan.cohort.slide_files import readable_path
from rnagan.config.spots import SpotTilingConfig
from rnagan.data.build_jobs import SourceError
from rnagan.data.shard_schema import OF_TILE
from rnagan.data.writer import ShardWriter
from rnagan.io.files import sha256_of, sha256_of_file
from rnagan.slides.grid import Candidates, background_share_at, first_reasons
from rnagan.slides.qc import draw_qc
from rnagan.slides.resolution import MissingResolutionError
from rnagan.slides.slide import Slide
from rnagan.slides.tiling import KEPT, MAX_UNREADABLE, QC_FOLDER, UNREADABLE, VERSIONS_OF_TILES, add_tiles
from rnagan.slides.tissue import TissueMasks, find_tissue
from rnagan.spatial.array_resolution import TOLERANCE, FoundResolution, resolution_of_spots
from rnagan.spatial.placement import Placement, placement_doubt, placement_problem, placements
from rnagan.spatial.section import Section, Spots
from rnagan.spatial.sections_table import kind_of_section
from rnagan.spatial.spot_tables import spot_names, table_of_section, total_counts, write_section_table

NOT_IN_TISSUE, FEW_COUNTS, BACKGROUND = "not_in_tissue", "few_counts", "background"
REASONS = (
    *(NOT_IN_TISSUE, FEW_COUNTS, "outside", BACKGROUND, "ink"),
    *("low_contrast", "out_of_focus", "over_limit", UNREADABLE),
)
_SHOWN_SPOT = 0.8  # of the distance of neighbouring spots: side of a spot's square in the QC picture


class UnfitSectionError(SourceError):
    """A section whose files contradict one another, or of which nothing is left."""

    reason = "unfit section"


@dataclasses.dataclass(frozen=True)
class SectionSource:
    """A section as `data.build_jobs` takes it. `out`: the folder of the shards and tables."""

    section: Section
    out: Path

    @property
    def slide(self) -> str:
        return self.section.name

    @functools.cached_property
    def stamp(self) -> dict[str, Any]:
        """What changes when a file of the section does, or its table is missing or was changed."""
        files = [*kind_of_section(self.section).files(self.section), self.section.image]
        states = [(path.name, path.stat() if path.is_file() else None) for path in files]
        seen = [(name, state and (state.st_size, state.st_mtime_ns)) for name, state in states]
        table = table_of_section(self.out, self.slide)
        return {
            "file": self.section.image.name,
            "files_digest": sha256_of(seen),
            "given_mpp": self.section.mpp,
            "bin_um": self.section.bin_um,
            "spots_sha256": sha256_of_file(table) if table.is_file() else "missing",
        }

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self.section.image.stat().st_size if self.section.image.is_file() else 0


def options_of(config: SpotTilingConfig) -> dict[str, Any]:
    """The options of the records of a set of spots."""
    options = config.to_dict() | {"profile": OF_TILE}
    if not config.margin_px:
        del options["margin_px"]
    return options


def tile_section(
    source: SectionSource,
    config: SpotTilingConfig,
    trust_positions: bool = False,
    qc: bool = True,
    max_unreadable: float = MAX_UNREADABLE,
) -> dict[str, Any]:
    """Make the shard and the table of a section and return its record.

    Raises `ValueError` or `OSError` with one sentence; the section then has no new record. `trust_positions`: they
    aren't compared with the tissue.
    """
    section, stamp = source.section, source.stamp
    spots = kind_of_section(section).read(section)
    names = spot_names(section, spots.barcodes)
    found = _unfit(section, resolution_of_spots, spots)
    with ShardWriter(source.out, section.name) as shard, _open_image(section, found, config) as slide:
        if section.mpp is not None or slide.mpp_source != "assumed":
            _check_mpp(section, slide, found)
        thumbnail = slide.thumbnail(config.thumbnail_mpp)
        masks = find_tissue(thumbnail.pixels, thumbnail.pixel_px * slide.mpp, config)
        masks = TissueMasks(masks.tissue | thumbnail.unreadable & ~masks.ink, masks.ink)
        size = slide.width_px, slide.height_px
        placed = placements(masks.tissue, thumbnail.pixel_px, spots.xy, spots.in_tissue, size, spots.scales)
        warnings = list(spots.notes)
        if not trust_positions:
            _check_placement(section, placed, slide)
            warnings += filter(None, [placement_doubt(placed)])
        candidates = _candidates(spots, slide, thumbnail.pixels, thumbnail.pixel_px, masks, config)
        usable = ~np.isin(candidates.outcomes, (NOT_IN_TISSUE, FEW_COUNTS))
        if not usable.any():
            _refuse_empty(section, candidates, config)
        about = {"margin_px": config.margin_px} if config.margin_px else {}
        outcomes = add_tiles(shard, slide, candidates, config, max_unreadable, about, names, config.margin_px)
        dropped = np.where(outcomes == KEPT, "", outcomes)
        table = write_section_table(source.out, section, spots, names, usable, dropped, slide.mpp)
        counts = {reason: int((outcomes == reason).sum()) for reason in REASONS}
        identity: dict[str, Any] = {
            "quickhash": slide.quickhash,
            "vendor": slide.vendor,
            "mpp": slide.mpp,
            "mpp_source": found.source if found and slide.mpp_source == "assumed" else slide.mpp_source,
            "width_px": slide.width_px,
            "height_px": slide.height_px,
            "on_tissue": round(placed[0].on_tissue, 4),
            **stamp,
            "spots_sha256": sha256_of_file(table),
        }
        if warnings:
            identity["warnings"] = warnings
        status = "done" if shard.tiles else "no_tiles"
        if qc:
            _draw(source.out / QC_FOLDER / f"{section.name}.jpg", spots, slide, candidates, outcomes, identity)
        return shard.commit(status, counts, identity, options_of(config), VERSIONS_OF_TILES)


def _unfit(section: Section, call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except ValueError as error:
        raise UnfitSectionError(f"Section {section.name} ({section.path}) {error}.") from None


def _open_image(section: Section, found: FoundResolution | None, config: SpotTilingConfig) -> Slide:
    try:
        return Slide(
            readable_path(section.image),
            config.fallback_mpp if found is None else found.mpp,
            given_mpp=section.mpp,
            tolerance=config.mpp_tolerance,
            max_upsampling=config.max_upsampling,
            plain=True,
        )
    except MissingResolutionError:
        raise MissingResolutionError(
            f"Section {section.name}: neither {section.image} nor its spots say the µm per px; give them in the column "
            "mpp of the table of sections."
        ) from None


def _check_mpp(section: Section, slide: Slide, found: FoundResolution | None) -> None:
    """Refuse an image whose resolution, by its own word or the table's, isn't what the spots prove."""
    if found is not None and abs(slide.mpp / found.mpp - 1) > TOLERANCE:
        where = "the table of sections" if section.mpp is not None else f"the image ({slide.mpp_source})"
        raise UnfitSectionError(
            f"Section {section.name}: {where} says {slide.mpp:.4g} µm per px, and {found.source} {found.mpp:.4g}: it "
            "isn't the full-resolution image of these positions, or it states a wrong resolution; give the right one "
            "in the column mpp."
        )


def _check_placement(section: Section, placed: list[Placement], slide: Slide) -> None:
    problem = placement_problem(placed)
    if problem is None:
        return
    best = max(placed, key=lambda one: one.score)
    advice = "mend them, or use them all the same with --trust-positions"
    if best.image_scale != 1:
        own_mpp = slide.mpp / best.image_scale
        advice = f"{section.image.name} has {own_mpp:.3g} µm per px, then: give the full-resolution image"
    raise UnfitSectionError(f"Section {section.name} {problem}; {advice}.")


def _refuse_empty(section: Section, candidates: Candidates, config: SpotTilingConfig) -> None:
    off, few = (int((candidates.outcomes == reason).sum()) for reason in (NOT_IN_TISSUE, FEW_COUNTS))
    raise UnfitSectionError(
        f"Section {section.name} has no spot left: {off:,} are not in tissue, and {few:,} have fewer than "
        f"{config.min_counts:,} counts (--min-counts)."
    )


def _candidates(
    spots: Spots,
    slide: Slide,
    thumbnail: NDArray[np.uint8],
    pixel_px: float,
    masks: TissueMasks,
    config: SpotTilingConfig,
) -> Candidates:
    """Every spot as a candidate: the corner of its stored image, and what keeps it from becoming a tile."""
    footprint = slide.footprint_px(config.mpp)
    tile_px, stored_px = config.tile_px * footprint, (config.tile_px + 2 * config.margin_px) * footprint
    corners = np.rint(spots.xy - stored_px / 2).astype(np.int64)
    ends = corners + stored_px
    outside = (corners < 0).any(axis=1) | (ends[:, 0] > slide.width_px) | (ends[:, 1] > slide.height_px)
    of_tiles = spots.xy - tile_px / 2
    background, without, free = (
        background_share_at(mask, pixel_px, of_tiles, tile_px)
        for mask in (masks.tissue, masks.tissue | masks.ink, masks.ink)
    )
    inked = (1 - free > config.max_ink) & (without <= config.max_background)
    reasons = {
        BACKGROUND: background > config.max_background,
        "ink": inked,
        "outside": outside,
        FEW_COUNTS: total_counts(spots) < config.min_counts,
        NOT_IN_TISSUE: ~spots.in_tissue,
    }
    return Candidates(corners, first_reasons(reasons), thumbnail, pixel_px, masks)


def _draw(
    path: Path,
    spots: Spots,
    slide: Slide,
    candidates: Candidates,
    outcomes: NDArray[np.object_],
    identity: dict[str, Any],
) -> None:
    """The spots on the section, kept and dropped by reason, as squares that don't overlap."""
    pitch = _pitch_px(spots)
    side = _SHOWN_SPOT * pitch
    shown = np.where(outcomes == BACKGROUND, "blank", outcomes)
    corners = pd.DataFrame(spots.xy - side / 2, columns=["x", "y"]).assign(outcome=shown)
    width_mm, height_mm = (length * slide.mpp / 1000 for length in (slide.width_px, slide.height_px))
    title = [
        path.stem,
        f"{slide.width_px:,} × {slide.height_px:,} px, {width_mm:.1f} × {height_mm:.1f} mm; {slide.mpp:.4g} µm per px "
        f"({identity['mpp_source']}); {identity['on_tissue']:.0%} of the spots in tissue lie on tissue",
    ]
    draw_qc(path, candidates.thumbnail, candidates.masks, corners, side, candidates.pixel_px, title, slide.mpp)


def _pitch_px(spots: Spots) -> float:
    """The distance of neighbouring spots, px."""
    if len(spots.xy) < 2:
        return 100.0
    return float(np.median(cKDTree(spots.xy).query(spots.xy, k=2)[0][:, 1]))
