"""Small Parquet tables, read whole with their checksums verified."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnagan.io.bounds import MAX_PARQUET_ROWS


def read_parquet(source: Path | pa.NativeFile, columns: list[str] | None = None) -> pd.DataFrame:
    """A small Parquet table, read without Arrow's threads: with them one process in a hundred aborted at its end.

    Raises `OSError` or `pyarrow.ArrowException` where it is missing, damaged or claims more than MAX_PARQUET_ROWS.
    """
    # what pandas adds to say of its own types isn't guarded by Parquet, and isn't needed
    return read_arrow(source, columns).to_pandas(use_threads=False, ignore_metadata=True)


def read_arrow(source: Path | pa.NativeFile, columns: list[str] | None = None) -> pa.Table:
    """As `read_parquet`, in Arrow's memory."""
    with pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True) as file:
        if file.metadata.num_rows > MAX_PARQUET_ROWS:
            raise pa.ArrowInvalid(f"it claims {file.metadata.num_rows:,} rows, and {MAX_PARQUET_ROWS:,} are read")
        return file.read(columns, use_threads=False)
