"""The table of sections, and what kind each is: files of Space Ranger, Xenium, AnnData, SpatialData or Spatial
Transcriptomics."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rnagan.cohort.slide_ids import shard_name
from rnagan.io.tables import need_columns, positive_number, read_table
from rnagan.io.zarr_checks import is_zarr
from rnagan.spatial import anndata_sections, space_ranger, spatial_transcriptomics, spatialdata_store, xenium
from rnagan.spatial.anndata_sections import mostly_ensembl
from rnagan.spatial.section import Genes, Section, Spots

NEEDED = ("section", "donor", "tissue", "path")  # and perhaps image, mpp, site and bin
IMAGES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".svs", ".ndpi")


class Kind(NamedTuple):
    """How a kind of section is read. `files`: those that are read, whose times tell whether it changed."""

    read: Callable[[Section], Spots]
    genes: Callable[[Section], Genes]
    files: Callable[[Section], list[Path]]


SPACE_RANGER = Kind(space_ranger.read_space_ranger, space_ranger.read_genes, space_ranger.input_files)
ANNDATA = Kind(anndata_sections.read_anndata, anndata_sections.read_genes, anndata_sections.input_files)
SPATIALDATA = Kind(spatialdata_store.read_spatialdata, spatialdata_store.read_genes, spatialdata_store.input_files)
XENIUM = Kind(xenium.read_xenium, xenium.read_genes, xenium.input_files)
SPATIAL_TRANSCRIPTOMICS = Kind(
    spatial_transcriptomics.read_spatial_transcriptomics,
    spatial_transcriptomics.read_genes,
    spatial_transcriptomics.input_files,
)


def read_sections(table: Path) -> list[Section]:
    """The sections of a table, by name; paths are relative to its folder.

    Raises `ValueError` and `FileNotFoundError` with the line of what is missing, twice or no number.
    """
    rows = read_table(table)
    need_columns(list(rows), NEEDED, table)
    if rows.empty:
        raise ValueError(f"{table} names no section.")
    sections: dict[str, Section] = {}
    for line, row in enumerate(rows.to_dict("records"), start=2):
        for column in NEEDED:
            if not row[column]:
                raise ValueError(f"{table}, line {line}: the column {column} is empty.")
        name = shard_name(row["section"])
        if name in sections:
            raise ValueError(f"{table}, line {line}: section {name} comes twice; give each a name of its own.")
        mpp = positive_number(row.get("mpp", ""), "mpp must be a number above 0", table, line)
        bin_um = positive_number(row.get("bin", ""), "bin must be a number above 0", table, line)
        if bin_um is not None and bin_um != int(bin_um):
            raise ValueError(f"{table}, line {line}: bin must be whole µm, as 8 or 16, not {row['bin']!r}.")
        path = table.parent / row["path"]
        if not path.exists():
            raise FileNotFoundError(f"{table}, line {line}: path {path} does not exist.")
        image = _image_of(path, row.get("image", ""), table, line)
        if not image.is_file() and not is_zarr(image):
            raise FileNotFoundError(f"{table}, line {line}: image {image} does not exist.")
        sections[name] = Section(
            name,
            row["donor"],
            row["tissue"],
            path,
            image,
            mpp,
            row.get("site", ""),
            None if bin_um is None else int(bin_um),
        )
    return sorted(sections.values(), key=lambda section: section.name)


def kind_of_section(section: Section) -> Kind:
    """How a section is read, by what lies at its path. `ValueError` where that is no known kind."""
    path = section.path
    if path.is_file() and path.suffix.lower() == ".h5ad":
        return ANNDATA
    if is_zarr(path):
        return SPATIALDATA
    if path.is_dir() and xenium.is_xenium(path):
        return XENIUM
    if path.is_dir() and space_ranger.is_space_ranger(path):
        return SPACE_RANGER
    if path.is_dir() and spatial_transcriptomics.is_spatial_transcriptomics(path):
        return SPATIAL_TRANSCRIPTOMICS
    raise ValueError(
        f"{path} (section {section.name}) is neither a folder of Space Ranger (outs), of a Xenium run or of a table of "
        "counts and a spot file, nor an .h5ad, nor SpatialData (.zarr)."
    )


def check_genes(sections: list[Section]) -> None:
    """Refuse sections whose genes have names of two kinds, or that share no gene, before any tile is made."""
    names: dict[str, set[str]] = {}
    kinds: dict[bool, str] = {}
    for section in sections:
        genes = kind_of_section(section).genes(section).names
        kinds.setdefault(mostly_ensembl(genes), section.name)
        names[section.name] = set(genes)
    if len(kinds) > 1:
        raise ValueError(
            f"Section {kinds[False]} names its genes by symbol, and {kinds[True]} by Ensembl id; write them alike, as "
            "with a column gene_ids in var of an .h5ad."
        )
    first, *others = names
    for other in others:
        if not names[first] & names[other]:
            raise ValueError(
                f"Sections {first} and {other} share no gene ({min(names[first])} and {min(names[other])}); build "
                "them into folders of their own."
            )


def _image_of(path: Path, named: str, table: Path, line: int) -> Path:
    """The full-resolution image: of SpatialData one of its images, else a file, or the one that lies in the folder.
    Space Ranger's folder has reduced ones in folders of theirs, and Xenium's the instrument's own, which is no H&E."""
    if is_zarr(path):
        found = [path / spatialdata_store.IMAGES / name for name in spatialdata_store.images_of(path)]
        if named:
            return path / spatialdata_store.IMAGES / named
        what = f"images ({', '.join(image.name for image in found)})"
    elif named:
        return table.parent / named
    else:
        of_run = xenium.is_xenium(path) or not path.is_dir()
        found = [] if of_run else [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGES]
        what = "images that may be meant"
    if len(found) != 1:
        raise ValueError(
            f"{table}, line {line}: {path} holds {len(found)} {what}; name the full-resolution H&E image in the column "
            "image."
        )
    return found[0]
