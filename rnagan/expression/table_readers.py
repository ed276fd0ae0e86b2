"""Expression tables as they come: GCT 1.2 and 1.3, CSV, TSV or TXT (plain or gzipped), Parquet, AnnData."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnagan.expression.genes import clean_genes, count_and_names, is_par_y
from rnagan.expression.units import UNITS, ValueRange, check_units, refuse_impossible, units_of
from rnagan.io.matrix_parquet_h5ad import open_frame, table_samples
from rnagan.io.matrix_text import read_layout, table_kind
from rnagan.io.matrix_text_values import Block, text_blocks

__all__ = ["UNITS", "ExpressionTable", "TableSource", "detect_units", "open_table", "read_table", "table_samples"]


@dataclasses.dataclass(frozen=True)
class ExpressionTable:
    """Samples × genes float32 in `units`, with unique ids. `symbols` are empty strings where the file has none.

    `values` lie in memory as in the file: by gene (Fortran order) where its rows are genes.
    """

    values: NDArray[np.float32]
    samples: list[str]
    genes: list[str]
    symbols: list[str]
    units: str
    units_from: str
    par_y_dropped: int


@dataclasses.dataclass
class TableSource:
    """An opened table whose rows are yet to be read: `names` across, `symbols` of those where they are genes.

    `rows`: how many there are, where the file says it before they are read. `why` says what decided that the rows
    are samples or genes, `ignored` names columns of text that are left out, `units_said` is the file's own word for
    its units, if any. `seen` grows while the rows are read.
    """

    path: Path
    rows_are: str
    why: str
    names: list[str]
    symbols: list[str]
    ignored: tuple[str, ...]
    units_said: str | None
    rows: int | None
    read: Callable[[], Iterator[Block]]
    seen: ValueRange = dataclasses.field(default_factory=ValueRange)

    def blocks(self, units: str | None = None) -> Iterator[Block]:
        """The rows, once, in blocks of some MB. Raises on values that are missing, infinite or impossible in `units`,
        and on a sample that comes twice."""
        known: set[str] = set()
        for block in self.read():
            self.seen.add(block.values)
            if not np.isfinite([self.seen.lowest, self.seen.highest]).all():
                self._refuse_not_finite(block)
            if units:
                refuse_impossible(self.seen, units, self.path)
            if self.rows_are == "samples":
                refuse_repeated([*block.labels, *known.intersection(block.labels)], self.path)
                known.update(block.labels)
            yield block

    def units(self, declared: str | None) -> tuple[str, str]:
        """Units and who says so, after the last block: declared, else the file's own word, else the rule's."""
        if declared:
            units, source = declared, "as declared"
        elif self.units_said in UNITS:
            units, source = str(self.units_said), "as the file says"
        else:
            units, source = units_of(self.seen)
        refuse_impossible(self.seen, units, self.path)
        return units, source

    def _refuse_not_finite(self, block: Block) -> None:
        row, column = np.argwhere(~np.isfinite(block.values))[0]
        sample, gene = block.labels[row], self.names[column]
        if self.rows_are == "genes":
            sample, gene = gene, sample
        raise ValueError(
            f"{self.path} holds values that are missing or not finite, the first for sample {sample} and gene {gene}; "
            "fill them in or leave the gene out."
        )


def open_table(path: Path | str, rows: str | None = None, sample_column: str = "sample") -> TableSource:
    """Open an expression table by its ending; `layout` has the rule for what its rows are, unless `rows` says it.

    Raises `FileNotFoundError` or `ValueError` with the file's name.
    """
    path = Path(path)
    if table_kind(path) in ("parquet", "h5ad"):
        frame = open_frame(path, rows, sample_column)
        told = frame.rows_are, frame.why, frame.names, frame.symbols, frame.ignored, frame.units
        source = TableSource(path, *told, len(frame.labels), frame.blocks)
    else:
        layout = read_layout(path, rows, sample_column)
        told = layout.rows_are, layout.why, layout.names, [""] * len(layout.names), layout.ignored, None
        source = TableSource(path, *told, layout.rows, lambda: text_blocks(path, layout))
    if source.rows_are == "genes":
        refuse_repeated(source.names, path)
    return source


def read_table(
    path: Path | str, units: str | None = None, sample_column: str = "sample", rows: str | None = None
) -> ExpressionTable:
    """Read a whole table: .gct, .csv, .tsv, .txt (each also with .gz), .parquet or .h5ad, either way round.

    `units` says what the values are; without it `units_of` does. `rows` (samples or genes) and `sample_column` help to
    tell what the rows are. Raises with the file's name on a missing or damaged file, an unknown ending, values that are
    no numbers, NaN, or values the units can't have.
    """
    check_units(units)
    source = open_table(path, rows, sample_column)
    genes_down = source.rows_are == "genes"
    labels: list[str] = []
    row_symbols: list[str] = []
    held = _Held(len(source.names), source.rows)
    for block in source.blocks():
        labels += block.labels
        row_symbols += block.symbols
        if genes_down:  # the copies on Y are dropped before they take memory
            keep = np.array([not is_par_y(label) for label in block.labels])
            held.add(block.values if keep.all() else block.values[keep])
        else:
            held.add(block.values)
    samples, names, symbols = labels, source.names, source.symbols
    if genes_down:
        samples, names, symbols = source.names, labels, row_symbols
    clean = clean_genes(names, str(path))
    if not samples or not clean.ids:
        raise ValueError(f"{path} holds {len(samples)} samples and {len(clean.ids)} genes; it needs some of both.")
    chosen, told_by = source.units(units)
    values = held.array()
    if genes_down:
        values = values.T
    elif len(clean.ids) < len(names):
        values = values[:, clean.kept]
    symbols = [symbols[i] for i in clean.kept]
    return ExpressionTable(values, samples, clean.ids, symbols, chosen, told_by, clean.par_y_dropped)


class _Held:
    """Blocks of rows in one array, which is made at once where the number of rows is known."""

    def __init__(self, width: int, rows: int | None) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self._whole = None if rows is None else np.empty((rows, width), np.float32)
        self._width, self._filled = width, 0

    def add(self, values: NDArray[np.float32]) -> None:
        end = self._filled + len(values)
        if self._whole is None:
            self._parts.append(values)
        else:
            self._whole[self._filled : end] = values
        self._filled = end

    def array(self) -> NDArray[np.float32]:
        if self._whole is not None:
            return self._whole[: self._filled]
        return np.concatenate(self._parts) if self._parts else np.empty((0, self._width), np.float32)


def detect_units(values: NDArray[np.float32]) -> tuple[str, str]:
    """Units of an array and the reason (`units_of`)."""
    seen = ValueRange()
    seen.add(values)
    return units_of(seen)


def refuse_repeated(samples: Sequence[str], path: Path) -> None:
    """Refuse a table that names a sample twice."""
    twice = [sample for sample, count in Counter(samples).items() if count > 1]
    if twice:
        raise ValueError(f"{path} holds {count_and_names(twice, 'sample')} more than once; keep one profile a sample.")
