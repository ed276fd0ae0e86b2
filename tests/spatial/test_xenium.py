"""Xenium runs: cells put together in bins, on the H&E image that an alignment file lays over the instrument's."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from rnagan.config.spots import SpotTilingConfig
from rnagan.data.index import open_dataset
from rnagan.spatial.bins import bin_cells
from rnagan.spatial.section import Section
from rnagan.spatial.spot_shards import build_spots
from rnagan.spatial.xenium import read_alignment, read_xenium

from .made_section import GENES, MPP
from .made_xenium import ALIGNMENT, make_cells, write_xenium

BIN_UM = 60


@pytest.fixture(scope="module")
def cells():
    return make_cells()


@pytest.fixture(scope="module")
def section(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("xenium")
    image = write_xenium(folder, cells)
    return Section("X1", "D1", "breast", folder / "run", image, bin_um=BIN_UM)


def test_bins_add_up_their_cells(cells, section):
    spots = read_xenium(section)
    place = np.floor(cells.um[:, ::-1] / BIN_UM).astype(int)
    expected = pd.DataFrame(cells.counts).groupby([place[:, 0], place[:, 1]]).sum()
    assert spots.grid.rows_columns.tolist() == [list(key) for key in expected.index]
    assert np.array_equal(spots.counts.toarray(), expected.to_numpy()) and spots.counts.shape[1] == GENES
    assert spots.barcodes[0] == "r{}c{}".format(*expected.index[0])
    assert spots.notes == (
        f"{len(cells.names):,} cells put together in bins of 60 µm.",
        "2 features that are no genes are left out.",
    )


def test_bins_lie_where_their_cells_lie_on_the_image(cells, section):
    spots = read_xenium(section)
    place = np.floor(cells.um[:, ::-1] / BIN_UM).astype(int)
    own = pd.DataFrame(cells.he_px).groupby([place[:, 0], place[:, 1]])
    full = (own.size() > 8).to_numpy()
    off = np.abs(spots.xy - own.mean().to_numpy())[full]
    assert off.max() < BIN_UM / MPP / 2 and np.median(off) < BIN_UM / MPP / 8
    assert spots.stated_mpp == pytest.approx(MPP)


@pytest.mark.parametrize("table", ["cells.csv.gz", "cells.csv"])
def test_other_tables_of_cells(cells, section, tmp_path, table):
    image = write_xenium(tmp_path, cells, table)
    other = read_xenium(dataclasses.replace(section, path=tmp_path / "run", image=image))
    assert np.array_equal(other.xy, read_xenium(section).xy)


def test_a_run_goes_through_to_shards(cells, section, tmp_path):
    table = tmp_path / "sections.csv"
    table.write_text(f"section,donor,tissue,path,image,bin\nX1,D1,breast,{section.path},{section.image},{BIN_UM}\n")
    config = SpotTilingConfig(tile_px=30, mpp=2.0, margin_px=4, min_counts=50)
    summary, _ = build_spots(table, tmp_path / "out", config)
    assert not summary.failures
    shards = open_dataset(tmp_path / "out")
    spots = pd.read_csv(tmp_path / "out" / "spots.csv")
    kept = int(spots["reason"].isna().sum())
    assert shards.slides["tiles"].tolist() == [kept] and 200 < kept < len(spots)


def test_bins_by_hand():
    xy = np.array([[0.0, 0], [9.9, 9.9], [10, 0], [-0.1, 25]])
    found = bin_cells(xy, csr_matrix(np.array([[1, 0], [2, 0], [0, 5], [0, 7]])), 10)
    assert found.rows_columns.tolist() == [[0, 0], [0, 1], [2, -1]]
    assert found.counts.toarray().tolist() == [[3, 0], [0, 5], [0, 7]] and found.cells.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (ALIGNMENT[:2], "is no alignment: it must hold three rows"),
        (ALIGNMENT * [[1.2], [1], [1]], "stretches x"),
        (np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]]), "stretches x 1 times and y 1.12"),
        (np.array([[1.0, 0.2, 0], [0, 0.98, 0], [0, 0, 1]]), "slants the image"),
        (np.zeros((3, 3)), "is no alignment"),
    ],
)
def test_alignments_that_are_refused(tmp_path, matrix, sentence):
    pd.DataFrame(matrix).to_csv(tmp_path / "a.csv", header=False, index=False)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_alignment(tmp_path / "a.csv")


def test_a_file_of_words_is_no_alignment(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match="can't be read as an alignment"):
        read_alignment(tmp_path / "a.csv")


def test_what_is_missing_is_named(cells, section, tmp_path):
    with pytest.raises(ValueError, match="name the side of their bins, µm, in the column bin"):
        read_xenium(dataclasses.replace(section, bin_um=None))
    image = write_xenium(tmp_path, cells)
    own = dataclasses.replace(section, path=tmp_path / "run", image=image)
    (tmp_path / "he_imagealignment.csv").rename(tmp_path / "aside.csv")
    with pytest.raises(FileNotFoundError, match="export it from Xenium Explorer and put it beside the image"):
        read_xenium(own)
    (tmp_path / "aside.csv").rename(tmp_path / "run" / "any_imagealignment.csv")
    few = pd.read_parquet(tmp_path / "run" / "cells.parquet").iloc[10:]
    few.to_parquet(tmp_path / "run" / "cells.parquet")
    with pytest.raises(ValueError, match=r"10 of 6,000 cells of .* are not in .*: they are of another run"):
        read_xenium(own)
    (tmp_path / "run" / "cells.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="can't be read as Xenium's cells"):
        read_xenium(own)
    (tmp_path / "run" / "cells.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no cells\.parquet or cells\.csv\.gz or cells\.csv"):
        read_xenium(own)
