"""A visitor's expression table: bounded, read as rnagan build-expression reads one, in the model's genes and units."""

import io
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnagan.apps.explored_model import ExploredModel, ExploredProfile
from rnagan.expression.checked_table import open_table
from rnagan.expression.genes import gene_id
from rnagan.io.visible import visible
from rnagan.latent.profiles import genes_by_symbol, in_genes_of, in_units_of

MAX_BYTES = 8 << 20
MAX_PROFILES = 20
MAX_GENES = 100_000
MAX_NAME = 60  # characters of a sample
UNITS = ("", "tpm", "counts", "log2")  # "": found from the values
_SAID = "Your table"
_IN_WORDS = {  # options of the command line, in what the page has in their place
    "say --units log2 if they are log2(x + 1), or else one of": "choose the units, or give one of",
    "say --rows samples or --rows genes, or name the sample's column with --sample-column": "name the first column "
    "gene or sample",
    "say --units": "choose",
    "Say --units": "Choose",
}


def read_upload(data: bytes, units: str, explored: ExploredModel) -> list[ExploredProfile]:
    """The profiles of a CSV or TSV, genes by samples or samples by genes, of at most MAX_PROFILES samples.

    Raises `ValueError`, a sentence for the visitor, where it can't be read, is too large, or doesn't fit the model.
    """
    if units not in UNITS:
        raise ValueError("The units are TPM, counts or log2(TPM + 1), or are found from the values.")
    if len(data) > MAX_BYTES:
        raise ValueError(f"{_SAID} has {len(data):,} bytes, and {MAX_BYTES:,} are read; keep a few samples.")
    if not data.strip():
        raise ValueError(f"{_SAID} is empty; it needs a row for each gene, with an id and a value.")
    _check_lines(data)
    with tempfile.TemporaryDirectory(prefix="rnagan-explore-") as folder:
        path = Path(folder) / ("table.tsv" if b"\t" in data[:10_000] else "table.csv")
        path.write_bytes(data)
        try:
            names, genes, values, found = _read(path, units or None)
        except (ValueError, OSError) as error:
            raise ValueError(_for_visitors(str(error), path)) from None
        except (IndexError, KeyError, OverflowError, MemoryError):  # whatever is wrong is the table's
            raise ValueError(f"{_SAID} can't be read as a table of numbers.") from None
    return in_model(explored, values, genes, found, names)


def in_model(
    explored: ExploredModel, values: NDArray[np.float32], genes: list[str], units: str, names: list[str]
) -> list[ExploredProfile]:
    """Profiles (samples, genes) in `units`, of `genes` by id or symbol, called `names`, as the model takes them.

    A symbol that stands for several genes names none of them. Raises `ValueError` where it takes no genes, other units,
    or none of these genes.
    """
    vae = explored.vae
    if vae is None:
        raise ValueError("This model was trained on an embedding of profiles, so it can't take a table of genes.")
    if units not in vae.transform.accepts:
        raise ValueError(f"{_SAID} is in {units}, and the model takes {' or '.join(vae.transform.accepts)}.")
    known = set(vae.transform.genes)
    by_symbol = genes_by_symbol(vae, explored.profiles.symbols)
    clear = {symbol: own[0] for symbol, own in by_symbol.items() if len(own) == 1}  # who knows which of several?
    ids = [gene_id(gene) for gene in genes]
    ids = [gene if gene in known else clear.get(gene.casefold(), gene) for gene in ids]
    first = {gene: column for column, gene in reversed(list(enumerate(ids)))}  # of two spellings the first
    if not known & first.keys():
        raise ValueError(
            f"The model knows none of the {len(genes):,} genes of your table; it has {vae.transform.genes[0]}, for "
            f"example, and your table {visible(genes[0][:MAX_NAME])}."
        )
    own = in_units_of(vae, in_genes_of(vae, values[:, list(first.values())], list(first)), units)
    return [ExploredProfile(name, "", "", "", row, uploaded=True) for name, row in zip(names, own, strict=True)]


def _read(path: Path, units: str | None) -> tuple[list[str], list[str], np.ndarray, str]:
    """Samples, genes, values float32 (samples, genes), and units."""
    source = open_table(path)
    across = source.matrix.names
    if source.matrix.rows_are == "genes":
        _check_sizes(len(across), 0)
    else:
        _check_sizes(0, len(across))
    labels: list[str] = []
    blocks = []
    for block in source.blocks():
        labels += block.labels
        blocks.append(block.values)
        _check_sizes(*((0, len(labels)) if source.matrix.rows_are == "genes" else (len(labels), 0)))
    if not labels or not across:
        raise ValueError(f"{path} holds no profile; it needs a row for each gene, with an id and a value.")
    found = source.units(units)
    values = np.concatenate(blocks)
    if found.convert is not None:
        values = found.convert(values.astype(np.float64)).astype(np.float32)
    if source.matrix.rows_are == "genes":
        return [_short(name) for name in across], labels, values.T, found.units
    return [_short(name) for name in labels], list(across), values, found.units


def _check_lines(data: bytes) -> None:
    """Before a table is opened, which reads its first lines whole: millions of names take most of a minute."""
    for line in io.BytesIO(data):
        if len(line) > MAX_GENES and max(map(line.count, b"\t,; ")) > MAX_GENES:
            raise ValueError(
                f"{_SAID} has a line of more than {MAX_GENES:,} cells; a table has {MAX_GENES:,} genes at most."
            )


def _check_sizes(samples: int, genes: int) -> None:
    if samples > MAX_PROFILES:
        raise ValueError(f"{_SAID} has more than {MAX_PROFILES} samples; keep those that you want to see.")
    if genes > MAX_GENES:
        raise ValueError(f"{_SAID} has more than {MAX_GENES:,} genes.")


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _for_visitors(sentence: str, path: Path) -> str:
    """An error's sentence about a file, without where it lay, in words of the page."""
    said = sentence.replace(str(path), _SAID).replace(path.name, _SAID).replace(str(path.parent), "")
    for option, words in _IN_WORDS.items():
        said = said.replace(option, words)
    return visible(said)[:400]
