"""One table in every format and either way round is one table."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from rnagan.expression.checked_table import open_table
from rnagan.io.matrix import matrix_samples
from tests.expression.whole_table import read_whole

GENES = [f"ENSG{n:011d}" for n in range(5)]
SAMPLES = [f"S{n}" for n in range(7)]
VALUES = np.random.default_rng(0).gamma(0.3, 100, (7, 5)).round(2).astype(np.float32)
FRAME = pd.DataFrame(VALUES, pd.Index(SAMPLES, name="sample"), GENES)


def check(path: Path, rows_are: str, **options: str) -> None:
    read = read_whole(path, **options)
    assert (read.samples, read.genes, read.units) == (SAMPLES, GENES, "tpm")
    np.testing.assert_array_equal(read.values, VALUES)
    assert open_table(path, **options).matrix.rows_are == rows_are
    assert matrix_samples(path, **options) == SAMPLES


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("index", [False, True])
def test_parquet(tmp_path: Path, turned: bool, index: bool) -> None:
    frame = FRAME.T.rename_axis("gene") if turned else FRAME
    (frame if index else frame.reset_index()).to_parquet(tmp_path / "x.parquet")
    check(tmp_path / "x.parquet", "genes" if turned else "samples")


def test_parquet_with_other_columns_of_text(tmp_path: Path) -> None:
    frame = FRAME.assign(tissue="lung").reset_index()
    frame[["tissue", "sample", *GENES]].to_parquet(tmp_path / "x.parquet")
    check(tmp_path / "x.parquet", "samples")
    assert open_table(tmp_path / "x.parquet").matrix.ignored == ("tissue",)
    FRAME.T.assign(symbol=list("abcde")).rename_axis("gene").to_parquet(tmp_path / "y.parquet")
    assert read_whole(tmp_path / "y.parquet").symbols == list("abcde")


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csc_matrix])
@pytest.mark.parametrize("turned", [False, True])
def test_anndata(tmp_path: Path, form: type, turned: bool) -> None:
    data = anndata.AnnData(form(VALUES), pd.DataFrame(index=SAMPLES), pd.DataFrame({"symbol": list("abcde")}, GENES))
    (data.T if turned else data).write_h5ad(tmp_path / "x.h5ad")
    check(tmp_path / "x.h5ad", "genes" if turned else "samples")
    assert read_whole(tmp_path / "x.h5ad").symbols == list("abcde")


def test_anndata_may_say_its_units(tmp_path: Path) -> None:
    anndata.AnnData(VALUES, pd.DataFrame(index=SAMPLES), pd.DataFrame(index=GENES), {"units": "counts"}).write_h5ad(
        tmp_path / "x.h5ad"
    )
    with pytest.raises(ValueError, match="holds fractions, which no counts have"):
        read_whole(tmp_path / "x.h5ad")
    assert read_whole(tmp_path / "x.h5ad", units="tpm").units_from == "as declared"


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("turned", [False, True])
def test_text(tmp_path: Path, separator: str, turned: bool) -> None:
    path = tmp_path / ("x.csv.gz" if separator == "," else "x.tsv")
    (FRAME.T if turned else FRAME).to_csv(path, sep=separator)
    check(path, "genes" if turned else "samples")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name, sentence in (("x.parquet", "can't be read as a table of numbers"), ("x.h5ad", "is no .h5ad file")):
        (tmp_path / name).write_bytes(b"PAR1 nothing of the sort")
        with pytest.raises(ValueError, match=f"{name} {sentence}"):
            read_whole(tmp_path / name)
    pd.DataFrame({"a": [1.0]}).to_parquet(tmp_path / "x.parquet", index=False)
    with pytest.raises(ValueError, match="has no column of names"):
        read_whole(tmp_path / "x.parquet")
