"""Entrez ids and symbols to Ensembl ids, through a table such as NCBI's Human.GRCh38.p13.annot.tsv.gz.

The rule for ids that aren't one to one: an id that the table gives several Ensembl ids is left out, and so are ids that
share one Ensembl id if several of them are in the expression table. All are counted and listed as `ambiguous`.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rnagan.expression.genes import gene_id, is_par_y
from rnagan.io.tables import first_few, read_table

_ENSEMBL = ("ensembl", "ensemblgeneid", "ensembl_gene_id", "ensembl_id", "gene_id", "gene stable id")
_SYMBOL = ("symbol", "gene_symbol", "hgnc_symbol", "gene_name", "gene name", "approved symbol", "description")
_MANY = ("|", ";", "///", ",")  # part several ids in one cell


@dataclasses.dataclass(frozen=True)
class GeneMap:
    """Columns of a mapping table that may name an expression table's genes: name → Ensembl ids; symbols by Ensembl."""

    columns: dict[str, dict[str, set[str]]]
    symbols: dict[str, str]
    ensembl_column: str
    path: Path


@dataclasses.dataclass(frozen=True)
class Mapped:
    """The Ensembl id of each name, None where there is none, why not, and what was done, in a line."""

    ids: list[str | None]
    status: list[str]
    line: str


def read_gene_map(path: Path | str) -> GeneMap:
    """Read a mapping table (CSV, or tab-separated TSV or TXT, perhaps with .gz) with a column of Ensembl ids.

    It is recognised by its name (ensembl, EnsemblGeneID, ensembl_gene_id …); every other column may turn out to be the
    one that the expression table's names are from. Raises with the file's name.
    """
    table = read_table(path)
    by_name = {name.casefold(): name for name in reversed(list(table))}
    target = next((by_name[name] for name in _ENSEMBL if name in by_name), None)
    if target is None:
        raise ValueError(
            f"The gene map {path} has no column {', '.join(_ENSEMBL[:3])}; it has {first_few(list(table), 8)}."
        )
    targets = [_ensembl_ids(cell) for cell in table[target]]
    columns = {}
    for name in table:
        if name == target:
            continue
        column: dict[str, set[str]] = {}
        for cell, ids in zip(table[name], targets, strict=True):
            if cell and ids:
                column.setdefault(cell, set()).update(ids)
        columns[str(name)] = column
    of_symbols = next((by_name[name] for name in _SYMBOL if by_name.get(name, target) != target), None)
    symbols: dict[str, str] = {}
    if of_symbols is not None:
        for ids, symbol in zip(targets, table[of_symbols], strict=True):
            symbols.update((gene, symbol) for gene in ids)
    if not any(targets):
        raise ValueError(f"The gene map {path} has no Ensembl id in its column {target}.")
    return GeneMap(columns, symbols, target, Path(path))


def map_genes(names: Sequence[str], mapping: GeneMap) -> Mapped:
    """Ensembl ids of unique names, by the column that knows most of them; every name that is left out is counted.

    Status of a name: kept, unmapped or ambiguous. Names that are mostly Ensembl ids already stay as they are.
    """
    known = {column: sum(name in found for name in names) for column, found in mapping.columns.items()}
    targets = {gene for column in mapping.columns.values() for ids in column.values() for gene in ids}
    already = sum(name in targets for name in names)
    best = max(known, key=known.__getitem__, default=None)
    if already and (best is None or already >= known[best]):
        line = f"{mapping.path}: not needed, the table's genes are Ensembl ids ({already:,} of them are in the map)."
        return Mapped(list(names), ["kept"] * len(names), line)
    if best is None or known[best] == 0:
        raise ValueError(
            f"The gene map {mapping.path} knows none of the table's genes, which start with {names[0]}; its columns "
            f"are {first_few([*mapping.columns, mapping.ensembl_column], 8)}."
        )
    found = [mapping.columns[best].get(name, set()) for name in names]
    shared = Counter(next(iter(ids)) for ids in found if len(ids) == 1)
    ids: list[str | None] = []
    status = []
    for candidates in found:
        only = next(iter(candidates)) if len(candidates) == 1 else None
        clear = only is not None and shared[only] == 1
        ids.append(only if clear else None)
        status.append("kept" if clear else "ambiguous" if candidates else "unmapped")
    several = sum(len(candidates) > 1 for candidates in found)
    together = status.count("ambiguous") - several
    line = (
        f"{mapping.path}: the table's genes are its {best}; {status.count('kept'):,} of {len(names):,} have an Ensembl "
        f"id, {status.count('unmapped'):,} have none, {several:,} have several and {together:,} share one, and are "
        "left out."
    )
    return Mapped(ids, status, line)


def _ensembl_ids(cell: str) -> set[str]:
    for sign in _MANY:
        cell = cell.replace(sign, " ")
    return {gene_id(name) for name in cell.split() if name.startswith("ENS") and not is_par_y(name)}
