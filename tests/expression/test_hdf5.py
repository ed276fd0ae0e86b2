import collections
import errno
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from rnagan.expression import h5ad
from rnagan.expression.h5ad import ProfileWriter


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


def test_a_full_disk_is_an_oserror_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ProfileWriter(tmp_path / "x.h5ad")
    for error in (
        OSError(errno.ENOSPC, "No space left"),
        OSError("write failed, errno = 28, error message"),
        RuntimeError("errno = 28"),
    ):
        assert writer._plain(error).errno == errno.ENOSPC and "x.h5ad" in str(writer._plain(error))
    usage = collections.namedtuple("Usage", "free")(20 << 20)
    monkeypatch.setattr(h5ad.shutil, "disk_usage", lambda _: usage)
    writer.append(np.zeros((2, 3), np.float32))
    with pytest.raises(OSError, match=r"No space left on device.*x\.h5ad"), writer:
        writer.append(np.zeros((1, 2 << 20), np.float32))
