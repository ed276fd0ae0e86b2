"""The table of latents of a run: every profile is encoded once, by one process, and joined by sample id after that."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator
from numpy.typing import NDArray

from rnagan.io.files import atomic_path

_NAME, _TOLD = "latents.parquet", b"rnagan"


@dataclasses.dataclass(frozen=True)
class LatentTable:
    """`values` (samples, latent) float32 of `samples`; `shown`: those generated in every sample grid."""

    samples: list[str]
    values: NDArray[np.float32]
    shown: list[str]

    def of(self, samples: list[str]) -> NDArray[np.float32]:
        """The latents of samples, all of which must be there, (n, latent)."""
        rows = pd.Index(self.samples).get_indexer(samples)
        assert (rows >= 0).all()
        return self.values[rows]


def latent_table(run: Path, made_from: str, encode: Callable[[], LatentTable], accelerator: Accelerator) -> LatentTable:
    """The table kept in `run/latents.parquet`, or, where it isn't there or was made from something else, a new one.

    `made_from` is a digest of whatever decides its content. Only the main process calls `encode`.
    """
    if accelerator.is_main_process and _read(run / _NAME, made_from) is None:
        _write(run / _NAME, made_from, encode())
    accelerator.wait_for_everyone()
    table = _read(run / _NAME, made_from)
    if table is None:
        raise FileNotFoundError(f"{run / _NAME}, which the main process wrote, can't be seen by another process.")
    return table


def shown_samples(run: Path) -> list[str]:
    """The samples generated in a run's sample grids, a row each."""
    try:
        with pq.ParquetFile(run / _NAME, pre_buffer=False) as file:
            return json.loads((file.schema_arrow.metadata or {})[_TOLD])["shown"]
    except (OSError, pa.ArrowException, KeyError, ValueError):
        raise FileNotFoundError(f"{run / _NAME} does not say which profiles its sample grids show.") from None


def _write(path: Path, made_from: str, table: LatentTable) -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(table.values.ravel()), table.values.shape[1])
    told = json.dumps({"made_from": made_from, "shown": table.shown})
    columns = pa.table({"sample": pa.array(table.samples, pa.string()), "latent": values}).replace_schema_metadata(
        {_TOLD: told.encode()}
    )
    with atomic_path(path) as temporary:
        pq.write_table(columns, temporary)


def _read(path: Path, made_from: str) -> LatentTable | None:
    """The table at `path`; None where there is none that was made from this."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = file.read(use_threads=False)
        told = json.loads((columns.schema.metadata or {})[_TOLD])
        if told["made_from"] != made_from:
            return None
        values = columns["latent"].combine_chunks().flatten().to_numpy().reshape(len(columns), -1)
        return LatentTable(columns["sample"].to_pylist(), np.array(values), told["shown"])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
