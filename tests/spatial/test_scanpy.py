"""scanpy's own reader reads the Space Ranger folders that the tests here make, and has the same spots as ours.

scanpy isn't a dependency: name a Python that has it in RNAGAN_SCANPY_PYTHON.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rnagan.spatial.section import Section
from rnagan.spatial.space_ranger import read_space_ranger
from tests.spatial import made_section as made

PYTHON = os.environ.get("RNAGAN_SCANPY_PYTHON", "")
READ = """
import json, sys, warnings
warnings.simplefilter("ignore")
import scanpy
data = scanpy.read_visium(sys.argv[1])
factors = data.uns["spatial"][next(iter(data.uns["spatial"]))]["scalefactors"]
json.dump({
    "barcodes": data.obs_names.tolist(),
    "xy": data.obsm["spatial"].astype(float).tolist(),
    "in_tissue": data.obs["in_tissue"].astype(int).tolist(),
    "array": data.obs[["array_row", "array_col"]].astype(int).values.tolist(),
    "counts": data.X.toarray().astype(int).tolist(),
    "symbols": data.var_names.tolist(),
    "ids": data.var["gene_ids"].tolist(),
    "hires": float(factors["tissue_hires_scalef"]),
}, sys.stdout)
if len(sys.argv) > 2:
    data.write_h5ad(sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).is_file(), reason="RNAGAN_SCANPY_PYTHON names no Python that has scanpy")
@pytest.mark.parametrize("kind", ["visium1", "visium2"])
def test_scanpy_reads_the_same(tmp_path, kind):
    own = made.make_section(0)
    outs = made.write_space_ranger(tmp_path / "outs", own, kind)
    done = subprocess.run([PYTHON, "-c", READ, outs, tmp_path / "a.h5ad"], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    ours = read_space_ranger(Section("S", "D", "colon", outs, outs))
    order = [ours.barcodes.index(barcode) for barcode in theirs["barcodes"]]
    assert len(order) == len(own.inside)
    np.testing.assert_allclose(ours.xy[order], np.trunc(theirs["xy"]), atol=1)  # versions of scanpy cut to whole px
    np.testing.assert_array_equal(ours.in_tissue[order], theirs["in_tissue"])
    np.testing.assert_array_equal(ours.grid.rows_columns[order], theirs["array"])
    np.testing.assert_array_equal(ours.counts[ours.rows[order]].toarray(), theirs["counts"])
    assert (ours.genes.names, ours.genes.symbols) == (theirs["ids"], theirs["symbols"])
    assert ours.scales["hires"] == theirs["hires"]
    from rnagan.spatial.anndata_sections import read_anndata

    again = read_anndata(Section("S", "D", "colon", tmp_path / "a.h5ad", tmp_path / "a.h5ad"))  # as scanpy wrote it
    assert (again.barcodes, again.genes.names) == (theirs["barcodes"], theirs["ids"])
    np.testing.assert_allclose(again.xy, theirs["xy"])
    np.testing.assert_array_equal(again.counts.toarray(), theirs["counts"])
