"""Every way to open an .h5ad refuses the same files with the same sentence."""

from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
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


def _claims(path: Path, shape: tuple[int, int]) -> None:
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_dataset("X", shape, np.float32, chunks=(1, 3), compression="gzip")


def _claims_when_sparse(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["X"]
        sparse = file.create_group("X")
        sparse.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (80, 2**36)})
        for name, kind in (("data", np.float32), ("indices", np.int64), ("indptr", np.int64)):
            sparse.create_dataset(name, data=np.zeros(81 if name == "indptr" else 0, kind))


def _sparse_data_that_is_not_there(path: Path) -> None:
    _claims_when_sparse(path)
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = (3, 3)
        del file["X/data"]
        file["X"].create_dataset("data", (2**40,), np.float32, chunks=(1024,))


def _names_that_are_not_there(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["var/_index"]
        file["var"].attrs["_index"] = "_index"
        file["var"].create_dataset("_index", (2**36,), h5py.string_dtype(), chunks=(1024,))


def _linked(path: Path) -> None:
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["X"] = X
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("other.h5", "/X")


def _linked_deep(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["uns/deep/er"] = h5py.ExternalLink("/etc/passwd", "/")


def _kept_outside(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_dataset("X", (3, 3), np.float32, external=[("/etc/passwd", 0, 36)])


def _virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((3, 3), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "X", (3, 3))
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_virtual_dataset("X", layout)


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (
            lambda path: _claims(path, (80, 2**36)),
            r"claims 80 × 68,719,476,736 values in /X, and stores 0 bytes of them",
        ),
        (lambda path: _claims(path, (2**40, 3)), r"claims 1,099,511,627,776 × 3 values in /X, and stores 0 bytes"),
        (_sparse_data_that_is_not_there, r"claims 1,099,511,627,776 values in /X/data, and stores 0 bytes"),
        (_names_that_are_not_there, r"claims 68,719,476,736 values in /var/_index, and stores 0 bytes of them"),
        (_linked, r"leads to another file at /X; copy its values into this one"),
        (_linked_deep, r"leads to another file at /uns/deep/er; copy its values into this one"),
        (_kept_outside, r"leads to another file at /X; copy its values into this one"),
        (_virtual, r"leads to another file at /X; copy its values into this one"),
    ],
)
def test_files_that_claim_the_world_or_lead_elsewhere(
    tmp_path: Path, door: Callable, attack: Callable, sentence: str
) -> None:
    path = write(tmp_path / "x.h5ad")
    attack(path)
    with pytest.raises(ValueError, match=rf"x\.h5ad {sentence}"):
        door(path)


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize("door", DOORS)
def test_a_sparse_table_that_would_be_huge_is_refused(tmp_path: Path, door: Callable) -> None:
    path = write(tmp_path / "x.h5ad")
    _claims_when_sparse(path)
    with pytest.raises(
        ValueError, match=r"x\.h5ad has 80 × 68,719,476,736 values in X, (which need|and names 3 profiles)"
    ):
        door(path)


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
