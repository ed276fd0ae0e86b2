"""Files as recount3 and ARCHS4 lay them out are tables like others."""

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest

from rnagan.expression.build_h5ad import build_expression
from rnagan.expression.h5ad import read_expression
from rnagan.io.matrix import matrix_samples, open_matrix
from tests.expression.whole_table import read_whole

GENES = [f"ENSG{n:011d}" for n in range(1, 41)]
SYMBOLS = [f"SYM{n}" for n in range(40)]
RUNS = [f"SRR10{n:05d}" for n in range(6)]
VALUES = np.random.default_rng(0).integers(0, 4000, (40, 6))


def write_recount3(path: Path) -> None:
    lines = ["##annotation=G026", "##date.generated=2020-10-08", "\t".join(["gene_id", *RUNS])]
    lines += ["\t".join([f"{gene}.3", *map(str, row)]) for gene, row in zip(GENES, VALUES, strict=True)]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def write_archs4(path: Path, ensembl: str | None = "ensembl_gene", shape: tuple[int, int] = (40, 6)) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data/expression", data=VALUES.astype(np.uint32)[: shape[0], : shape[1]], chunks=(8, 2))
        file["meta/genes/symbol"] = SYMBOLS
        if ensembl:
            file[f"meta/genes/{ensembl}"] = GENES
        file["meta/samples/geo_accession"] = [run.replace("SRR10", "GSM") for run in RUNS]
        file["meta/samples/title"] = ["liver"] * 6
        file["meta/info/version"] = "2.4"


@pytest.mark.parametrize("name", ["sra.gene_sums.SRP166780.G026.gz", "gtex.gene_sums.LUNG.G029.gz"])
def test_recount3(name: str, tmp_path: Path) -> None:
    write_recount3(tmp_path / name)
    read = read_whole(tmp_path / name)
    assert (read.samples, read.units) == (RUNS, "counts")
    assert [gene.split(".")[0] for gene in read.genes] == GENES
    np.testing.assert_array_equal(read.values, VALUES.T)
    assert matrix_samples(tmp_path / name) == RUNS


@pytest.mark.parametrize("ensembl", ["ensembl_gene", "ensembl_gene_id", None])
def test_archs4(ensembl: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnagan.io.matrix_archs4._VALUES", 6 * 7)  # blocks of seven genes, in chunks of eight
    write_archs4(tmp_path / "human_gene_v2.4.h5", ensembl)
    read = read_whole(tmp_path / "human_gene_v2.4.h5")
    assert read.samples == [f"GSM{n:05d}" for n in range(6)] and read.units == "counts"
    assert (read.genes, read.symbols) == ((GENES, SYMBOLS) if ensembl else (SYMBOLS, [""] * 40))
    np.testing.assert_array_equal(read.values, VALUES.T)


def test_an_expression_file_of_chosen_samples_is_built_from_archs4(tmp_path: Path) -> None:
    write_archs4(tmp_path / "human.h5")
    rows = "\n".join(f"GSM{n:05d},GSM{n:05d},liver,,,train," for n in (4, 1))
    (tmp_path / "cohort.csv").write_text(f"sample,donor,tissue,slide,site,split,barcode\n{rows}\n")
    build_expression(tmp_path / "human.h5", tmp_path / "cohort.csv", tmp_path / "out.h5ad")
    found = read_expression(tmp_path / "out.h5ad")
    assert found.obs.index.tolist() == ["GSM00001", "GSM00004"] and found.units == "counts" and found.genes == GENES
    np.testing.assert_array_equal(found.values, VALUES.T[[1, 4]])


def _leads_out(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["meta/genes/other"] = h5py.ExternalLink("/etc/hostname", "/")


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("spoil", "rows", "message"),
    [
        (lambda path: h5py.File(path, "a").__delitem__("data/expression"), None, "has no data/expression, so it is no"),
        (lambda path: h5py.File(path, "a").__delitem__("meta/samples"), None, "has no meta/samples/geo_accession"),
        (lambda path: write_archs4(path, shape=(40, 5)), None, "has 40 × 5 values, and names 40 genes and 6 samples"),
        (lambda path: path.write_bytes(b"no HDF5"), None, "can't be read as a table of numbers"),
        (_leads_out, None, "leads to another file at /meta/genes/other"),
        (lambda path: None, "samples", "is of ARCHS4, whose rows are genes"),
    ],
)
def test_other_files_are_refused_by_name(spoil: object, rows: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "human.h5"
    write_archs4(path)
    spoil(path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message) as caught:
        open_matrix(path, rows)
    assert str(path) in str(caught.value)
