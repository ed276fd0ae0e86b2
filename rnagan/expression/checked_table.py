"""An expression table that is checked while it is read: no missing values, no sample twice, possible units."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rnagan.expression.genes import are_genes, count_and_names, gene_kinds
from rnagan.expression.unit_evidence import Evidence
from rnagan.expression.units import FoundUnits, decide_units, stated_units
from rnagan.io.gene_names import parse_gene
from rnagan.io.matrix import open_matrix
from rnagan.io.matrix_rows import Block, Matrix


class CheckedTable:
    """An opened table. While its rows are read it gathers what they say of the units; names of no genes have no say."""

    def __init__(self, path: Path, matrix: Matrix) -> None:
        self.path, self.matrix = path, matrix
        self._kinds: Counter[str] = Counter()  # of genes' names
        self._evidence: dict[str, Evidence] = {}  # by kind of name
        self._not_finite: dict[str, tuple[str, str]] = {}  # the first sample and gene of each kind

    def blocks(self) -> Iterator[Block]:
        """The rows, once, in blocks of some MB. Raises on values of genes that are missing or infinite, and on a sample
        that comes twice."""
        if self.matrix.rows_are == "samples":
            yield from self._blocks_of_samples()
        else:
            yield from self._blocks_of_genes()

    def units(self, declared: str | None) -> FoundUnits:
        """Units and who says so, after the last block: declared, else the file's own word, else what the values say."""
        stated = None
        try:
            stated = stated_units(self.matrix.says, self.path)
        except ValueError:
            if declared is None:
                raise
        return decide_units(self._of_genes(), declared, stated, self.path)

    def _blocks_of_samples(self) -> Iterator[Block]:
        names = self.matrix.names
        genes = are_genes(_kinds(names))
        evidence = self._evidence.setdefault("", Evidence(genes_are_rows=False))
        known: set[str] = set()
        for block in self.matrix.blocks():
            values = block.values if genes.all() else block.values[:, genes]
            evidence.add(values)
            if not evidence.range.finite:
                row, column = np.argwhere(~np.isfinite(values))[0]
                self._refuse_not_finite(block.labels[row], names[np.flatnonzero(genes)[column]])
            refuse_repeated([*block.labels, *known.intersection(block.labels)], self.path)
            known.update(block.labels)
            yield block

    def _blocks_of_genes(self) -> Iterator[Block]:
        """What most rows are called is known after the last one, so each kind of name has an evidence of its own."""
        for block in self.matrix.blocks():
            kinds = _kinds(block.labels)
            counts = Counter(kinds)
            self._kinds += counts
            for kind in counts:
                of_kind = np.full(len(kinds), True) if len(counts) == 1 else np.array([own == kind for own in kinds])
                values = block.values if len(counts) == 1 else block.values[of_kind]
                evidence = self._evidence.setdefault(kind, Evidence(genes_are_rows=True))
                evidence.add(values)
                if not evidence.range.finite and kind not in self._not_finite:
                    row, column = np.argwhere(~np.isfinite(values))[0]
                    gene = block.labels[np.flatnonzero(of_kind)[row]]
                    self._not_finite[kind] = (self.matrix.names[column], gene)
            yield block
        for kind, (sample, gene) in self._not_finite.items():
            if kind in gene_kinds(self._kinds):
                self._refuse_not_finite(sample, gene)

    def _of_genes(self) -> Evidence:
        wanted = {"", *gene_kinds(self._kinds)}
        found, *more = [evidence for kind, evidence in self._evidence.items() if kind in wanted] or [Evidence(False)]
        for evidence in more:
            found.merge(evidence)
        return found

    def _refuse_not_finite(self, sample: str, gene: str) -> None:
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


def _kinds(names: Sequence[str]) -> list[str]:
    """The kind of each name (`parse_gene`); most are found the fast way."""
    return ["ensembl" if name.startswith("ENSG") else parse_gene(name).kind for name in names]
