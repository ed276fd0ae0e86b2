"""Tiles with profiles of their own: what is stored, what is selected, and that a batch says whose tile it is."""

import json

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import webdataset as wds

from rnagan.cohort import table
from rnagan.cohort.table import read_cohort
from rnagan.data.index import DamagedShard, open_dataset
from rnagan.data.loader import Loading, tile_batches
from rnagan.data.sampler import TileOrder
from rnagan.data.selection import make_order, select
from rnagan.data.set_digest import write_digest
from rnagan.data.verify import check_folder
from rnagan.data.writer import ShardWriter
from tests.data.conftest import SIDE, make_tile

OPTIONS = {"tile_px": SIDE, "mpp": 0.5, "profile": "tile"}
SPOTS = {"s1": ["b", "a", "c", "a", "d", "b"], "s2": ["e", "f", "e", "g"], "s3": ["h"]}  # the profile of each tile
SPLITS = {"a": "train", "b": "train", "c": "test", "d": "train", "e": "train", "f": "test", "g": "train", "h": "test"}


def grey(slide, n):
    """What a tile of slide and number is filled with, so that pixels say which it is."""
    return 10 + 60 * list(SPOTS).index(slide) + 10 * n


@pytest.fixture
def shards(tmp_path):
    for slide, profiles in SPOTS.items():
        with ShardWriter(tmp_path / "spots", slide) as shard:
            for n, profile in enumerate(profiles):
                about = {"slide": slide, "x": None, "y": None, "tile_px": SIDE, "mpp": 0.5}
                tile = np.full((SIDE, SIDE, 3), grey(slide, n), np.uint8)
                shard.add(f"{slide}_n{n}", simplejpeg.encode_jpeg(tile, 95, "RGB", "444"), about, profile=profile)
            shard.commit("done", {}, {}, OPTIONS, {})
    write_digest(tmp_path / "spots")
    return open_dataset(tmp_path / "spots")


@pytest.fixture
def cohort():
    rows = [(profile, slide, SPLITS[profile]) for slide, own in SPOTS.items() for profile in sorted(set(own))]
    table = pd.DataFrame(rows, columns=["sample", "slide", "split"])
    donor = table["slide"].map({"s1": "D1", "s2": "D2", "s3": "D3"})
    return table.assign(donor=donor, tissue=donor.map({"D1": "lung", "D2": "colon", "D3": "lung"}), site="").assign(
        split_by="block"
    )


def test_each_tile_names_its_profile(shards, tmp_path):
    assert shards.index("s1")["profile"].tolist() == SPOTS["s1"]
    said = [sample["json"] for sample in wds.WebDataset(f"file:{tmp_path}/spots/s2.tar", shardshuffle=False)]
    assert [json.loads(one)["profile"] for one in said] == SPOTS["s2"]
    assert json.loads((tmp_path / "spots/dataset.json").read_text())["profile"] == "tile"
    assert shards.profiles.frame().values.tolist()[:3] == [["s1", "a", 2], ["s1", "b", 2], ["s1", "c", 1]]
    report = check_folder(tmp_path / "spots", decode=True)
    assert report.findings == [] and report.tiles == 11


def test_a_selection_counts_the_tiles_of_its_profiles(shards, cohort):
    chosen = select(shards, cohort, "train", 600)
    assert chosen.table[["slide", "sample"]].values.tolist() == [
        ["s1", "a"], ["s1", "b"], ["s1", "d"], ["s2", "e"], ["s2", "g"],
    ]  # fmt: skip
    assert chosen.slides["slide"].tolist() == ["s1", "s2"]
    assert chosen.counts.tolist() == [5, 3] and chosen.tiles.tolist() == [2, 2, 1, 2, 1]
    assert select(shards, cohort, "train", 2).counts.tolist() == [2, 2]
    fewer = chosen.only(chosen.table["sample"].ne("a").to_numpy(), {"gone": ["a"]})
    assert fewer.counts.tolist() == [3, 3] and fewer.left_out["gone"] == ["a"]
    assert select(shards, cohort, "train", 600, where="tissue=colon").counts.tolist() == [3]


def test_what_is_left_out_is_listed(shards, cohort):
    more = pd.concat(
        [cohort[cohort["sample"] != "c"], cohort.iloc[:1].assign(sample="z"), cohort.iloc[:1].assign(slide="s9")],
        ignore_index=True,
    )
    left_out = select(shards, more, "train", 600, where="tissue=lung").left_out
    assert left_out["profiles without tiles"] == ["z"]
    assert left_out["slides in the cohort table without shards"] == ["s9"]
    assert left_out["profiles of tiles without a row in the cohort table"] == ["c"]
    assert left_out["profiles that the selection doesn't want"] == ["e", "g"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_large_cohort_table_selects_the_same(shards, cohort, tmp_path, monkeypatch, order):
    """Such a table is held as categories and Arrow's strings."""
    rows = pd.concat([cohort, cohort.iloc[:1].assign(slide=""), cohort.iloc[:1].assign(sample="z")], ignore_index=True)
    rows.iloc[::order].to_csv(tmp_path / "cohort.csv", index=False)
    monkeypatch.setattr(table, "LEAN_ROWS", 1)
    lean = read_cohort(tmp_path / "cohort.csv")
    assert isinstance(lean["tissue"].dtype, pd.CategoricalDtype)
    for where in ("", "tissue=lung"):
        few, same = (select(shards, one, "train", 3, where) for one in (rows.iloc[::order], lean))
        assert same.table.astype(str).equals(few.table[list(same.table)].astype(str))
        assert same.slides.equals(few.slides[list(same.slides)].astype(str)) and same.left_out == few.left_out
        assert [same.counts.tolist(), same.tiles.tolist()] == [few.counts.tolist(), few.tiles.tolist()]
        one, other = (next(tile_batches(x.reader(shards), TileOrder(x.counts, 0), 0, 8)) for x in (few, same))
        assert all(np.array_equal(one[n], other[n]) for n in (1, 2, 3))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("most", [600, 3])
def test_a_batch_holds_the_tiles_of_a_split_alone_and_says_whose_they_are(shards, cohort, most, workers):
    chosen = select(shards, cohort, "train", most)
    order = make_order(chosen, 0, 4, tissue_weights="balanced")
    batches = tile_batches(chosen.reader(shards, order.counts, 4), order, 0, 8, loading=Loading(workers=workers))
    seen = set()
    for _, batch in zip(range(4), batches, strict=False):
        for image, row, tile in zip(batch.images, batch.slides.tolist(), batch.tiles.tolist(), strict=True):
            slide, profile = chosen.table.loc[row, ["slide", "sample"]]
            assert SPOTS[slide][tile] == profile and SPLITS[profile] == "train"
            assert abs(float(image.float().mean()) - grey(slide, tile)) < 2
            seen.add((slide, tile))
    in_split = {slide: [n for n, own in enumerate(spots) if SPLITS[own] == "train"] for slide, spots in SPOTS.items()}
    assert seen == {(slide, n) for slide, own in in_split.items() for n in own[:most]}


def test_a_damaged_tile_is_replaced_with_the_profile_of_the_one_that_stands_in(shards, cohort, tmp_path):
    chosen = select(shards, cohort, "train", 600)
    where = shards.locations("s1")
    with open(tmp_path / "spots/s1.tar", "r+b") as tar:
        tar.seek(int(where.offset[1]))
        tar.write(b"damaged")
    skip = Loading(threads=1, skip_corrupt=True, max_corrupt=0.5)
    order = TileOrder(chosen.counts, 0, 4)
    batch = next(tile_batches(chosen.reader(shards), order, 0, 8, loading=skip))
    assert [(one.slide, one.tile) for one in batch.replaced] == [("s1", 1)]
    for image, row, tile in zip(batch.images, batch.slides.tolist(), batch.tiles.tolist(), strict=True):
        slide, profile = chosen.table.loc[row, ["slide", "sample"]]
        assert SPOTS[slide][tile] == profile and abs(float(image.float().mean()) - grey(slide, tile)) < 2


def test_a_set_of_one_profile_a_slide_reads_as_it_did(make_shards, cohort):
    plain = make_shards({"s1": 3, "s2": 2})
    assert plain.profiles is None and list(plain.index("s1")) == ["key", "offset", "size", "crc32", "x", "y"]
    with pytest.raises(ValueError, match="split by block.*says of no tile which is its own.*--profile-column"):
        select(plain, cohort, "train", 600)
    assert np.array_equal(make_tile("s1", 0), make_tile("s1", 0))


def test_kinds_are_not_mixed(shards, tmp_path):
    with ShardWriter(tmp_path / "spots", "plain") as shard:
        shard.add("plain_n0", b"jpeg", {"slide": "plain"})
        shard.commit("done", {}, {}, {"tile_px": SIDE, "mpp": 0.5}, {})
    with pytest.raises(ValueError, match="mixes tiles of 24 px at 0.5 µm and 24 px at 0.5 µm, each with its profile"):
        write_digest(tmp_path / "spots")


@pytest.mark.parametrize("column", ["donor", "tissue"])
def test_a_shard_is_of_one_donor_and_tissue(shards, cohort, column):
    cohort.loc[0, column] = "other"
    with pytest.raises(ValueError, match=f"gives slides several {column}s .s1., and a shard is of one"):
        select(shards, cohort, "train", 600)


def test_a_table_of_profiles_that_was_changed_is_found_and_mended(shards, tmp_path):
    path = tmp_path / "spots/profiles.parquet"
    shards.profiles.frame().assign(profile="a").to_parquet(path, index=False)
    with pytest.raises(DamagedShard, match="profiles.parquet is not the table that dataset.json was written with"):
        open_dataset(tmp_path / "spots")
    assert [one.file for one in check_folder(tmp_path / "spots").findings] == ["profiles.parquet"]
    path.unlink()
    assert check_folder(tmp_path / "spots", repair=True).findings == []
    assert open_dataset(tmp_path / "spots").profiles.same_as(shards.profiles)


def test_an_index_is_made_again_with_its_profiles(shards, tmp_path):
    (tmp_path / "spots/s1.index.parquet").unlink()
    assert check_folder(tmp_path / "spots").findings
    assert check_folder(tmp_path / "spots", repair=True).findings == []
    assert open_dataset(tmp_path / "spots").index("s1")["profile"].tolist() == SPOTS["s1"]


def test_a_tile_without_a_profile_is_found(tmp_path):
    with ShardWriter(tmp_path, "s") as shard:
        shard.add("s_n0", b"jpeg", {"slide": "s", "tile_px": SIDE, "mpp": 0.5}, profile="")
        shard.commit("done", {}, {}, OPTIONS, {})
    write_digest(tmp_path)
    (finding,) = check_folder(tmp_path).findings
    assert "a description of 's_n0' that names no profile" in finding.problem
