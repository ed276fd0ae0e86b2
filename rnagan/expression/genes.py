"""Gene names: one id a gene, however a table or a list spells it, and which names are no genes."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rnagan.io.gene_names import parse_gene

_NAMED = 5


@dataclasses.dataclass(frozen=True)
class CleanGenes:
    """Unique gene ids, where they stood among the names given, the symbols that the names say ('' where none), and how
    many PAR twins were dropped. `no_genes`: names that were set aside."""

    ids: list[str]
    kept: NDArray[np.intp]
    symbols: list[str]
    par_y_dropped: int
    no_genes: list[str]


def clean_genes(names: Sequence[str], source: str, *, all_are_genes: bool = False) -> CleanGenes:
    """Ids without prefix, version and suffixes; PAR twins dropped, what is no gene set aside, other duplicates refused.

    The pseudoautosomal genes lie on X and Y with one sequence. Gene annotations list the Y copy as a second gene,
    `ENSG…_PAR_Y`, before 2017 as `ENSGR…`, whose reads can't be distinguished from those of X: the copy is dropped, the
    gene on X stays. Versions are cut from Ensembl ids only, since a dot belongs to symbols like RP11-34P13.7;
    Entrez ids pass as they are. What is a gene: `are_genes`, unless a list is known to hold nothing else
    (`all_are_genes`). `source` names the file in errors.
    """
    found = [parse_gene(name) for name in names]
    genes = np.ones(len(found), bool) if all_are_genes else are_genes([name.kind for name in found])
    kept = [i for i, name in enumerate(found) if genes[i] and not name.is_par_y]
    ids = [found[i].id for i in kept]
    twice = [gene for gene, count in Counter(ids).items() if count > 1]
    if "" in ids:
        raise ValueError(f"{source} holds a gene without a name; give every gene an id.")
    if twice:
        raise ValueError(
            f"{source} holds {count_and_names(twice, 'gene')} more than once after versions are cut; "
            "keep one column or row for each gene."
        )
    par_y = sum(name.is_par_y for name, gene in zip(found, genes, strict=True) if gene)
    set_aside = [name for name, gene in zip(names, genes, strict=True) if not gene]
    return CleanGenes(ids, np.array(kept, dtype=np.intp), [found[i].symbol for i in kept], par_y, set_aside)


def are_genes(kinds: Sequence[str]) -> NDArray[np.bool_]:
    """Which names are genes', by the kind of each (`parse_gene`).

    Where most are Ensembl ids only those are, where most are Entrez ids only those. Where most are symbols or names of
    any other sort all are but those of no gene, such as N_unmapped or age.
    """
    wanted = gene_kinds(Counter(kinds))
    return np.array([kind in wanted for kind in kinds], dtype=bool)


def gene_kinds(counts: Counter[str]) -> set[str]:
    """The kinds of name that are genes', where so many names are of each kind."""
    for kind in ("ensembl", "number"):
        if counts[kind] * 2 > counts.total():
            return {kind}
    return {"ensembl", "number", "word"}


def gene_id(name: str) -> str:
    """A gene's id without prefix, version and suffixes; a name that is none as it is."""
    return parse_gene(name).id


def is_par_y(name: str) -> bool:
    """Whether a gene is the Y copy of a pseudoautosomal gene."""
    return parse_gene(name).is_par_y


def positions(genes: Sequence[str], wanted: Sequence[str]) -> NDArray[np.intp]:
    """Where each wanted gene stands in `genes`; -1 where it is missing."""
    place = {gene: i for i, gene in enumerate(genes)}
    return np.array([place.get(gene, -1) for gene in wanted], dtype=np.intp)


def count_and_names(names: Sequence[str], noun: str) -> str:
    """`2 samples (A, B)`, with at most five names."""
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names):,} {noun}{'s' if len(names) != 1 else ''} ({shown})"
