"""The table of tiles' profiles: its sum is that of strings, pairs are found, and a hostile file is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnagan.data import tile_profiles
from rnagan.data.set_digest import table_sum
from rnagan.data.tile_profiles import TileProfiles

OF_SLIDES = {
    "a": ["x1", "x1", "é ü", 'with "quotes"', "back\\slash"],
    "b": [f"spot-{n % 7}" for n in range(30)],
    "c": ["x1", "tab\there", "\U0001f52c"],
}


@pytest.fixture
def profiles():
    return TileProfiles.of((slide, pa.chunked_array([own])) for slide, own in OF_SLIDES.items())


def plain(profiles):
    rows = [(slide, name, own.count(name)) for slide, own in OF_SLIDES.items() for name in sorted(set(own))]
    return pd.DataFrame(rows, columns=["slide", "profile", "tiles"])


def test_it_holds_each_profile_once_and_has_the_sum_of_its_table(profiles, monkeypatch):
    assert profiles.frame().equals(plain(profiles)) and len(profiles) == len(plain(profiles))
    assert profiles.digest() == table_sum(plain(profiles))
    monkeypatch.setattr(tile_profiles, "_PIECE", 3)
    assert profiles.digest() == table_sum(plain(profiles))
    names = profiles.names.to_pylist()
    assert dataclasses.replace(profiles, names=pa.chunked_array([names[::-1]])).digest() != profiles.digest()
    assert TileProfiles.of([]).digest() == table_sum(plain(profiles).iloc[:0])


@pytest.mark.parametrize("group", [1 << 20, 4])
def test_what_is_written_is_read(profiles, tmp_path, group, monkeypatch):
    monkeypatch.setattr(tile_profiles, "_ROW_GROUP", group)
    path = tmp_path / "profiles.parquet"
    profiles.write(path)
    assert TileProfiles.read(path, path.stat().st_size, len(profiles)).same_as(profiles)
    plain(profiles).to_parquet(path, index=False)  # as earlier versions wrote it
    found = TileProfiles.read(path, path.stat().st_size, len(profiles))
    assert found.same_as(profiles) and found.digest() == profiles.digest()


@pytest.mark.parametrize("lean", [False, True])
def test_pairs_are_found_in_any_order(profiles, lean):
    table = plain(profiles)
    asked = pd.concat([table, pd.DataFrame({"slide": ["a", "z", "b"], "profile": ["spot-1", "x1", "x1"]})])
    asked = asked.iloc[np.random.default_rng(0).permutation(len(asked))].reset_index(drop=True)
    row_of = {pair: n for n, pair in enumerate(zip(table["slide"], table["profile"], strict=True))}
    expected = [row_of.get(pair, -1) for pair in zip(asked["slide"], asked["profile"], strict=True)]
    slides, names = asked["slide"], asked["profile"]
    if lean:
        slides, names = slides.astype("category"), names.astype(pd.ArrowDtype(pa.large_string()))
    assert profiles.rows(slides, names).tolist() == expected
    assert profiles.rows(table["slide"], table["profile"]).tolist() == list(range(len(table)))
    assert profiles.rows(slides.iloc[:0], names.iloc[:0]).tolist() == []


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.iloc[:-1].assign(more=1), "it has columns slide, profile, tiles, more"),
        (lambda table: pd.concat([table, table.iloc[:1]]).iloc[1:], "its rows aren't by slide"),
        (lambda table: table.assign(profile=None).astype({"profile": "string"}), "lack a profile"),
        (lambda table: table.assign(profile=1), "its profiles are int64"),
        (lambda table: table.loc[table.index.repeat(2)], "it claims 28 rows"),
    ],
)
def test_a_table_of_anything_else_is_refused(profiles, tmp_path, change, said):
    path = tmp_path / "profiles.parquet"
    change(plain(profiles)).to_parquet(path, index=False)
    with pytest.raises(pa.ArrowException, match=said):
        TileProfiles.read(path, path.stat().st_size, len(profiles))


@pytest.mark.attack(kind=1)
def test_more_rows_than_a_file_has_bytes_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path, rows = tmp_path / "profiles.parquet", 100_000
    pq.write_table(pa.table({"slide": ["a"] * rows, "profile": ["x"] * rows, "tiles": [1] * rows}), path)
    size = path.stat().st_size
    assert size < rows
    assert len(TileProfiles.read(path, size, rows)) == rows
    monkeypatch.setattr(tile_profiles, "MAX_PARQUET_ROWS", 1000)
    with pytest.raises(pa.ArrowException, match=f"it claims 100,000 rows in {size:,} bytes"):
        TileProfiles.read(path, size, rows)
