import dataclasses
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from rnagan.expression.h5ad import (
    Expression,
    ProfileWriter,
    open_expression,
    open_profiles,
    read_expression,
    write_expression,
)


@pytest.mark.parametrize("names", [("table",), ("X",), ()])
def test_an_hdf5_file_of_something_else_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        for name in names:
            file[name] = [1, 2]
    for read in (read_expression, open_profiles):
        with pytest.raises(ValueError, match=r"x\.h5ad is no \.h5ad file"):
            read(tmp_path / "x.h5ad")


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_sparse_profiles_are_read_as_dense_ones(tmp_path: Path, form: type) -> None:
    values = np.float32([[0, 1.5, 0], [2, 0, 0]])
    obs = pd.DataFrame({"donor": ["d", "e"], "tissue": "lung", "split": "train"}, index=["s", "t"])
    write_expression(tmp_path / "x.h5ad", Expression(values, obs, ["a", "b", "c"], ["", "", ""], "tpm"), "digest")
    data = anndata.read_h5ad(tmp_path / "x.h5ad")
    data.X = form(data.X)
    data.write_h5ad(tmp_path / "x.h5ad")
    read = read_expression(tmp_path / "x.h5ad").values
    assert type(read) is np.ndarray and read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Expression]:
    values = np.random.default_rng(0).random((20, 3)).astype(np.float32)
    obs = pd.DataFrame(
        {"donor": [f"d{n // 2}" for n in range(20)], "tissue": "lung"}, index=[f"s{n}" for n in range(20)]
    )
    obs["split"] = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    expression = Expression(values, obs, ["a", "b", "c"], ["A", "B", "C"], "tpm")
    write_expression(tmp_path / "x.h5ad", expression, "digest")
    return tmp_path / "x.h5ad", expression


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_are_those_of_the_whole_file(stored: tuple[Path, Expression], sparse: bool) -> None:
    path, whole = stored
    if sparse:
        data = anndata.read_h5ad(path)
        data.X = scipy.sparse.csr_matrix(data.X)
        data.write_h5ad(path)
    with open_expression(path) as profiles:
        assert (len(profiles), profiles.genes, profiles.symbols) == (20, whole.genes, whole.symbols)
        assert (profiles.units, profiles.split_by) == ("tpm", "donor") and profiles.obs.equals(
            read_expression(path).obs
        )
        for wanted in ([3], [], [5, 4, 4, 19, 0], list(range(20)), np.array([7, 8, 9, 2])):
            found = profiles.rows(wanted)
            assert found.dtype == np.float32 and found.shape == (len(wanted), 3)
            np.testing.assert_array_equal(found, whole.values[np.asarray(wanted, dtype=int)])
        train = profiles.split("train")
        np.testing.assert_array_equal(np.concatenate(list(profiles.blocks(train, 5))), whole.split("train"))
        for wrong in (-1, 20):
            with pytest.raises(IndexError, match="has 20 profiles"):
                profiles.rows([wrong])


def test_a_donor_in_two_splits_is_refused(stored: tuple[Path, Expression]) -> None:
    path, whole = stored
    obs = whole.obs.assign(split=["train", "test"] * 10)
    write_expression(path, dataclasses.replace(whole, obs=obs), "digest")
    for read in (read_expression, open_expression):
        with pytest.raises(ValueError, match=r"x\.h5ad has a donor in two splits \(d0, d1, d2 and 7 more\)"):
            read(path)
    write_expression(path, dataclasses.replace(whole, obs=obs, split_by="sample"), "digest")
    assert read_expression(path).split_by == "sample"


@pytest.mark.parametrize("n_genes", [1, 7, 40_000])
def test_blocks_become_one_array(tmp_path: Path, n_genes: int) -> None:
    values = np.random.default_rng(0).random((9, n_genes)).astype(np.float32)
    var = pd.DataFrame({"symbol": ""}, index=pd.Index(map(str, range(n_genes)), name="gene"))
    with ProfileWriter(tmp_path / "x.h5ad") as writer:
        for part in (values[:0], values[:4], values[4:5], values[5:]):
            writer.append(part)
        writer.finish(pd.DataFrame({"split": list("abcdefghi")}, index=list("ABCDEFGHI")), var, {"units": "tpm"})
    for backed in (None, "r"):
        data = anndata.read_h5ad(tmp_path / "x.h5ad", backed=backed)
        np.testing.assert_array_equal(data.X[:], values)
        assert data.obs["split"].tolist() == list("abcdefghi") and data.uns["units"] == "tpm"
