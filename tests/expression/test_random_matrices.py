"""Random expression tables, written in the ways that programs write them, against what was written."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.cohort.readers.user_tables import read_samples
from rnagan.io.matrix import matrix_samples
from tests.expression.whole_table import read_whole

STRANGERS = {
    "genes": ["N_unmapped", "__no_feature", "Unassigned_Ambiguity", "ERCC-00130"],
    "samples": ["age", "RIN", "library_size", "sex"],
}


def written(random: np.random.Generator, path: Path) -> tuple[pd.DataFrame, str]:
    """Writes a table; returns its counts, samples × genes, and what its rows are."""
    genes = [f"ENSG{random.integers(10**11):011d}" for _ in range(random.integers(6, 15))]
    kind = random.choice(["GTEX-{:04d}-0226-SM-ABCDE", "S {}", "TCGA-AB-{:04d}-01A", 'odd "{}"', "a,b {}"])
    samples = [str(kind).format(n) for n in range(random.integers(3, 9))]
    counts = pd.DataFrame(random.poisson(40, (len(samples), len(genes))), samples, genes)
    rows = str(random.choice(["samples", "genes"]))
    full = counts.rename(columns=lambda gene: gene + str(random.choice(["", ".7", ".7_2", "|SYMBOL"])))
    strangers = STRANGERS[rows][: random.integers(0, 4)]
    extra = {name: np.round(random.uniform(50, 90, len(samples)), 1) for name in strangers}
    full = pd.concat([full, pd.DataFrame(extra, samples)], axis=1)[
        random.permutation([*full.columns, *strangers]) if rows == "genes" else [*strangers, *full.columns]
    ]
    counts = counts[[name.split(".")[0].split("|")[0] for name in full.columns if name not in strangers]]
    table = full if rows == "samples" else full.T
    head = [random.choice(["sample", "gene_id", "", "id"]), *table.columns]
    cells = [head, *([name, *row] for name, row in zip(table.index, table.to_numpy(object), strict=True))]
    separator = str(random.choice([",", "\t", ";"])) if ".csv" in path.name else "\t"
    everything = random.random() < 0.3

    def cell(value: object) -> str:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return f'"{text.replace(chr(34), 2 * chr(34))}"' if everything or separator in text or '"' in text else text

    ends = separator if random.random() < 0.2 else ""
    lines = [separator.join(map(cell, row)) for row in cells]
    lines = [lines[0] + (ends if random.random() < 0.5 else ""), *(line + ends for line in lines[1:])]
    lines = ["# written by a program", *lines] if random.random() < 0.3 else lines
    data = (str(random.choice(["\n", "\r\n"])).join([*lines, ""])).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return counts, rows


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.TXT", "m.csv.gz"])
def test_a_table_is_read_as_it_was_written_by_both_builders(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(len(name))
    for n in range(60):
        path = tmp_path / name
        counts, rows = written(random, path)
        table = read_whole(path)
        assert (table.samples, table.genes) == (counts.index.tolist(), counts.columns.tolist()), (n, rows)
        np.testing.assert_array_equal(table.values, counts)
        assert table.units == "counts"
        assert matrix_samples(path) == table.samples
        if rows == "genes":
            assert read_samples(path, tissue="lung")["sample"].tolist() == table.samples
