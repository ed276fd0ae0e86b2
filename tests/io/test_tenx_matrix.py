"""Counts of 10x Genomics: versions 2 and 3, .h5 and mtx, by their description; damage and hostile sizes are refused."""

import gzip

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from rnagan.io.tenx_matrix import read_tenx, read_tenx_genes

COUNTS = np.random.default_rng(0).poisson(0.7, (5, 7))  # features × barcodes
IDS, SYMBOLS = [f"ENSG{n:011d}" for n in range(5)], [f"S{n}" for n in range(5)]
BARCODES = [f"B{n}-1" for n in range(7)]
KINDS = ["Gene Expression"] * 4 + ["Antibody Capture"]


def write_h5(path, version=3, kinds=KINDS, **changes):
    x = scipy.sparse.csc_matrix(COUNTS)
    values = {"data": x.data.astype(np.int32), "indices": x.indices, "indptr": x.indptr, "shape": np.array(x.shape)}
    values |= {"barcodes": np.array([b.encode() for b in BARCODES])} | changes
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "mm10")
        for name, value in values.items():
            group[name] = value
        ids, symbols = (np.array([n.encode() for n in names]) for names in (IDS, SYMBOLS))
        if version == 3:
            group["features/id"], group["features/name"] = ids, symbols
            group["features/feature_type"] = np.array([kind.encode() for kind in kinds])
        else:
            group["genes"], group["gene_names"] = ids, symbols
    return path


def write_mtx(folder, packed=True, old=False, kinds=KINDS):
    folder.mkdir()
    end, write = (".gz", gzip.compress) if packed else ("", bytes)
    with (gzip.open if packed else open)(folder / f"matrix.mtx{end}", "wb") as file:
        scipy.io.mmwrite(file, scipy.sparse.coo_matrix(COUNTS), field="integer")
    rows = zip(IDS, SYMBOLS, kinds, strict=True)
    features = ["\t".join(row[:2] if old else row) for row in rows]
    (folder / f"{'genes' if old else 'features'}.tsv{end}").write_bytes(write(("\n".join(features) + "\n").encode()))
    (folder / f"barcodes.tsv{end}").write_bytes(write(("\n".join(BARCODES) + "\n").encode()))
    return folder


def test_versions_and_forms_agree(tmp_path):
    genes = {"h5": write_h5(tmp_path / "a.h5"), "mtx": write_mtx(tmp_path / "a")}
    for path in genes.values():
        found = read_tenx(path)
        assert (found.barcodes, found.genes, found.symbols, found.others) == (BARCODES, IDS[:4], SYMBOLS[:4], 1)
        np.testing.assert_array_equal(found.counts.toarray(), COUNTS[:4].T)
        assert read_tenx_genes(path).ids == IDS[:4]
    for path in (write_h5(tmp_path / "old.h5", 2), write_mtx(tmp_path / "old", packed=False, old=True)):
        found = read_tenx(path)
        assert (found.genes, found.others) == (IDS, 0)
        np.testing.assert_array_equal(found.counts.toarray(), COUNTS.T)


def test_several_genomes(tmp_path):
    path = write_h5(tmp_path / "a.h5", 2)
    with h5py.File(path, "a") as file:
        file.copy("mm10", "GRCh38")
    with pytest.raises(ValueError, match=r"is of 2 genomes \(GRCh38, mm10\)"):
        read_tenx(path)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="is no count matrix of 10x Genomics"):
        read_tenx(tmp_path / "b.h5")


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize(
    "changes",
    [
        {"indices": np.full(int((COUNTS > 0).sum()), 99)},
        {"indptr": np.array([0, 5])},
        {"shape": np.array([3, 7])},
        {"shape": np.array([5, 2**40])},
        {"barcodes": np.array([b"B"] * 7)},
        {"barcodes": np.array([b"A", b"B"])},
        {"data": np.array([b"x"] * 3)},
    ],
)
def test_a_damaged_h5(tmp_path, changes):
    with pytest.raises(ValueError, match=r"a.h5 (can't be read|has)"):
        read_tenx(write_h5(tmp_path / "a.h5", **changes))


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize(
    "text",
    [
        b"no matrix",
        b"%%MatrixMarket matrix coordinate integer general\n5 7 900000000000\n1 1 1\n",
        b"%%MatrixMarket matrix coordinate integer general\n5 9 1\n1 1 1\n",
        b"%%MatrixMarket matrix coordinate integer general\n5 7 1\n8 1 1\n",
        b"%%MatrixMarket matrix coordinate integer general\n5 7\n",
    ],
)
def test_a_damaged_mtx(tmp_path, text):
    folder = write_mtx(tmp_path / "a", packed=False)
    (folder / "matrix.mtx").write_bytes(text)
    with pytest.raises(ValueError, match="matrix.mtx can't be read"):
        read_tenx(folder)


def test_a_missing_list(tmp_path):
    folder = write_mtx(tmp_path / "a")
    (folder / "features.tsv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no features.tsv or genes.tsv"):
        read_tenx(folder)
