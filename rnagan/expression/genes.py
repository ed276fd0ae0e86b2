"""Gene names: one id a gene, however a table or a list spells it."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ENSEMBL = re.compile(r"(ENS[A-Z]*\d+)(\.\d+)?")
_PAR_Y = re.compile(r"ENSGR\d+|.*_PAR_Y")
_LIST_PREFIX = "rna_"  # the published list of protein-coding genes writes rna_ENSG00000186092.4
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class CleanGenes:
    """Unique gene ids, where they stood among the names given, and how many PAR twins were dropped."""

    ids: list[str]
    kept: NDArray[np.intp]
    par_y_dropped: int


def clean_genes(names: Sequence[str], source: str) -> CleanGenes:
    """Ids without prefix and version; PAR twins dropped; any other duplicate refused.

    The pseudoautosomal genes lie on X and Y with one sequence. Gene annotations list the Y copy as a second gene,
    `ENSG…_PAR_Y`, before 2017 as `ENSGR…`, whose reads can't be distinguished from those of X: the copy is dropped, the
    gene on X stays. Versions are cut from Ensembl ids only, since a dot belongs to symbols like RP11-34P13.7;
    Entrez ids pass as they are. `source` names the file in errors.
    """
    bare = [name.strip().removeprefix(_LIST_PREFIX) for name in names]
    kept = [i for i, name in enumerate(bare) if not is_par_y(name)]
    ids = [gene_id(bare[i]) for i in kept]
    twice = [gene for gene, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source} holds {count_and_names(twice, 'gene')} more than once after versions are cut; "
            "keep one column or row for each gene."
        )
    if "" in ids:
        raise ValueError(f"{source} holds a gene without a name; give every gene an id.")
    return CleanGenes(ids, np.array(kept, dtype=np.intp), len(bare) - len(kept))


def gene_id(name: str) -> str:
    """An Ensembl id without its version; any other name as it is."""
    match = _ENSEMBL.fullmatch(name)
    return match.group(1) if match else name


def bare_id(name: str) -> str:
    """An id as `clean_genes` spells it: without spaces, prefix and version."""
    return gene_id(name.strip().removeprefix(_LIST_PREFIX))


def is_par_y(name: str) -> bool:
    """Whether a gene is the Y copy of a pseudoautosomal gene."""
    return _PAR_Y.fullmatch(name.strip().removeprefix(_LIST_PREFIX)) is not None


def positions(genes: Sequence[str], wanted: Sequence[str]) -> NDArray[np.intp]:
    """Where each wanted gene stands in `genes`; -1 where it is missing."""
    place = {gene: i for i, gene in enumerate(genes)}
    return np.array([place.get(gene, -1) for gene in wanted], dtype=np.intp)


def count_and_names(names: Sequence[str], noun: str) -> str:
    """`2 samples (A, B)`, with at most five names."""
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names):,} {noun}{'s' if len(names) != 1 else ''} ({shown})"
