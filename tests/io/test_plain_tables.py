"""Tables of plain text by Arrow: the same as line by line, whatever is in them, and lean where that is asked for."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnagan.io import plain_tables, tables
from rnagan.io.plain_tables import NotPlain, read_plain
from rnagan.io.tables import read_table

CELLS = st.text(st.sampled_from("ab1 .,;\t\"'=-é\r#"), max_size=3)
ROWS = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=6)
PLAIN_ROWS = st.lists(st.lists(st.text("ab-", max_size=2), min_size=2, max_size=2).map(",".join), max_size=8)


def outcome(path, columns=None):
    try:
        return read_table(path, columns).to_dict("split")
    except ValueError as error:
        return str(error)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(["a,b", "a,b,", "a", "#x\na,b", " a,b"]), ROWS | PLAIN_ROWS, st.sampled_from(["", "\n"]))
def test_both_ways_read_the_same(tmp_path, monkeypatch, header, rows, end):
    path = tmp_path / "t.csv"
    path.write_bytes("\n".join([header, *rows]).encode() + end.encode())
    with monkeypatch.context() as patched:
        patched.setattr(plain_tables, "_BLOCK_BYTES", 7)
        found = outcome(path), outcome(path, ["b"])

        def never(*_):
            raise NotPlain("never")

        patched.setattr(tables, "read_plain", never)
        assert found == (outcome(path), outcome(path, ["b"]))


def test_a_space_at_the_very_end_is_no_part_of_a_cell(tmp_path):
    (tmp_path / "t.csv").write_text("sample,tissue\na,lung\nb,lung ")
    assert read_table(tmp_path / "t.csv")["tissue"].tolist() == ["lung", "lung"]


def write(path, rows=1000):
    names = [f"s{n:04d}" for n in range(rows)]
    table = pd.DataFrame({"sample": names, "tissue": ["lung", "colon"] * (rows // 2), "site": ""})
    table.to_csv(path, index=False)
    return table


def test_a_plain_table_is_read_by_arrow(tmp_path):
    write(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", "rb") as file:
        sample, site = read_plain(file, ",", 1, 3, [0, 2])
    assert sample.values is None and list(site.values) == [""] and len(sample) == len(site) == 1000


@pytest.mark.parametrize("block", [1 << 23, 100])
def test_a_lean_table_says_the_same(tmp_path, monkeypatch, block):
    monkeypatch.setattr(plain_tables, "_BLOCK_BYTES", block)
    table = write(tmp_path / "t.csv")
    lean, usual = (read_table(tmp_path / "t.csv", lean_from=least) for least in (1000, 1001))
    assert usual.equals(table.astype(str)) and lean.astype(str).equals(table.astype(str))
    assert list(lean["tissue"].cat.categories) == ["colon", "lung"] and lean["sample"].dtype != object
    assert np.array_equal(lean["tissue"] == "lung", usual["tissue"] == "lung")


@pytest.mark.parametrize("row", ["é,b", '"a",b', "a ,b", "a", "a,b,c", "'=a,b", "a\x00,b", "a,b\r"])
def test_what_is_not_plain_is_left_to_the_other_way(tmp_path, row):
    (tmp_path / "t.csv").write_bytes(f"x,y\n1,2\n{row}\n".encode())
    with open(tmp_path / "t.csv", "rb") as file, pytest.raises(NotPlain):
        read_plain(file, ",", 1, 2, [0, 1])
    with contextlib.suppress(ValueError):
        assert len(read_table(tmp_path / "t.csv")) == 2
