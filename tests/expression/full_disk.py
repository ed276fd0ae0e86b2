"""Writes an .h5ad on disks of many sizes, as argv says; each must end in an OSError of ours, or in a whole file."""

import os
import resource
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from rnagan.expression.h5ad import ProfileWriter
from rnagan.expression.h5ad_writer import write_anndata

folder, (rows, genes) = Path(sys.argv[1]), (400, 100)
values = np.random.default_rng(0).random((rows, genes), dtype=np.float32)
obs = pd.DataFrame({"donor": [f"donor {k}" for k in range(rows)]}, index=[f"s{k}" for k in range(rows)])
var = pd.DataFrame({"symbol": ["x" * 40] * genes}, index=pd.Index([f"g{k}" for k in range(genes)], name="gene"))


def in_blocks(path: Path) -> None:
    with ProfileWriter(path) as writer:
        for start in range(0, rows, 50):
            writer.append(values[start : start + 50])
        writer.convert(np.log1p)
        writer.finish(obs, var, {"units": "tpm"})


def at_once(path: Path) -> None:
    write_anndata(path, anndata.AnnData(X=values, obs=obs, var=var))


for write in (in_blocks, at_once):
    limits = iter(range(0, 10**7, 20_000))
    failed = 0
    while True:
        path = folder / f"{write.__name__}.h5ad"
        resource.setrlimit(resource.RLIMIT_FSIZE, (next(limits), resource.RLIM_INFINITY))
        try:
            write(path)
        except OSError as error:
            assert error.strerror == os.strerror(error.errno) and path.name in error.filename, repr(error)
            failed += 1
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        break
    assert failed > 5
    assert anndata.read_h5ad(path).shape == (rows, genes)
print("alive")
