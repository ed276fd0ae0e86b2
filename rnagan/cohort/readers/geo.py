"""Samples of a series of GEO, from its series matrix as GEO ships it (GSE120795_series_matrix.txt.gz).

Lines `!Sample_title`, `!Sample_geo_accession`, `!Sample_source_name_ch1` and any number of
`!Sample_characteristics_ch1`, each with a quoted cell for every sample; a characteristic's cell is `tissue: lung`. A
line ends at a line feed: cells hold carriage returns and quotes.
"""

from pathlib import Path

import pandas as pd

from rnagan.io.tables import UNREADABLE, open_text, split_cells

NAMES = ("geo_accession", "title")  # of a sample; supplements call their columns by either
_TAGS = {"!Sample_geo_accession": "geo_accession", "!Sample_title": "title", "!Sample_source_name_ch1": "source_name"}
_CHARACTERISTICS = "!Sample_characteristics_ch1"


def is_series_matrix(path: Path | str) -> bool:
    """Whether a file begins as GEO's series matrices do."""
    if not Path(path).is_file():
        return False
    try:
        with open_text(path) as handle:
            first = next((line for line in handle if line.strip()), "")
    except UNREADABLE:
        return False
    return first.startswith(("!Series_", "!Sample_"))


def read_series_matrix(path: Path | str) -> pd.DataFrame:
    """geo_accession, title, source_name, and a column for each characteristic, as strings, one row a sample.

    A sample without a characteristic has '' there; `tissue` is the source name where no characteristic says it. Raises
    `ValueError` with the file's name.
    """
    columns: dict[str, list[str]] = {}
    try:
        with open_text(path) as handle:
            for tag, *cells in (_cells(line) for line in handle if line.startswith("!Sample_")):
                if tag in _TAGS:
                    columns.setdefault(_TAGS[tag], cells)
                elif tag == _CHARACTERISTICS:
                    for n, cell in enumerate(cells):
                        name, colon, value = cell.partition(":")
                        if colon:
                            column = columns.setdefault(name.strip().casefold(), [""] * len(cells))
                            column[n] = column[n] or value.strip()
    except (*UNREADABLE, IndexError) as error:
        raise ValueError(f"The series matrix {path} can't be read ({error}).".replace("\n", " ")) from None
    if not columns.get("geo_accession") or len({len(column) for column in columns.values()}) != 1:
        raise ValueError(
            f"The series matrix {path} has no line !Sample_geo_accession, or lines with different numbers of samples; "
            "download it again."
        )
    table = pd.DataFrame(columns)
    source = table.get("source_name", "")
    table["tissue"] = table["tissue"].where(table["tissue"] != "", source) if "tissue" in table else source
    return table


def _cells(line: str) -> list[str]:
    """Cells of a line; the carriage returns in them are spaces."""
    return [" ".join(cell.split("\r")).strip() for cell in split_cells(line.rstrip("\r\n"), "\t")]
