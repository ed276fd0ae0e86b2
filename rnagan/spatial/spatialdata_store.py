"""A section as SpatialData (.zarr): spots or cells in its table, places in its shapes, and the image among its images.

Its transformations are read by the package spatialdata, an extra (`pip install 'rnagan[spatial]'`), since it wants an
older Dask than the rest needs.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.io.tables import first_few
from rnagan.io.zarr_checks import METADATA, check_codecs, is_zarr
from rnagan.spatial.anndata_sections import counts_of, genes_of, in_tissue_of
from rnagan.spatial.bins import bin_cells
from rnagan.spatial.section import VISIUM_STEP_UM, Genes, Grid, Section, Spots

IMAGES = "images"
_REDUCED = ("_hires_image", "_lowres_image")  # names that the readers of spatialdata-io give


def images_of(path: Path) -> list[str]:
    """Names of the images of a store that are no reduced ones."""
    folder = path / IMAGES
    found = sorted(one.name for one in folder.iterdir() if is_zarr(one)) if folder.is_dir() else []
    return [name for name in found if not name.endswith(_REDUCED)]


def read_genes(section: Section) -> Genes:
    """The genes of a store, of which its table alone is opened."""
    return genes_of(_table_of(_open(section.path, ("tables",)), section.path))


def input_files(section: Section) -> list[Path]:
    """The metadata of the store and of its image, which are written anew with them."""
    return [path / name for path in (section.path, section.image) for name in METADATA if (path / name).is_file()]


def read_spatialdata(section: Section) -> Spots:
    """The spots of a store, or its cells put together in bins where the table of sections names a `bin`.

    Raises `ValueError` where the store has several tables, where the table annotates no shapes, where image and shapes
    share no coordinate system, and where cells are to be binned and nothing says the µm per px.
    """
    data, path = _open(section.path), section.path
    table = _table_of(data, path)
    xy = _places(data, table, section)
    counts, genes = counts_of(table, path), genes_of(table)
    if section.bin_um is None:
        return Spots(
            table.obs_names.astype(str).tolist(),
            xy,
            in_tissue_of(table.obs),
            np.arange(len(xy), dtype=np.int64),
            counts,
            genes,
            _grid_of(table.obs),
        )
    if section.mpp is None:
        raise ValueError(f"{section.name}: bins are in µm; give the µm per px of {section.image} in the column mpp.")
    binned = bin_cells(xy * section.mpp, counts, section.bin_um)
    return Spots(
        [f"r{row}c{column}" for row, column in binned.rows_columns.tolist()],
        np.asarray((binned.rows_columns[:, ::-1] + 0.5) * section.bin_um / section.mpp, np.float64),
        np.ones(len(binned.cells), bool),
        np.arange(len(binned.cells), dtype=np.int64),
        binned.counts,
        genes,
        Grid(binned.rows_columns, (float(section.bin_um), float(section.bin_um))),
        notes=(f"{len(xy):,} cells put together in bins of {section.bin_um} µm.",),
    )


def _library() -> ModuleType:
    try:
        import spatialdata
    except ImportError:
        raise ValueError(
            "Reading SpatialData needs the package spatialdata: pip install 'rnagan[spatial]', best in an environment "
            "of its own."
        ) from None
    return spatialdata


def _open(path: Path, elements: tuple[str, ...] = (IMAGES, "shapes", "tables")) -> Any:
    library = _library()
    check_codecs(path)
    try:
        return library.read_zarr(path, selection=elements)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} can't be read as SpatialData ({error}).".replace("\n", " ")) from None


def _table_of(data: Any, path: Path) -> Any:
    if len(data.tables) != 1:
        raise ValueError(
            f"{path} holds {len(data.tables)} tables ({', '.join(sorted(data.tables)) or 'none'}); write the section "
            "with the one that is meant."
        )
    return next(iter(data.tables.values()))


def _places(data: Any, table: Any, section: Section) -> NDArray[np.float64]:
    """Where the table's rows lie, (n, 2), in pixels of the section's image at full resolution."""
    from spatialdata import get_centroids
    from spatialdata.transformations import get_transformation

    about = table.uns.get("spatialdata_attrs", {})
    regions = table.obs[about["region_key"]].astype(str).unique() if about.get("region_key") in table.obs else []
    if len(regions) != 1 or regions[0] not in data.shapes:
        raise ValueError(
            f"{section.path}: its table must annotate one element of shapes (it annotates "
            f"{first_few(list(regions)) or 'none'}, the shapes are {first_few(sorted(data.shapes)) or 'none'})."
        )
    shapes, image = data.shapes[regions[0]], data.images[section.image.name]
    of_shapes, of_image = (get_transformation(one, get_all=True) for one in (shapes, image))
    shared = sorted(set(of_shapes) & set(of_image))
    if not shared:
        raise ValueError(
            f"{section.path}: shapes {regions[0]} ({first_few(sorted(of_shapes))}) and image {section.image.name} "
            f"({first_few(sorted(of_image))}) share no coordinate system; align them first."
        )
    system = "global" if "global" in shared else shared[0]
    centres = get_centroids(shapes, coordinate_system=system).compute()
    rows = pd.Index(centres.index.astype(str)).get_indexer(table.obs[about["instance_key"]].astype(str))
    if (rows < 0).any():
        raise ValueError(f"{section.path}: {(rows < 0).sum():,} rows of its table have no shape in {regions[0]}.")
    matrix = of_image[system].to_affine_matrix(input_axes=("x", "y"), output_axes=("x", "y"))
    own = centres[["x", "y"]].to_numpy(np.float64)[rows]
    return np.asarray((own - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T, np.float64)


def _grid_of(obs: pd.DataFrame) -> Grid | None:
    """The array of Visium's spots, where the table has it."""
    if not {"array_row", "array_col"} <= set(obs):
        return None
    return Grid(obs[["array_row", "array_col"]].to_numpy(np.int64), VISIUM_STEP_UM)
