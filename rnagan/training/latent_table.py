"""The latents of a run's profiles, kept in its folder so that a run that goes on encodes nothing."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rnagan.io.files import atomic_path

_LATENTS, _METADATA = "latents.parquet", b"rnagan"  # file of the table, and its metadata


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


def latent_table(run: Path, made_from: str, encode: Callable[[], LatentTable]) -> LatentTable:
    """The table in `run/latents.parquet`; a new one where it isn't there or was made from other inputs.

    `made_from` is a digest of all that decides its content. It is for the main process.
    """
    table = _read_latents(run / _LATENTS, made_from)
    if table is None:
        table = encode()
        _write_latents(run / _LATENTS, made_from, table)
    return table


def shown_samples(run: Path) -> list[str]:
    """The samples generated in a run's sample grids, a row each."""
    try:
        with pq.ParquetFile(run / _LATENTS, pre_buffer=False) as file:
            return json.loads((file.schema_arrow.metadata or {})[_METADATA])["shown"]
    except (OSError, pa.ArrowException, KeyError, ValueError):
        raise FileNotFoundError(f"{run / _LATENTS} does not say which profiles its sample grids show.") from None


def _write_latents(path: Path, made_from: str, table: LatentTable) -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(table.values.ravel()), table.values.shape[1])
    metadata = json.dumps({"made_from": made_from, "shown": table.shown})
    columns = pa.table({"sample": pa.array(table.samples, pa.string()), "latent": values}).replace_schema_metadata(
        {_METADATA: metadata.encode()}
    )
    with atomic_path(path) as temporary:
        pq.write_table(columns, temporary)


def _read_latents(path: Path, made_from: str) -> LatentTable | None:
    """The table at `path`; None where there is none that was made from this."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = file.read(use_threads=False)
        metadata = json.loads((columns.schema.metadata or {})[_METADATA])
        if metadata["made_from"] != made_from:
            return None
        values = columns["latent"].combine_chunks().flatten().to_numpy().reshape(len(columns), -1)
        return LatentTable(columns["sample"].to_pylist(), np.array(values), metadata["shown"])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
