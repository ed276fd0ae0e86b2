"""Every way to open an .h5ad refuses the same files with the same sentence."""

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from rnagan.expression.checked_table import open_table
from rnagan.expression.h5ad import inputs_digest, open_expression, open_profiles, read_expression

DOORS: list[Callable] = [open_profiles, read_expression, open_expression, inputs_digest, open_table]
OBS = pd.DataFrame(
    {"donor": ["a", "b", "c"], "tissue": "lung", "split": ["train", "test", "train"]}, index=["P1", "P2", "P3"]
)
X = np.float32([[0.5, 40, 2], [2.25, 3, 0], [7.5, 100, 1]])


def write(
    path: Path,
    x: object = X,
    obs: pd.DataFrame = OBS,
    genes: tuple[str, ...] = ("TP53", "EGFR", "KRAS"),
    uns: dict | None = None,
    symbols: list | None = None,
) -> Path:
    var = pd.DataFrame({} if symbols is None else {"symbol": symbols}, index=list(genes))
    data = anndata.AnnData(X, obs, var, uns={"units": "tpm"} if uns is None else uns)
    if x is None:
        data.layers["counts"], data.layers["scaled"] = X, X
    data.X = x
    data.write_h5ad(path)
    return path


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ({"x": None}, r"x\.h5ad has no X \(its layers are counts, scaled\); put the expression there\.$"),
        ({"obs": OBS.set_axis(["P1", "P2", "P1"])}, r"x\.h5ad has the profile P1 more than once; give each a name"),
        ({"genes": ("TP53", "EGFR", "TP53")}, r"x\.h5ad has the gene TP53 more than once; give each a name"),
    ],
)
def test_files_that_no_command_takes(tmp_path: Path, door: Callable, made: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        door(write(tmp_path / "x.h5ad", **made))


@pytest.mark.parametrize("door", DOORS[:3])
def test_units_in_any_case_are_known_and_others_refused(tmp_path: Path, door: Callable) -> None:
    (tmp_path / "r").mkdir()
    opened = door(write(tmp_path / "x.h5ad", uns={"units": "TPM"}))
    assert (opened.uns["units"] if door is open_profiles else opened.units) == "tpm"
    with pytest.raises(ValueError, match=r"x\.h5ad says units 'RPKM' in uns\['units'\]; take one of tpm, counts, log2"):
        door(write(tmp_path / "r/x.h5ad", uns={"units": "RPKM"}))
    with pytest.raises(ValueError, match=r"x\.h5ad contradicts itself"):
        door(write(tmp_path / "r/x.h5ad", uns={"units": "counts", "log1p": {}}))


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_known_logarithms_of_profiles_are_converted(tmp_path: Path, form: Callable) -> None:
    logged = np.log1p(X)
    for uns in ({"log1p": {}}, {"units": "ln1p"}):
        data = open_profiles(write(tmp_path / "x.h5ad", form(logged), uns=uns))
        assert data.uns["units"] == "log2"
        np.testing.assert_allclose(data.X, np.log2(X + 1), rtol=1e-5)
    assert "units" not in open_profiles(write(tmp_path / "x.h5ad", uns={})).uns


@pytest.mark.parametrize(
    ("x", "units", "sentence"),
    [
        (X * 1000, "log2", "reaches 100,000, which no log2 expression does"),
        (-X, "tpm", "holds negative values, which no tpm has"),
        (X, "counts", "holds fractions, which no counts have"),
        ((X - X.mean(axis=0)) / X.std(axis=0), "log2", "holds Z scores"),
    ],
)
def test_profiles_that_contradict_their_units(tmp_path: Path, x: np.ndarray, units: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        open_profiles(write(tmp_path / "x.h5ad", x, uns={"units": units}))


def test_a_gene_that_was_not_measured_is_no_contradiction(tmp_path: Path) -> None:
    x = X.copy()
    x[1, 2] = np.nan
    np.testing.assert_array_equal(open_profiles(write(tmp_path / "x.h5ad", x)).X, x)


def test_missing_symbols_are_empty_and_missing_donors_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", symbols=["TP53", None, np.nan])
    assert read_expression(path).symbols == ["TP53", "", ""]
    assert open_table(path).matrix.symbols == ["TP53", "", ""]
    with pytest.raises(ValueError, match=r"has profiles without a donor \(P2\)"):
        read_expression(write(tmp_path / "x.h5ad", obs=OBS.assign(donor=["a", None, "c"])))
