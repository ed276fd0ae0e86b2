"""An expression table that is checked while it is read: no missing values, no sample twice, possible units."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rnagan.expression.genes import count_and_names
from rnagan.expression.units import UNITS, ValueRange, refuse_impossible, units_of
from rnagan.io.matrix import open_matrix
from rnagan.io.matrix_rows import Block, Matrix


@dataclasses.dataclass
class CheckedTable:
    """An opened table. `seen` grows while its rows are read."""

    path: Path
    matrix: Matrix
    seen: ValueRange = dataclasses.field(default_factory=ValueRange)

    def blocks(self, units: str | None = None) -> Iterator[Block]:
        """The rows, once, in blocks of some MB. Raises on values that are missing, infinite or impossible in `units`,
        and on a sample that comes twice."""
        known: set[str] = set()
        for block in self.matrix.blocks():
            self.seen.add(block.values)
            if not np.isfinite([self.seen.lowest, self.seen.highest]).all():
                self._refuse_not_finite(block)
            if units:
                refuse_impossible(self.seen, units, self.path)
            if self.matrix.rows_are == "samples":
                refuse_repeated([*block.labels, *known.intersection(block.labels)], self.path)
                known.update(block.labels)
            yield block

    def units(self, declared: str | None) -> tuple[str, str]:
        """Units and who says so, after the last block: declared, else the file's own word, else the rule's."""
        if declared:
            units, source = declared, "as declared"
        elif self.matrix.units in UNITS:
            units, source = str(self.matrix.units), "as the file says"
        else:
            units, source = units_of(self.seen)
        refuse_impossible(self.seen, units, self.path)
        return units, source

    def _refuse_not_finite(self, block: Block) -> None:
        row, column = np.argwhere(~np.isfinite(block.values))[0]
        sample, gene = block.labels[row], self.matrix.names[column]
        if self.matrix.rows_are == "genes":
            sample, gene = gene, sample
        raise ValueError(
            f"{self.path} holds values that are missing or not finite, the first for sample {sample} and gene {gene}; "
            "fill them in or leave the gene out."
        )


def open_table(path: Path | str, rows: str | None = None, sample_column: str = "sample") -> CheckedTable:
    """Open an expression table (`io.matrix.open_matrix`); one that names a sample twice is refused."""
    path, matrix = Path(path), open_matrix(path, rows, sample_column)
    if matrix.rows_are == "genes":
        refuse_repeated(matrix.names, path)
    return CheckedTable(path, matrix)


def refuse_repeated(samples: Sequence[str], path: Path) -> None:
    """Refuse a table that names a sample twice."""
    twice = [sample for sample, count in Counter(samples).items() if count > 1]
    if twice:
        raise ValueError(f"{path} holds {count_and_names(twice, 'sample')} more than once; keep one profile a sample.")
