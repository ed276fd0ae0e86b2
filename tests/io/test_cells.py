"""Names in CSVs for people: no formula in a spreadsheet, and read as they were written."""

import csv
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnagan.io.cells import safe, safe_table
from rnagan.io.tables import column_names, read_table

FORMULAS = [
    *(
        "=1+1",
        "=cmd|'/C calc'!A0",
        "@SUM(1)",
        "+SUM(A1)",
        "-cmd|'/C calc'!A0",
        "+a",
        "-a",
        "--a",
        "=",
        "＝1",
        "＋a",
        "＠a",
    ),
    *("'=1", "''=1", "'-x"),  # which mustn't be taken for a name that was made safe
]
PLAIN = ["-1", "+1.5e-3", "-", "--", "'", "'quoted'", "it's", "a=b", "BRCA1", "1", "", "-1,5", "x,y", 'say "x"']


@pytest.mark.attack(kind=8, ends="unharmed")
@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_a_name(name: str, tmp_path) -> None:
    table = pd.DataFrame({"sample": ["S1", name], name: [name, "x"], "n": [1, 2]})
    safe_table(table).to_csv(tmp_path / "t.csv", index=False)
    with open(tmp_path / "t.csv", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple("=@+-＝＋－＠\t\r"))] and f"'{name}" in cells
    read = read_table(tmp_path / "t.csv")
    assert read.to_dict("list") == table.astype(str).to_dict("list")
    assert column_names(tmp_path / "t.csv") == list(table)


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_and_numbers_are_written_as_before(name: str) -> None:
    table = pd.DataFrame({"sample": [name, name], "x": [-1.0, float("nan")], "n": [-1, 2], "yes": [True, False]})
    assert safe(name) == name and safe_table(table).to_csv() == table.to_csv()


def test_the_table_that_is_given_stays_as_it_is() -> None:
    table = pd.DataFrame({"sample": ["=1"]}, index=["=2"])
    assert safe_table(table).to_csv() == ",sample\n'=2,'=1\n" and table.to_csv() == ",sample\n=2,=1\n"


SIGNS = st.text(st.sampled_from("'=+-@1a.,\"; \t"), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(SIGNS.filter(lambda name: name == name.strip()))
def test_every_name_is_read_as_it_was(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        safe_table(pd.DataFrame({"sample": [name], "other": ["x"]})).to_csv(path, index=False)
        assert read_table(path)["sample"].tolist() == [name]
