"""A table of sections to shards with a profile a tile, a table of spots, and their counts."""

import functools
from pathlib import Path

from rnagan.config.spots import SpotTilingConfig
from rnagan.data.build_jobs import BuildOptions, Summary, build_shards
from rnagan.data.manifest import RECORD
from rnagan.io.tables import first_few
from rnagan.slides.qc import write_contact_sheets
from rnagan.slides.tiling import MAX_UNREADABLE, QC_FOLDER
from rnagan.spatial.section_tiling import SectionSource, options_of, tile_section
from rnagan.spatial.sections_table import check_genes, read_sections
from rnagan.spatial.spot_tables import join_tables, table_of_section


def build_spots(
    table: Path,
    out: Path,
    config: SpotTilingConfig,
    how: BuildOptions | None = None,
    *,
    trust_positions: bool = False,
    qc: bool = True,
    max_unreadable: float = MAX_UNREADABLE,
) -> tuple[Summary, list[str]]:
    """Make the shards of the sections of a table, spots.csv and counts.h5ad; what is done and unchanged is skipped.

    Returns what was built, and lines on the tables. A section that fails is listed, and the tables lack it. Raises
    `ValueError` where the table is wrong, where genes have names of two kinds, and where `out` has sections that the
    table doesn't name.
    """
    table, out = Path(table).resolve(), Path(out).resolve()
    sections, how = read_sections(table), how or BuildOptions()
    check_genes(sections)
    present = {path.name.removesuffix(RECORD) for path in out.glob("*" + RECORD)} if out.is_dir() else set()
    if unnamed := sorted(present - {section.name for section in sections}):
        raise ValueError(
            f"{out} holds sections that {table} doesn't name ({first_few(unnamed)}): name all sections of a set in one "
            "table, or choose another --out."
        )
    make = functools.partial(
        tile_section, config=config, trust_positions=trust_positions, qc=qc, max_unreadable=max_unreadable
    )
    summary = build_shards([SectionSource(section, out) for section in sections], make, out, options_of(config), how)
    if qc and (summary.made or summary.failures):
        write_contact_sheets(out / QC_FOLDER, summary.captions, how.part_name)
    made = [section for section in sections if _is_there(out, section.name, summary)]
    return summary, join_tables(out, made) if made else []


def _is_there(out: Path, section: str, summary: Summary) -> bool:
    """Whether this build, or an earlier one, left a table of the section."""
    return section not in summary.failures and table_of_section(out, section).is_file()
