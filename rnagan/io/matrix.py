"""Opens expression tables: GCT 1.2 and 1.3, CSV, TSV or TXT (plain or gzipped), Parquet, AnnData; recount3, ARCHS4."""

import re
from pathlib import Path

from rnagan.io.matrix_archs4 import open_archs4
from rnagan.io.matrix_parquet_h5ad import open_h5ad, open_parquet
from rnagan.io.matrix_rows import Matrix
from rnagan.io.matrix_text import read_layout, text_labels
from rnagan.io.matrix_text_values import text_blocks
from rnagan.io.tables import table_format

TEXT_KINDS, BINARY_KINDS = ("gct", "csv", "tsv", "txt"), ("parquet", "h5ad", "h5")
_RECOUNT3 = re.compile(r".+\.gene_sums\..+\.[A-Z]\d{3}(\.gz)?")  # sra.gene_sums.SRP166780.G026.gz


def open_matrix(path: Path | str, rows: str | None = None, sample_column: str = "sample") -> Matrix:
    """Open a table without reading its values, by its ending.

    `rows` (samples or genes) wins over the rule in matrix_rows.py. Raises `FileNotFoundError` or `ValueError` with the
    file's name.
    """
    path = Path(path)
    kind = matrix_kind(path)
    if kind == "parquet":
        return open_parquet(path, rows, sample_column)
    if kind == "h5ad":
        return open_h5ad(path, rows, sample_column)
    if kind == "h5":
        return open_archs4(path, rows)
    layout = read_layout(path, rows, sample_column)
    return Matrix(
        layout.rows_are,
        layout.why,
        layout.names,
        [""] * len(layout.names),
        layout.ignored,
        {},
        lambda: text_labels(path, layout),
        lambda: text_blocks(path, layout),
    )


def matrix_samples(path: Path | str, rows: str | None = None, sample_column: str = "sample") -> list[str]:
    """The samples of an expression table, without reading its values."""
    matrix = open_matrix(path, rows, sample_column)
    return matrix.labels() if matrix.rows_are == "samples" else matrix.names


def matrix_kind(path: Path) -> str:
    """One of TEXT_KINDS and BINARY_KINDS, by the ending; raises on a missing file and any other ending."""
    if not path.is_file():
        raise FileNotFoundError(f"The expression table {path} does not exist.")
    if _RECOUNT3.fullmatch(path.name):  # tab-separated, under lines that start with ##
        return "tsv"
    form = table_format(path)
    if form.kind in TEXT_KINDS or (form.kind in BINARY_KINDS and not form.gzipped):
        return form.kind
    raise ValueError(
        f"{path} ends in none of .gct, .csv, .tsv, .txt (or these with .gz), .parquet, .h5ad, .h5 (ARCHS4's); rename "
        "or convert it."
    )
