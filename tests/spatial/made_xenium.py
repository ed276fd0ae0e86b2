"""The folder of a Xenium run, by the public description of its files, with an H&E image that is turned against it."""

import json
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import scipy.sparse

from .made_section import GENES, HEIGHT, MPP, WIDTH, draw_image, tissue_mask, write_image

PIXEL_UM = 0.2125  # of the instrument's image
CELLS = 6000
# From pixels of the H&E image to those of the instrument's: turned by a quarter, and enlarged.
ALIGNMENT = np.array([[0.0, -MPP / PIXEL_UM, HEIGHT * MPP / PIXEL_UM], [MPP / PIXEL_UM, 0.0, 0.0], [0.0, 0.0, 1.0]])


class Cells(NamedTuple):
    """`he_px` (n, 2): where cells lie in the H&E image. `counts` (n, GENES)."""

    names: list[str]
    he_px: np.ndarray
    um: np.ndarray
    counts: np.ndarray


def make_cells(seed: int = 0) -> Cells:
    """Cells in tissue alone, more counts of some genes to the right."""
    random = np.random.default_rng(seed)
    xy = np.column_stack([random.uniform(0, WIDTH, 8 * CELLS), random.uniform(0, HEIGHT, 8 * CELLS)])
    he_px = xy[tissue_mask()[xy[:, 1].astype(int), xy[:, 0].astype(int)]][:CELLS]
    slope = np.where(np.arange(GENES) < 12, 3.0, 0.0)
    counts = random.poisson(0.5 * np.exp(slope * (he_px[:, :1] / WIDTH - 0.4)))
    names = [f"{''.join(random.choice(list('abcdefghijklmnop'), 8))}-{n}" for n in range(len(he_px))]
    um = (he_px @ ALIGNMENT[:2, :2].T + ALIGNMENT[:2, 2]) * PIXEL_UM
    return Cells(names, he_px, um, counts)


def write_xenium(folder: Path, cells: Cells, table: str = "cells.parquet") -> Path:
    """The run in `folder/run`; the image and its alignment beside it. Returns the image."""
    run = folder / "run"
    experiment = {"pixel_size": PIXEL_UM, "run_name": "made", "region_name": "R1", "num_cells": CELLS}
    experiment |= {"analysis_sw_version": "xenium-3.1.0.0", "major_version": 5}
    run.mkdir(parents=True)
    (run / "experiment.xenium").write_text(json.dumps(experiment))
    order = np.random.default_rng(1).permutation(len(cells.names))  # cells needn't be in the order of the matrix
    rows = pd.DataFrame(
        {
            "cell_id": np.array(cells.names)[order],
            "x_centroid": cells.um[order, 0],
            "y_centroid": cells.um[order, 1],
            "transcript_counts": cells.counts.sum(axis=1)[order],
        }
    )
    if table.endswith(".parquet"):
        rows.to_parquet(run / table)
    else:
        rows.to_csv(run / table, index=False)
    controls = np.zeros((len(cells.names), 2), int)
    x = scipy.sparse.csc_matrix(np.hstack([cells.counts, controls]).T)
    names = [f"GENE{n}" for n in range(1, GENES + 1)] + ["NegControlProbe_1", "NegControlProbe_2"]
    ids = [f"ENSG{n:011d}" for n in range(1, GENES + 1)] + names[GENES:]
    kinds = ["Gene Expression"] * GENES + ["Negative Control Probe"] * 2
    with h5py.File(run / "cell_feature_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array([name.encode() for name in cells.names])
        group["data"], group["indices"] = x.data.astype(np.int32), x.indices.astype(np.int64)
        group["indptr"], group["shape"] = x.indptr.astype(np.int64), np.array(x.shape, np.int32)
        features = group.create_group("features")
        for key, values in (("id", ids), ("name", names), ("feature_type", kinds), ("genome", ["GRCh38"] * len(ids))):
            features[key] = np.array([value.encode() for value in values])
        features["_all_tag_keys"] = np.array([b"genome"])
    pd.DataFrame(ALIGNMENT).to_csv(folder / "he_imagealignment.csv", header=False, index=False)
    return write_image(folder / "he.tif", draw_image(0), MPP)
