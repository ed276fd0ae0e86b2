"""Expression tables as they come: GCT 1.2 and 1.3, CSV, TSV or TXT (plain or gzipped), Parquet, AnnData."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rnagan.expression.genes import count_and_names
from rnagan.expression.units import UNITS, ValueRange, refuse_impossible, units_of
from rnagan.io.matrix_parquet_h5ad import open_frame
from rnagan.io.matrix_text import read_layout, table_kind
from rnagan.io.matrix_text_values import Block, text_blocks


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


def refuse_repeated(samples: Sequence[str], path: Path) -> None:
    """Refuse a table that names a sample twice."""
    twice = [sample for sample, count in Counter(samples).items() if count > 1]
    if twice:
        raise ValueError(f"{path} holds {count_and_names(twice, 'sample')} more than once; keep one profile a sample.")
