from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from rnagan.expression.store import Expression, open_profiles, read_expression, write_expression


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
