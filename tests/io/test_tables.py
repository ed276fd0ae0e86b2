"""Tables of text against what was written into them: quotes, separators, endings, carriage returns, strangers."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from rnagan.io import tables
from rnagan.io.matrix_text import Layout
from rnagan.io.matrix_text_values import text_blocks
from rnagan.io.tables import column_names, read_table

CELLS = ("lung", "", "a b", 'a 5" piece', '"', 'say "no"', "x,y", "x\ty", "x;y", "NA", "ü", "1.50", "O'Neil", "a\rb")


def drawn(random: np.random.Generator, separator: str, quoted: bool) -> list[list[str]]:
    """A table that can be written so: cells hold the separator only where they are quoted, no quotes only elsewhere."""
    usable = [c for c in CELLS if (separator not in c if not quoted else '"' not in c)]
    width, height = random.integers(2, 6), random.integers(1, 9)
    head = [f"column {k}" for k in range(width)]
    rows = [[f"row {n}", *random.choice(usable, width - 1).tolist()] for n in range(height)]
    return [head, *rows]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.TSV", "t.txt.gz", "t.csv.gz"])
@pytest.mark.parametrize("quoted", [True, False])
def test_random_tables_are_read_as_they_were_written(tmp_path: Path, name: str, quoted: bool) -> None:
    random = np.random.default_rng([len(name), quoted])
    for n in range(40):
        separator = "," if ".csv" in name else "\t"
        separator = ";" if n % 5 == 0 else separator
        table = drawn(random, separator, quoted)
        if quoted:
            text = io.StringIO()
            csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(table)
            lines = text.getvalue().split("\n")[:-1]
        else:
            lines = [separator.join(row) for row in table]
        lines = [line + separator * int(random.random() < 0.3) for line in lines[:1]] + [
            line + separator * int(random.random() < 0.3) for line in lines[1:]
        ]
        ending = str(random.choice(["\n", "\r\n"]))
        data = (ending.join(lines) + ending * int(random.integers(0, 3))).encode(random.choice(["utf-8", "utf-8-sig"]))
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        assert column_names(path) == table[0]
        assert read_table(path).to_numpy().tolist() == [[cell.strip() for cell in row] for row in table[1:]]
        some = table[0][::-2]
        assert list(read_table(path, some)) == some


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a\tb\n1\t"5 inch\n2\tx\n3\t"y\n', [["1", '"5 inch'], ["2", "x"], ["3", '"y']]),
        ('a,b,c\n1,"first\nsecond",3\n4,5,6\n', [["1", "first\nsecond", "3"], ["4", "5", "6"]]),
        ('a,b,c\n1,2,"first\nsecond"\n4,5,6\n', [["1", "2", "first\nsecond"], ["4", "5", "6"]]),
        ("# made by hand\n\na,b\n\n1,2\n", [["1", "2"]]),
        ("a b\n1\n2 3\n", [["1"], ["2 3"]]),
        ("a,b\nr1,1,2\nr2,3,4\n", [["1", "2"], ["3", "4"]]),  # R's write.table names its rows without a column
        ("a,b,\n1,2,\n3,,\n", [["1", "2"], ["3", ""]]),
    ],
)
def test_quotes_comments_and_row_names(tmp_path: Path, text: str, rows: list[list[str]]) -> None:
    path = tmp_path / ("t.tsv" if "\t" in text else "t.csv")
    path.write_text(text)
    assert read_table(path).to_numpy().tolist() == rows


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"a,b\n1,2\n3\n4,5\n", r"line 3 has 1 cells, the header 2"),
        (b"a,b\n1,2,3\n4,5\n", r"line 3 has 2 cells, the header 3|line 2 has 3 cells, the header 2"),
        (b'a,b,c\n1,2,3\n1,"open\n' + b"2\n" * 300, r"line 3 has 2 cells, the header 3"),
        (b"a,b\r1,2\r3,4\r", "its lines end in carriage returns alone; end them with line feeds"),
        (b"PK\x03\x04....", "it is an Excel or ZIP file: save it as plain text"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "it is gzipped"),
        ("a,b\n1,2\n".encode("utf-16"), "it is UTF-16"),
        (b"", "No columns to parse"),
    ],
)
def test_what_is_no_table_is_refused_by_line(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"t\.csv is no readable .*{sentence}" if "|" not in sentence else sentence):
        read_table(path)


@pytest.fixture
def bomb(tmp_path):
    """A table of 400 MB in a gzip of half a MB: rows of a MB each."""
    row = gzip.compress(b"x,1" + b" " * (1 << 20) + b"\n", 9)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"sample,donor\n") + row * 400)
    return path


@pytest.mark.attack(kind=2)
def test_a_gzip_of_gigabytes_is_left_at_its_bound(bomb):
    said = r"bomb\.csv\.gz .*its [\d,]+ bytes unpack to more than 268,435,456: unpack it, if it is right"
    with pytest.raises(ValueError, match=said):
        read_table(bomb, ["sample"])
    layout = Layout("samples", "", ["donor"], ",", 1, 1)
    with pytest.raises(ValueError, match=said):
        for _ in text_blocks(bomb, layout):
            pass


@pytest.mark.attack(kind=2)
def test_a_line_without_an_end_is_left_at_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 1000)
    (tmp_path / "a.csv").write_bytes(b"sample,donor\n" + b"x" * 2000)
    with pytest.raises(ValueError, match=r"a\.csv .*it has a line of more than 1,000 bytes"):
        read_table(tmp_path / "a.csv")
