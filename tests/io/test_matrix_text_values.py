import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.expression.checked_table import open_table
from rnagan.io import matrix_text_values
from tests.expression.whole_table import read_whole


def table(rows: int, columns: int, separator: str) -> str:
    """Numbers as programs write them, also those that JSON doesn't know."""
    random = np.random.default_rng(0)
    spell = [
        lambda x: f"{x:.4g}",
        lambda x: f"{x:.3e}",
        lambda x: f"{x:+.2f}",
        lambda x: f".{int(x * 10)}",
        lambda x: "0",
    ]
    cells = [[spell[random.integers(5)](x) for x in row] for row in random.gamma(0.5, 99, (rows, columns))]
    head = separator.join(["gene", *(f"s{n}" for n in range(columns))])
    return "\n".join([head, *(separator.join([f"g{n}", *row]) for n, row in enumerate(cells))]) + "\n"


@pytest.mark.parametrize("piece", [50, 700, 1 << 20])
@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv", "\t"), ("x.txt", " ")])
def test_every_number_is_pandas_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, name: str, separator: str
) -> None:
    monkeypatch.setattr(matrix_text_values, "PIECE_BYTES", piece)
    text = table(40, 23, separator)
    oracle = pd.read_csv(io.StringIO(text), sep=separator, index_col=0, float_precision="round_trip")
    for ending in ("\n", "\r\n", ""):
        (tmp_path / name).write_text(text.rstrip("\n") if ending == "" else text.replace("\n", ending), newline="")
        read = read_whole(tmp_path / name)
        assert (read.genes, read.samples) == (oracle.index.tolist(), oracle.columns.tolist())
        np.testing.assert_array_equal(read.values, oracle.to_numpy(np.float32).T)


def test_most_numbers_never_reach_the_slow_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_text_values, "_by_pyarrow", None)
    (tmp_path / "x.csv").write_text("gene,a,b,c\ng,0,1.5,2e-3\nh,12345678,1,0.0\n")
    assert read_whole(tmp_path / "x.csv").values.shape == (3, 2)


def test_quotes_are_no_part_of_names_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('"gene","s,1","s""2"\n"g,""1","1.5","2"\n"g2",3,4\n')
    read = read_whole(tmp_path / "x.csv")
    assert (read.samples, read.genes) == (["s,1", 's"2'], ['g,"1', "g2"])
    assert read.values.tolist() == [[1.5, 3], [2, 4]]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("g,1,many,3", r"can't be read as a table of numbers \(row g, column s2 holds 'many', which is no number"),
        ("g,1,true,3", "row g, column s2 holds 'true'"),
        ("g,1,[2],3", r"row g, column s2 holds '\[2\]'"),
        ("g,1,2", "row g has 3 cells, the header 4"),
        ("g,1,2,3,4", "row g has 5 cells, the header 4"),
        ("g", "row g has 1 cells, the header 4"),
        ("g,1,,3", "missing or not finite, the first for sample s2 and gene g"),
        ("g,1,NA,3", "missing or not finite, the first for sample s2 and gene g"),
        ("g,1,1e400,3", "missing or not finite, the first for sample s2 and gene g"),
        ("g,1,-inf,3", "missing or not finite, the first for sample s2 and gene g"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, row: str, sentence: str) -> None:
    (tmp_path / "x.csv").write_text(f"gene,s1,s2,s3\nf,1,2,3\n{row}\nh,4,5,6\n")
    with pytest.raises(ValueError, match=f"x.csv .*{sentence}"):
        list(open_table(tmp_path / "x.csv").blocks())


def test_one_cell_too_many_does_not_make_up_for_one_too_few(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("gene,s1,s2\ne,1,2\nf,1,2,3\ng,4\n")
    with pytest.raises(ValueError, match="row f has 4 cells, the header 3"):
        read_whole(tmp_path / "x.csv")


def test_decimal_commas_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("gene\ts1\ts2\nf\t1,5\t2\ng\t1\t2\n")
    with pytest.raises(ValueError, match="row f, column s1 holds '1,5'"):
        read_whole(tmp_path / "x.tsv")


@pytest.mark.parametrize("piece", [30, 1 << 20])
def test_gzip_in_several_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """As bgzip writes it, and perhaps padded with zeros."""
    monkeypatch.setattr(matrix_text_values, "PIECE_BYTES", piece)
    text = table(40, 5, ",").encode()
    members = [gzip.compress(text[start : start + 100]) for start in range(0, len(text), 100)]
    (tmp_path / "x.csv.gz").write_bytes(b"".join(members) + b"\0" * 50)
    (tmp_path / "x.csv").write_bytes(text)
    np.testing.assert_array_equal(read_whole(tmp_path / "x.csv.gz").values, read_whole(tmp_path / "x.csv").values)
