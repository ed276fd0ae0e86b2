"""Full disks under .h5ad files: HDF5 ended the whole process by a segmentation fault."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.io.files import sha256_of_file
from tests import programs
from tests.disks import enlarge, small_disk


@pytest.mark.attack(kind=7)
def test_h5ad_of_any_size_that_the_disk_does_not_take(tmp_path: Path) -> None:
    ended = programs.run(Path(__file__).with_name("full_disk.py"), tmp_path).check()
    assert ended.stdout == "alive\n" and not list(tmp_path.glob(".tmp-*"))


@pytest.mark.attack(kind=7, ends="unharmed")
@pytest.mark.slow
@pytest.mark.guard
def test_build_expression_on_a_full_disk_and_again(tmp_path: Path) -> None:
    names = [f"S{k}" for k in range(60)]
    table = pd.DataFrame(
        np.random.default_rng(0).random((60, 8_000)).round(3) * 100, index=pd.Index(names, name="sample")
    )
    table.columns = [f"ENSG{k:011d}" for k in range(8_000)]
    table.to_csv(tmp_path / "table.csv")
    cohort = pd.DataFrame(
        {"sample": names, "donor": names, "tissue": "lung", "split": "train", "slide": "", "site": ""}
    )
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    words = ("rnagan", "build-expression", "--table", tmp_path / "table.csv", "--cohort", tmp_path / "cohort.csv")
    programs.run(*words, "--out", tmp_path / "calm.h5ad").check()
    with small_disk(tmp_path / "disk", "1m") as disk:
        full = programs.run(*words, "--out", disk / "x.h5ad")
        assert (full.returncode, full.stderr) == (
            1,
            f"Error: the disk is full ({disk}/x.h5ad); free space and start again, what is finished is kept.\n",
        )
        assert not list(disk.iterdir())
        enlarge(disk, "20m")
        programs.run(*words, "--out", disk / "x.h5ad").check()
        assert sha256_of_file(disk / "x.h5ad") == sha256_of_file(tmp_path / "calm.h5ad")
