"""The expression file of a cohort: an AnnData .h5ad with donor, tissue and split of every profile."""

import dataclasses
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.files import atomic_path

OBS_COLUMNS = ("donor", "tissue", "split")


@dataclasses.dataclass(frozen=True)
class Expression:
    """Profiles of a cohort: `values` float32 (samples, genes) in `units`; `obs` has OBS_COLUMNS by sample."""

    values: NDArray[np.float32]
    obs: pd.DataFrame
    genes: list[str]
    symbols: list[str]
    units: str

    def split(self, name: str) -> NDArray[np.float32]:
        """The profiles of one split (train, validation or test)."""
        return self.values[(self.obs["split"] == name).to_numpy()]


def write_expression(path: Path | str, expression: Expression, inputs: str) -> None:
    """Write an .h5ad by rename; `inputs` is the digest of what it was made from."""
    var = pd.DataFrame({"symbol": expression.symbols}, index=pd.Index(expression.genes, name="gene"))
    data = anndata.AnnData(
        X=expression.values, obs=expression.obs, var=var, uns={"units": expression.units, "inputs": inputs}
    )
    with atomic_path(path) as temporary:
        data.write_h5ad(temporary)


def read_expression(path: Path | str) -> Expression:
    """Read an .h5ad that `write_expression` made; raises with its name on anything else."""
    data = _open(Path(path), backed=False)
    missing = [name for name in OBS_COLUMNS if name not in data.obs.columns]
    if missing or "units" not in data.uns:
        lacks = f"the obs column {missing[0]}" if missing else "uns['units']"
        raise ValueError(f"{path} lacks {lacks}; make it with shards/build_expression.py.")
    symbols = data.var["symbol"].astype(str).tolist() if "symbol" in data.var else [""] * data.n_vars
    values = dense(data.X)
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite; make it with shards/build_expression.py.")
    obs = data.obs[list(OBS_COLUMNS)].astype(str)
    return Expression(values, obs, data.var_names.tolist(), symbols, str(data.uns["units"]))


def open_profiles(path: Path | str) -> anndata.AnnData:
    """Read any .h5ad of profiles: X (profiles, genes) in `uns["units"]`, genes in `var_names`; any `obs`."""
    return _open(Path(path), backed=False)


def dense(x: Any) -> NDArray[np.float32]:
    """The X of an AnnData, which may be sparse, as an array."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)


def inputs_digest(path: Path | str) -> str | None:
    """Digest of the inputs that an .h5ad was made from; None where there is no such file."""
    if not Path(path).is_file():
        return None
    data = _open(Path(path), backed=True)
    digest = data.uns.get("inputs")
    data.file.close()
    return str(digest)


def _open(path: Path, *, backed: bool) -> anndata.AnnData:
    if not path.is_file():
        raise FileNotFoundError(f"The expression file {path} does not exist; make it with shards/build_expression.py.")
    try:
        return anndata.read_h5ad(path, backed="r" if backed else None)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no .h5ad file ({error}).".replace("\n", " ")) from None


def check_same_splits(cohort: pd.DataFrame, expression: Expression, cohort_path: Path, expression_path: Path) -> None:
    """Refuse an expression file made with another split than the cohort table's: held-out donors may be in training."""
    both = cohort.drop_duplicates("sample").set_index("sample")["split"].reindex(expression.obs.index).dropna()
    moved = both.index[both != expression.obs.loc[both.index, "split"]]
    if len(moved):
        raise ValueError(
            f"{len(moved)} samples ({moved[0]} …) are in one split in {cohort_path} and in another in "
            f"{expression_path}; build the expression file again from this cohort table, and train the VAE on it."
        )
