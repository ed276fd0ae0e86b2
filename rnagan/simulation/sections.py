"""Sections with spots, whose truth is known: programmes vary smoothly over each, its counts and its slide with them.

The stain is a section's own and has nothing to do with the RNA.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_matrix

from rnagan.config.simulation import SimulationConfig
from rnagan.expression.h5ad_writer import write_anndata
from rnagan.runtime import rng
from rnagan.simulation.donors import PROGRAMMES, SITE_STAINS, draw_cohort, follow
from rnagan.simulation.expression import gene_names, simulate_counts
from rnagan.simulation.rendering import SLIDE_MPP, Field, Layout, Morphology
from rnagan.simulation.tissues import TISSUES

SMOOTH = 2.5  # SD of the smoothing of a programme over a section, in pitches of spots
OF_DONOR = 0.3  # how far a donor's mean of a programme is from 0, at most; the section's own part is within ±0.7
VISIUM_PITCH_UM, VISIUM_SPOT_UM = 100.0, 55.0
_STEP = 4  # fields of programmes are drawn on every 4th pixel


def draw_sections(config: SimulationConfig) -> pd.DataFrame:
    """One row a section, of the donors with a slide: slide (its name), donor, tissue, site, site_stain."""
    donors = draw_cohort(config.replace(sections=0))
    donors = donors[donors["has_slide"]]
    table = donors.loc[donors.index.repeat(config.sections), ["donor", "tissue", "site"]].reset_index(drop=True)
    codes = table["tissue"].map({name: tissue.code for name, tissue in TISSUES.items()})
    number = table.groupby(["donor", "tissue"]).cumcount() + 1
    table.insert(0, "slide", table["donor"] + "-" + codes + "-" + number.astype(str))
    stain = rng.generator(config.seed, "simulation/section stains").uniform(*SITE_STAINS, len(table))
    return table.assign(site_stain=stain)


def spot_places(config: SimulationConfig) -> pd.DataFrame:
    """Spots of a section: array_row, array_col (of a hexagonal grid every second one, as Visium counts), and x and y,
    px of the slide. A square of the pitch around each lies in the tissue's whole tiles."""
    layout = layout_of(config)
    pitch = config.spot_pitch_um / SLIDE_MPP
    hexagonal = config.spot_grid == "hexagonal"
    row_step = pitch * (0.75**0.5 if hexagonal else 1)
    height, width = (side - 2 * layout.tile for side in layout.shape)
    rows = int((height - pitch) / row_step + 1e-9) + 1
    places = []
    for row in range(rows):
        shift = 0.5 * (row % 2) if hexagonal else 0.0
        for k in range(int(width / pitch - shift + 1e-9)):
            column = 2 * k + row % 2 if hexagonal else k
            places.append((row, column, (0.5 + shift + k) * pitch, 0.5 * pitch + row * row_step))
    table = pd.DataFrame(places, columns=["array_row", "array_col", "x", "y"])
    return table.assign(x=table["x"] + layout.tile, y=table["y"] + layout.tile)


def layout_of(config: SimulationConfig) -> Layout:
    return Layout(round(config.tile_um / SLIDE_MPP), config.tiles_across, config.tiles_down)


def programmes_of(config: SimulationConfig, section: dict[str, Any]) -> dict[str, Field]:
    """Each programme over a section, float32 on every _STEP-th pixel of its slide, within −1 … 1."""
    shape = tuple(-(-side // _STEP) for side in layout_of(config).shape)
    sigma = SMOOTH * config.spot_pitch_um / SLIDE_MPP / _STEP
    donor = rng.generator(config.seed, f"simulation/donor programmes/{section['donor']}/{section['tissue']}")
    own = rng.generator(config.seed, f"simulation/programmes/{section['slide']}")
    fields = {}
    for name in PROGRAMMES:
        wide = tuple(side + 2 * int(2 * sigma) for side in shape)  # cut from more, so that no edge meets its opposite
        noise = gaussian_filter(own.standard_normal(wide, np.float32), sigma, mode="wrap", truncate=3)
        noise = noise[
            tuple(slice((full - side) // 2, (full + side) // 2) for full, side in zip(wide, shape, strict=True))
        ]
        noise = (noise - noise.mean()) / noise.std()
        fields[name] = (donor.uniform(-OF_DONOR, OF_DONOR) + (1 - OF_DONOR) * np.tanh(noise)).astype(np.float32)
    return fields


def morphology_of(config: SimulationConfig, section: dict[str, Any]) -> Morphology:
    """What a section's slide is rendered by, over its pixels."""
    tissue, rows_columns = TISSUES[section["tissue"]], layout_of(config).shape
    fields = {
        name: np.kron(field, np.ones((_STEP, _STEP), np.float32))[: rows_columns[0], : rows_columns[1]]
        for name, field in programmes_of(config, section).items()
    }
    return Morphology(
        nuclear_density=follow(tissue.nuclear_density, fields["proliferation"]),
        nuclear_radius_um=follow(tissue.nuclear_radius_um, fields["nuclear_size"]),
        matrix_colour=follow(tissue.matrix_colour, fields["matrix"]),
        site_stain=section["site_stain"],
        air_fraction=np.nan if tissue.air_fraction is None else follow(tissue.air_fraction, fields["air"]),
    )


def draw_spots(config: SimulationConfig, sections: pd.DataFrame) -> pd.DataFrame:
    """The truth: one row a spot of each section, in their order, with the columns of `draw_cohort`'s table: sample
    (SECTION_BARCODE), slide, donor, tissue, site, programmes, nuclear radius and expected measures, each the mean over
    a square of the pitch; and array_row, array_col, x and y as in `spot_places`."""
    places = spot_places(config)
    frames = []
    for section in sections.to_dict("records"):
        tissue = TISSUES[section["tissue"]]
        means = {
            name: _means(field, places, config.spot_pitch_um / SLIDE_MPP / _STEP)
            for name, field in programmes_of(config, section).items()
        }
        if tissue.air_fraction is None:
            means["air"] = np.full(len(places), np.nan)
        barcodes = [f"{row}x{column}" for row, column in places[["array_row", "array_col"]].itertuples(index=False)]
        frame = pd.DataFrame({"sample": [f"{section['slide']}_{barcode}" for barcode in barcodes]})
        frame = frame.assign(**{name: section[name] for name in ("slide", "donor", "tissue", "site")}, **means)
        frames.append(
            frame.assign(
                nuclear_radius_um=follow(tissue.nuclear_radius_um, means["nuclear_size"]),
                nuclear_density=follow(tissue.nuclear_density, means["proliferation"]),
                matrix_colour=follow(tissue.matrix_colour, means["matrix"]),
                air_fraction=follow(tissue.air_fraction or (np.nan, np.nan), means["air"]),
                site_stain=section["site_stain"],
                **{name: places[name] for name in places},
            )
        )
    return pd.concat(frames, ignore_index=True)


def write_sections(config: SimulationConfig, out: Path, sections: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Write `sections/SECTION.h5ad` of each section, as scanpy and squidpy lay them out: sparse counts, obsm["spatial"]
    in full-resolution pixels, scale factors in uns."""
    ids, symbols = gene_names(config)
    var = pd.DataFrame({"symbol": symbols}, index=pd.Index([gene.split(".")[0] for gene in ids], name="gene"))
    for section, rows, counts in _by_section(sections, truth, simulate_counts(config, truth)):
        barcodes = [sample.removeprefix(f"{section}_") for sample in rows["sample"]]
        grid, factors = _grid_and_factors(config)
        obs = rows[grid].set_axis(pd.Index(barcodes, name="spot")).assign(in_tissue=1)
        data = anndata.AnnData(csr_matrix(counts), obs, var, {"units": "counts"})
        data.obsm["spatial"] = rows[["x", "y"]].to_numpy(np.float64)
        data.uns["spatial"] = {section: {"scalefactors": factors}}
        write_anndata(out / "sections" / f"{section}.h5ad", data)


def _grid_and_factors(config: SimulationConfig) -> tuple[list[str], dict[str, float]]:
    """Columns of obs and scale factors: those of Visium, or of its HD bins, where spots lie as there."""
    factors = {"microns_per_pixel": SLIDE_MPP}
    grid = ["array_row", "array_col"]
    if config.spot_grid == "square":
        return grid, factors | {"bin_size_um": config.spot_pitch_um}
    if config.spot_pitch_um == VISIUM_PITCH_UM:
        return grid, factors | {"spot_diameter_fullres": VISIUM_SPOT_UM / SLIDE_MPP}
    return [], factors


def _by_section(
    sections: pd.DataFrame, truth: pd.DataFrame, counts: NDArray[np.float32]
) -> Iterator[tuple[str, pd.DataFrame, NDArray[np.float32]]]:
    for section in sections["slide"]:
        own = (truth["slide"] == section).to_numpy()
        yield section, truth[own], counts[own]


def _means(field: Field, places: pd.DataFrame, side: float) -> NDArray[np.float64]:
    """Mean of a field over a square of `side` around each place (px of the slide), (spots,)."""
    total = np.pad(field.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    y, x = (places[name].to_numpy() / _STEP for name in ("y", "x"))
    top, bottom, left, right = (
        np.rint(at).astype(int) for at in (y - side / 2, y + side / 2, x - side / 2, x + side / 2)
    )
    sums = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return sums / ((bottom - top) * (right - left))
