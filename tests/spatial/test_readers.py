"""Each kind of file gives the spots that were written into it; what contradicts itself costs one sentence."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from rnagan.spatial.section import Section
from rnagan.spatial.sections_table import check_genes, kind_of_section, read_sections
from tests.spatial import made_section as made


@pytest.fixture(scope="module")
def spots():
    return made.make_section(0)


def section(path, **about):
    return Section("S", "D", "colon", path, path, **about)


def read(path, **about):
    own = section(path, **about)
    return kind_of_section(own).read(own)


def counts_by_barcode(found):
    """Counts of each barcode in tissue, in the order in which they were made."""
    return {
        barcode: found.counts[row].toarray().ravel().tolist()
        for barcode, row in zip(found.barcodes, found.rows.tolist(), strict=True)
        if row >= 0
    }


@pytest.mark.parametrize(
    ("kind", "matrix"), [("visium1", "h5v2"), ("visium2", "h5"), ("visium2", "mtx"), ("visium1", "mtx")]
)
def test_space_ranger(spots, tmp_path, kind, matrix):
    made.write_space_ranger(tmp_path / "outs", spots, kind, matrix)
    for path in (tmp_path / "outs", tmp_path):
        found = read(path)
        assert found.barcodes == spots.barcodes.tolist()
        np.testing.assert_allclose(found.xy, spots.xy)  # x is the column of pixels, y the row
        np.testing.assert_array_equal(found.in_tissue, spots.in_tissue)
        np.testing.assert_array_equal(found.grid.rows_columns, spots.array)
        expected = dict(zip(spots.barcodes[spots.inside].tolist(), spots.counts.tolist(), strict=True))
        assert counts_by_barcode(found) == expected
        assert (found.genes.names, found.genes.symbols) == (spots.ids, spots.symbols)
        assert found.scales == {"hires": made.HIRES, "lowres": made.LOWRES} and found.stated_mpp is None


def test_bins_of_visium_hd(tmp_path):
    bins = {um: made.make_section(um, (um * 4.0, um * 4.0), hexagonal=False) for um in (8, 16)}
    for um, own in bins.items():
        made.write_space_ranger(tmp_path, own, "hd", bin_um=um)
    (tmp_path / "binned_outputs/square_002um").mkdir()
    usual = read(tmp_path)
    assert usual.barcodes == bins[16].barcodes.tolist() and "bins of 16 µm are taken" in usual.notes[0]
    found = read(tmp_path, bin_um=8)
    assert found.barcodes == bins[8].barcodes.tolist() and found.stated_mpp == made.MPP
    assert found.grid.step_um == (8.0, 8.0) and found.notes == ()
    for wrong in (2, 24):
        with pytest.raises(ValueError, match="has bins of 2, 8, 16 µm; name one of 8 µm or more in the column bin"):
            read(tmp_path, bin_um=wrong)


@pytest.mark.parametrize("symbols", [True, False])
def test_anndata(spots, tmp_path, symbols):
    data = made.make_anndata(spots, symbols)
    data.write_h5ad(tmp_path / "a.h5ad")
    found = read(tmp_path / "a.h5ad")
    np.testing.assert_allclose(found.xy, spots.xy[spots.inside])
    np.testing.assert_array_equal(found.counts.toarray(), spots.counts)
    assert found.genes.names == spots.ids and found.genes.symbols == (spots.symbols if symbols else [""] * made.GENES)
    np.testing.assert_array_equal(found.grid.rows_columns, spots.array[spots.inside])
    data.layers["counts"] = data.X.copy()
    data.X = np.log1p(data.X.toarray())
    data.write_h5ad(tmp_path / "layer.h5ad")
    np.testing.assert_array_equal(read(tmp_path / "layer.h5ad").counts.toarray(), spots.counts)
    del data.layers["counts"]
    data.write_h5ad(tmp_path / "logs.h5ad")
    with pytest.raises(ValueError, match=r"logs.h5ad holds no counts in X: .* put the raw counts into layers"):
        read(tmp_path / "logs.h5ad")
    del data.obsm["spatial"]
    data.write_h5ad(tmp_path / "nowhere.h5ad")
    with pytest.raises(ValueError, match="has no obsm"):
        read(tmp_path / "nowhere.h5ad")


def test_an_anndata_of_two_libraries_is_refused(spots, tmp_path):
    data = made.make_anndata(spots)
    data.uns["spatial"]["other"] = data.uns["spatial"]["lib"]
    data.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"holds 2 libraries .* write each section into a file of its own"):
        read(tmp_path / "a.h5ad")


def test_spatial_transcriptomics(tmp_path):
    own = made.make_section(1, (200.0, 200.0), hexagonal=False)
    found = read(made.write_spatial_transcriptomics(tmp_path / "st", own))
    np.testing.assert_allclose(found.xy, own.xy[own.inside])
    assert found.barcodes == [f"{c}x{r}" for r, c in own.array[own.inside].tolist()]
    np.testing.assert_array_equal(found.counts.toarray()[found.rows], own.counts)
    assert found.genes.names == own.symbols and not found.genes.complete and found.grid.step_um == (200.0, 200.0)
    pd.DataFrame({"x": [1], "y": [1], "pixel_x": [3], "pixel_y": [4]}).to_csv(tmp_path / "st/b.csv", index=False)
    with pytest.raises(ValueError, match=r"holds 2 spot files \(x, y, pixel_x, pixel_y\) \(b.csv, selection.tsv\)"):
        read(tmp_path / "st")


def test_what_is_neither(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match="is neither a folder of Space Ranger"):
        read(tmp_path)


@pytest.mark.attack(kind=1)
def test_barcodes_of_another_run(spots, tmp_path):
    """All Visium slides have the same barcodes, so those under tissue must tell."""
    made.write_space_ranger(tmp_path / "own", spots)
    other = dataclasses.replace(spots, barcodes=np.array([f"T{b}" for b in spots.barcodes]))
    made.write_space_ranger(tmp_path / "other", other)
    same = dataclasses.replace(spots, barcodes=np.roll(spots.barcodes, 150))
    made.write_space_ranger(tmp_path / "same", same)
    positions = tmp_path / "own/spatial/tissue_positions.csv"
    for name, message in (("other", "134 of 134 barcodes of .* are not in"), ("same", "are off the tissue by")):
        (tmp_path / name / "spatial/tissue_positions.csv").write_bytes(positions.read_bytes())
        with pytest.raises(ValueError, match=rf"{message}.* of another run; give files of one run"):
            read(tmp_path / name)


@pytest.mark.attack(kind=1)
def test_a_spot_twice(spots, tmp_path):
    made.write_space_ranger(tmp_path / "a", spots)
    path = tmp_path / "a/spatial/tissue_positions.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[7]]) + "\n")
    with pytest.raises(ValueError, match=f"has the spot {spots.barcodes[6]} twice; give each one position"):
        read(tmp_path / "a")
    made.write_space_ranger(tmp_path / "b", dataclasses.replace(spots, barcodes=np.roll(["A-1", "A-1"] * 190, 1)))
    with pytest.raises(ValueError, match="the (spot|barcode) A-1 twice"):
        read(tmp_path / "b")
    st = made.write_spatial_transcriptomics(tmp_path / "st", made.make_section(1, (200.0, 200.0), hexagonal=False))
    lines = (st / "selection.tsv").read_text().splitlines()
    (st / "selection.tsv").write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(ValueError, match=r"selection.tsv has the spot \d+x\d+ twice"):
        read(st)


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("spatial/tissue_positions.csv", "barcode,in_tissue\nA,1\n", "has no column array_row"),
        ("spatial/tissue_positions.csv", "", "can't be read as Space Ranger's positions"),
        ("spatial/scalefactors_json.json", "{", "scalefactors_json.json"),
        ("spatial/scalefactors_json.json", '{"microns_per_pixel": "two"}', "microns_per_pixel"),
        ("filtered_feature_bc_matrix.h5", "no HDF5", "can't be read as a table of numbers"),
    ],
)
def test_a_broken_file_is_named(spots, tmp_path, file, text, message):
    made.write_space_ranger(tmp_path, spots)
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("file", ["spatial/tissue_positions.csv", "filtered_feature_bc_matrix.h5"])
def test_a_missing_file_is_named(spots, tmp_path, file):
    made.write_space_ranger(tmp_path, spots)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=r"give Space Ranger's outs"):
        read(tmp_path)


@pytest.mark.attack(kind=1)
def test_genes_by_symbol_in_one_section_and_by_id_in_another(spots, tmp_path):
    made.write_space_ranger(tmp_path / "ids", spots)
    data = made.make_anndata(spots)
    data.var = data.var.drop(columns="gene_ids")
    data.write_h5ad(tmp_path / "symbols.h5ad")
    own = [section(tmp_path / "ids"), dataclasses.replace(section(tmp_path / "symbols.h5ad"), name="T")]
    with pytest.raises(ValueError, match="Section T names its genes by symbol, and S by Ensembl id; write them alike"):
        check_genes(own)
    data.var_names = [f"OTHER{n}" for n in range(made.GENES)]
    data.write_h5ad(tmp_path / "others.h5ad")
    with pytest.raises(ValueError, match=r"Sections T and S share no gene \(GENE1 and OTHER0\)"):
        check_genes([own[1], section(tmp_path / "others.h5ad")])


def test_the_table_of_sections(spots, tmp_path):
    made.write_space_ranger(tmp_path / "v", spots)
    made.write_image(tmp_path / "i.png", spots.image[:50, :50])
    row = {"section": "A.1", "donor": "D", "tissue": "colon", "path": "v", "image": "i.png", "mpp": 0.5, "bin": ""}
    (found,) = read_sections(made.write_table(tmp_path / "t.csv", [row]))
    assert (found.name, found.mpp, found.bin_um, found.image) == ("A_1", 0.5, None, tmp_path / "i.png")
    wrong = {
        "comes twice": [row, row],
        "donor is empty": [row | {"donor": ""}],
        "mpp must be a number above 0, not '-1'": [row | {"mpp": -1}],
        "bin must be whole µm": [row | {"bin": 8.5}],
        "path .*nowhere does not exist": [row | {"path": "nowhere"}],
        "image .*no.tif does not exist": [row | {"image": "no.tif"}],
        "holds 0 images that may be meant; name the full-resolution": [row | {"image": ""}],
    }
    for message, rows in wrong.items():
        with pytest.raises((ValueError, FileNotFoundError), match=rf"t.csv, line [23]: .*{message}"):
            read_sections(made.write_table(tmp_path / "t.csv", rows))


def test_scale_factors_of_a_real_run_are_read(spots, tmp_path):
    """The example of 10x's own page (Space Ranger 1.3)."""
    made.write_space_ranger(tmp_path, spots)
    example = {
        "spot_diameter_fullres": 89.43834961021503,
        "tissue_hires_scalef": 0.17011142,
        "fiducial_diameter_fullres": 144.4773339857,
        "tissue_lowres_scalef": 0.051033426,
    }
    (tmp_path / "spatial/scalefactors_json.json").write_text(json.dumps(example))
    assert read(tmp_path).scales == {"hires": 0.17011142, "lowres": 0.051033426}
