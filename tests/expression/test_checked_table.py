import gzip
from pathlib import Path

import numpy as np
import pytest

from rnagan.io import tables
from tests.expression.whole_table import read_whole

GCT = (
    "#1.2\n3\t2\n"
    "Name\tDescription\tSIM-0001-0226\tSIM-0002-0226\n"
    "ENSG00000000003.14\tTSPAN6\t1.5\t30\n"
    "ENSG00000000005.5\tNA\t0\t2.25\n"
    "ENSG00000000005.5_PAR_Y\tTNMD\t0\t2.25\n"
)


def write(path: Path, text: str) -> Path:
    with gzip.open(path, "wt") if path.suffix == ".gz" else open(path, "w") as handle:
        handle.write(text)
    return path


@pytest.mark.parametrize("name", ["x.gct", "x.gct.gz"])
def test_gct_becomes_samples_by_genes(tmp_path: Path, name: str) -> None:
    table = read_whole(write(tmp_path / name, GCT))
    assert table.samples == ["SIM-0001-0226", "SIM-0002-0226"]
    assert table.genes == ["ENSG00000000003", "ENSG00000000005"]
    assert table.symbols == ["TSPAN6", "NA"]  # NA is a word here, not a missing value
    np.testing.assert_array_equal(table.values, np.float32([[1.5, 0], [30, 2.25]]))
    assert table.units == "tpm" and table.lines[0].startswith("Dropped 1 genes of the Y chromosome")
    assert table.values.dtype == np.float32


@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv.gz", "\t"), ("x.csv.gz", ",")])
@pytest.mark.parametrize("tissue", [True, False])
def test_rows_of_samples(tmp_path: Path, name: str, separator: str, tissue: bool) -> None:
    rows = ["sample tissue 9496 22797 7080", "S-1.1 Brain 1 0 2", "007 Lung 3 4 90"]
    cells = [row.split() if tissue else row.split()[:1] + row.split()[2:] for row in rows]
    text = "".join(separator.join(row) + "\n" for row in cells)
    table = read_whole(write(tmp_path / name, text))
    assert table.samples == ["S-1.1", "007"]  # ids are strings and stay as they are
    assert table.genes == ["9496", "22797", "7080"]
    np.testing.assert_array_equal(table.values, [[1, 0, 2], [3, 4, 90]])
    assert table.units == "counts"


def test_declared_units_win(tmp_path: Path) -> None:
    table = read_whole(write(tmp_path / "x.csv", "sample,a,b\ns,1.5,2\n"), units="tpm")
    assert (table.units, table.units_from) == ("tpm", "as declared")


@pytest.mark.parametrize(
    ("name", "text", "units", "sentence"),
    [
        ("x.csv", "id,a\ns,1\n", None, "first column is called 'id' .* say --rows samples or --rows genes"),
        ("x.csv", "", None, "is empty; it needs a header line"),
        ("x.csv", "sample,a,b\ns,1,\n", None, "missing or not finite, the first for sample s and gene b"),
        ("x.csv", "sample,a,b\ns,1,inf\n", None, "missing or not finite"),
        ("x.csv", "sample,a,b\ns,1,many\n", None, "can't be read as a table of numbers"),
        ("x.csv", "sample,a,a\ns,1,2\n", None, r"1 gene \(a\) more than once"),
        ("x.csv", "sample,a\ns,1\ns,2\n", None, r"1 sample \(s\) more than once"),
        ("x.csv", "sample,a\ns,1.5\n", "rpkm", "units must be one of tpm, counts, log2, not 'rpkm'"),
        ("x.csv", "sample,a\ns,1.5\n", "counts", "holds fractions, which no counts have"),
        ("x.csv", "sample,a\ns,-1.5\n", "tpm", "holds negative values, which no tpm has"),
        ("x.csv", "sample,a\ns,300\n", "log2", "which no log2 expression does"),
        ("x.gct", GCT.replace("#1.2", "#1.3"), None, "is no GCT 1.2 or 1.3: line 1 must be"),
        ("x.xlsx", "PK", None, r"ends in none of \.gct"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(
    tmp_path: Path, name: str, text: str, units: str | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_whole(write(tmp_path / name, text), units)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="The expression table .*none.csv does not exist"):
        read_whole(tmp_path / "none.csv")


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv.gz", "sample,a\n" + "".join(f"s{i},{i}.5\n" for i in range(2000)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="can't be read as a table of numbers"):
        read_whole(path)


def damaged(path: Path, how: str) -> Path:
    """A gzipped table of 400 samples, cut, of other bytes, or with a bit of its data changed."""
    rows = np.random.default_rng(0).random((400, 2)).tolist()
    text = "sample,a,b\n" + "".join(f"s{n},{a},{b}\n" for n, (a, b) in enumerate(rows))
    if path.name.endswith(".gct.gz"):
        text = "#1.2\n400\t2\nName\tDescription\ts\tt\n" + "".join(
            f"g{n}\t\t{a}\t{b}\n" for n, (a, b) in enumerate(rows)
        )
    data = gzip.compress(text.encode())
    path.write_bytes(
        {
            "cut": data[:-2000],
            "cut early": data[:40],
            "not gzip": text.encode(),
            "damaged": data[:12] + b"\xff" * 40 + data[52:],
        }[how]
    )
    return path


@pytest.mark.parametrize("name", ["x.gct.gz", "x.csv.gz"])
@pytest.mark.parametrize("how", ["cut", "cut early", "not gzip", "damaged"])
def test_damaged_gzip_is_refused_by_name(tmp_path: Path, name: str, how: str) -> None:
    path = damaged(tmp_path / name, how)
    with pytest.raises(ValueError, match=rf"{name} can't be read as a table of numbers \(.+\)\.$"):
        read_whole(path)
    if name == "x.csv.gz":
        with pytest.raises(ValueError, match=rf"{name} is no readable comma-separated table \(.+\)\.$"):
            tables.read_table(path)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.gct"])
def test_a_byte_order_mark_is_no_part_of_the_table(tmp_path: Path, name: str) -> None:
    table = read_whole(write(tmp_path / name, "\ufeff" + (GCT if name == "x.gct" else "sample,a,b\ns,1,2\n")))
    assert table.samples == (["SIM-0001-0226", "SIM-0002-0226"] if name == "x.gct" else ["s"])


def test_the_first_column_may_have_another_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "case,a,b\ns,1,2\n")
    assert read_whole(path, sample_column="case").samples == ["s"]
    with pytest.raises(ValueError, match="called 'case' and neither .* with --sample-column"):
        read_whole(path)
