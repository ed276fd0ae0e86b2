"""A section with an image, an array of spots and counts, written in the layouts of instruments by their public
specification. The image isn't square, and its tissue has no symmetry, so that a swap or a mirror shows."""

import dataclasses
import gzip
import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
import tifffile
from PIL import Image

MPP = 2.0  # µm per px of the full-resolution image
WIDTH, HEIGHT = 1180, 1000
GENES = 40
HIRES, LOWRES = 0.25, 0.1


@dataclasses.dataclass
class MadeSection:
    """`xy`: centres in px. `array`: row and column. `counts`: of spots in tissue alone, in `order`."""

    image: np.ndarray
    barcodes: np.ndarray
    xy: np.ndarray
    array: np.ndarray
    in_tissue: np.ndarray
    counts: np.ndarray  # (spots in tissue, genes)
    ids: list[str]
    symbols: list[str]

    @property
    def inside(self) -> np.ndarray:
        return np.flatnonzero(self.in_tissue)


def tissue_mask() -> np.ndarray:
    """An ellipse at the upper left and a limb that reaches down and to the right: no turn or mirror maps it on
    itself."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ellipse = ((x - 400) / 300) ** 2 + ((y - 330) / 220) ** 2 < 1
    limb = (abs(x - 330 - 0.4 * (y - 330)) < 90) & (y > 330) & (y < 850)
    return ellipse | limb | (((x - 850) / 130) ** 2 + ((y - 300) / 90) ** 2 < 1)


def draw_image(seed: int) -> np.ndarray:
    """H&E-like: glass, pink tissue, and nuclei that grow denser from left to right."""
    random = np.random.default_rng(seed)
    mask = tissue_mask()
    image = np.full((HEIGHT, WIDTH, 3), 243, np.float32) + random.normal(0, 1.5, (HEIGHT, WIDTH, 1))
    matrix = np.array([214, 150, 190]) + random.normal(0, 6, (HEIGHT, WIDTH, 1))
    image[mask] = matrix[mask]
    x = np.arange(WIDTH) / WIDTH
    coarse = random.random((HEIGHT // 4, WIDTH // 4)).repeat(4, 0).repeat(4, 1)
    nuclei = (coarse < 0.08 + 0.3 * x[None, :]) & mask
    image[nuclei] = np.array([96, 58, 140]) + random.normal(0, 8, (int(nuclei.sum()), 1))
    return image.clip(0, 255).astype(np.uint8)


def make_section(
    seed: int = 0, step_um: tuple[float, float] = (50 * 3**0.5, 50.0), hexagonal: bool = True
) -> MadeSection:
    """An array over most of the image, with counts of which some follow the density of nuclei."""
    random = np.random.default_rng(seed)
    rows, columns = int((HEIGHT - 160) * MPP / step_um[0]), int((WIDTH - 160) * MPP / step_um[1])
    array = np.array([(r, c) for r in range(rows) for c in range(columns) if not hexagonal or (r + c) % 2 == 0])
    xy = np.column_stack([80 + array[:, 1] * step_um[1] / MPP, 80 + array[:, 0] * step_um[0] / MPP])
    mask = tissue_mask()
    in_tissue = mask[xy[:, 1].astype(int), xy[:, 0].astype(int)]
    letters = np.array(list("ACGT"))
    barcodes = np.array([f"{''.join(random.choice(letters, 12))}{n:04d}-1" for n in range(len(xy))])
    level = 2 + 6 * random.random(GENES)
    slope = np.where(np.arange(GENES) < 12, 3.0, 0.0)
    rate = level * np.exp(slope * (xy[in_tissue, :1] / WIDTH - 0.4))
    counts = random.poisson(rate)
    ids = [f"ENSG{n:011d}" for n in range(1, GENES + 1)]
    return MadeSection(
        draw_image(seed), barcodes, xy, array, in_tissue, counts, ids, [f"GENE{n}" for n in range(1, GENES + 1)]
    )


def write_image(path: Path, image: np.ndarray, mpp: float | None = None) -> Path:
    """A TIFF in strips, as full-resolution images often are, or a PNG or JPEG; with its resolution if `mpp`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        stated = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(path, image, photometric="rgb", compression="deflate", rowsperstrip=100, **stated)
    else:
        Image.fromarray(image).save(path)
    return path


def _positions(made: MadeSection) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "barcode": made.barcodes,
            "in_tissue": made.in_tissue.astype(int),
            "array_row": made.array[:, 0],
            "array_col": made.array[:, 1],
            "pxl_row_in_fullres": made.xy[:, 1],
            "pxl_col_in_fullres": made.xy[:, 0],
        }
    )


def _write_h5(path: Path, made: MadeSection, version: int) -> None:
    """CSC of features × barcodes, as 10x's description has it."""
    x = scipy.sparse.csc_matrix(made.counts.T)
    barcodes = [b.encode() for b in made.barcodes[made.inside]]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["barcodes"] = np.array(barcodes)
        group["data"], group["indices"] = x.data.astype(np.int32), x.indices.astype(np.int64)
        group["indptr"], group["shape"] = x.indptr.astype(np.int64), np.array(x.shape, np.int32)
        ids, symbols = ([name.encode() for name in names] for names in (made.ids, made.symbols))
        if version == 3:
            features = group.create_group("features")
            features["id"], features["name"] = np.array(ids), np.array(symbols)
            features["feature_type"] = np.array([b"Gene Expression"] * len(ids))
            features["genome"] = np.array([b"GRCh38"] * len(ids))
            features["_all_tag_keys"] = np.array([b"genome"])
            file.attrs["filetype"], file.attrs["version"] = "matrix", 2
            file.attrs["library_ids"] = np.array([b"made"])
            file.attrs["chemistry_description"] = "Spatial 3' v1"
        else:
            group["genes"], group["gene_names"] = np.array(ids), np.array(symbols)


def _write_mtx(folder: Path, made: MadeSection) -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, scipy.sparse.coo_matrix(made.counts.T), field="integer")
    lines = {
        "barcodes": [str(b) for b in made.barcodes[made.inside]],
        "features": [f"{i}\t{s}\tGene Expression" for i, s in zip(made.ids, made.symbols, strict=True)],
    }
    for name, text in lines.items():
        (folder / f"{name}.tsv.gz").write_bytes(gzip.compress(("\n".join(text) + "\n").encode()))


def write_space_ranger(
    outs: Path, made: MadeSection, kind: str = "visium2", matrix: str = "h5", bin_um: int | None = None
) -> Path:
    """Space Ranger's `outs`: kind visium1, visium2 or hd; matrix h5, h5v2 or mtx."""
    folder = outs if bin_um is None else outs / "binned_outputs" / f"square_{bin_um:03d}um"
    spatial = folder / "spatial"
    spatial.mkdir(parents=True)
    positions = _positions(made)
    factors = {
        "tissue_hires_scalef": HIRES,
        "tissue_lowres_scalef": LOWRES,
        "fiducial_diameter_fullres": 1.6 * 65 / MPP,
        "spot_diameter_fullres": 65 / MPP,
    }
    match kind:
        case "visium1":
            positions.to_csv(spatial / "tissue_positions_list.csv", index=False, header=False)
        case "visium2":
            positions.to_csv(spatial / "tissue_positions.csv", index=False)
        case "hd":
            positions.to_parquet(spatial / "tissue_positions.parquet", index=False)
            factors |= {"microns_per_pixel": MPP, "bin_size_um": float(bin_um or 0)}
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    small = Image.fromarray(made.image)
    for name, scale in (("hires", HIRES), ("lowres", LOWRES)):
        side = round(WIDTH * scale), round(HEIGHT * scale)
        small.resize(side, Image.Resampling.BOX).save(spatial / f"tissue_{name}_image.png")
    if matrix == "mtx":
        _write_mtx(folder / "filtered_feature_bc_matrix", made)
    else:
        _write_h5(folder / "filtered_feature_bc_matrix.h5", made, 2 if matrix == "h5v2" else 3)
    return outs


def make_anndata(made: MadeSection, symbols: bool = True) -> anndata.AnnData:
    """As scanpy.read_visium leaves it: names are symbols, ids in var, spots in tissue alone."""
    own = made.inside
    obs = pd.DataFrame(
        {"in_tissue": 1, "array_row": made.array[own, 0], "array_col": made.array[own, 1]}, index=made.barcodes[own]
    )
    var = pd.DataFrame({"gene_ids": made.ids}, index=made.symbols if symbols else made.ids)
    data = anndata.AnnData(scipy.sparse.csr_matrix(made.counts.astype(np.float32)), obs, var)
    data.obsm["spatial"] = made.xy[own]
    factors = {"tissue_hires_scalef": HIRES, "tissue_lowres_scalef": LOWRES, "spot_diameter_fullres": 65 / MPP}
    data.uns["spatial"] = {"lib": {"scalefactors": factors, "images": {}, "metadata": {}}}
    return data


def write_spatial_transcriptomics(folder: Path, made: MadeSection) -> Path:
    """As the her2st set is laid out: a table of counts by symbol without genes that weren't seen, and a spot file."""
    folder.mkdir(parents=True, exist_ok=True)
    own = made.inside
    names = [f"{c}x{r}" for r, c in made.array[own].tolist()]
    counts = pd.DataFrame(made.counts, index=names, columns=made.symbols)
    counts.to_csv(folder / "stdata.tsv.gz", sep="\t")
    spots = pd.DataFrame(
        {
            "x": made.array[own, 1],
            "y": made.array[own, 0],
            "new_x": made.array[own, 1] + 0.01,
            "new_y": made.array[own, 0] - 0.02,
            "pixel_x": made.xy[own, 0],
            "pixel_y": made.xy[own, 1],
        }
    )
    spots.to_csv(folder / "selection.tsv", sep="\t", index=False)
    return folder


def write_table(path: Path, rows: list[dict]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
