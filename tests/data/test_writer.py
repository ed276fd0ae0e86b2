import dataclasses
import hashlib
import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st

from rnagan.data import manifest, set_digest
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter, tar_header
from rnagan.io.files import read_json, sha256_of_file

OPTIONS = {"tile_px": 16, "mpp": 0.5}


def jpeg(value):
    return simplejpeg.encode_jpeg(np.full((16, 16, 3), value, np.uint8), 90, "RGB", "444")


def write(folder, slide, tiles, options=OPTIONS):
    with ShardWriter(folder, slide) as shard:
        for n in range(tiles):
            shard.add(f"{slide}_x{n}_y7", jpeg(n * 10), {"slide": slide, "x": n, "y": 7}, n, 7)
        return shard.commit("done" if tiles else "no_tiles", {"background": 2}, {"bytes": 1}, options, {})


@pytest.fixture
def folder(tmp_path):
    for slide, tiles in (("a", 3), ("b", 0), ("c-1 é", 5)):
        write(tmp_path, slide, tiles)
    write_digest(tmp_path)
    return tmp_path


def test_a_plain_webdataset_reads_every_sample(folder):
    samples = list(wds.WebDataset(f"file:{folder}/a.tar", shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["a_x0_y7", "a_x1_y7", "a_x2_y7"]
    for n, sample in enumerate(samples):
        assert sample["jpg"] == jpeg(n * 10)
        assert json.loads(sample["json"]) == {"slide": "a", "x": n, "y": 7}


def test_headers_hold_nothing_of_the_time_or_the_user(folder):
    with tarfile.open(folder / "a.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode) == (
                0,
                0,
                0,
                "",
                "",
                0o644,
            )
    assert (folder / "a.tar").read_bytes()[257:265] == b"ustar\x0000"


def test_index_leads_to_the_bytes(folder):
    shards = open_dataset(folder)
    index, raw = shards.index("c-1 é"), Path(shards.tar_address("c-1 é")).read_bytes()
    assert index.columns.tolist() == ["key", "offset", "size", "crc32", "x", "y"] and len(index) == 5
    for n, row in enumerate(index.itertuples()):
        data = raw[row.offset : row.offset + row.size]
        assert data == jpeg(n * 10) and zlib.crc32(data) == row.crc32
        assert (row.key, row.x, row.y) == (f"c-1 é_x{n}_y7", n, 7)


def test_record_and_digest_say_what_is_there(folder):
    record = read_json(folder / "a.record.json")
    assert (record["tiles"], record["bytes"]) == (3, (folder / "a.tar").stat().st_size)
    assert record["sha256"] == sha256_of_file(folder / "a.tar")
    assert not (folder / "b.tar").exists() and read_json(folder / "b.record.json")["sha256"] is None
    shards = open_dataset(folder)
    assert shards.slides[["slide", "status", "tiles", "background"]].values.tolist() == [
        ["a", "done", 3, 2],
        ["b", "no_tiles", 0, 2],
        ["c-1 é", "done", 5, 2],
    ]
    assert record["index_sha256"] == sha256_of_file(folder / "a.index.parquet")
    dataset = read_json(folder / "dataset.json")
    said = json.dumps({name: dataset[name] for name in dataset if name != "sum"}, sort_keys=True, separators=(",", ":"))
    assert dataset.pop("sum") == hashlib.sha256(said.encode()).hexdigest()
    assert list(dataset.pop("sums")) == ["slides.parquet"]
    assert dataset | {"digest": ""} == {
        "format": "rnagan-shards",
        "version": 1,
        "tile_px": 16,
        "mpp": 0.5,
        "slides": 3,
        "tiles": 8,
        "digest": "",
    }


def test_digest_is_rebuilt_from_records_and_moves_with_a_tile(folder):
    before = read_json(folder / "dataset.json")
    (folder / "dataset.json").unlink()
    (folder / "slides.parquet").unlink()
    assert write_digest(folder) == before
    write(folder, "a", 2)
    assert write_digest(folder)["digest"] != before["digest"]


def test_a_record_that_comes_while_the_digest_is_written_is_in_it(folder, monkeypatch):
    """Two parts of a build end together: the other one commits between our reading and our writing."""
    came = []
    read = set_digest.read_records

    def read_and_be_overtaken(of, damaged):
        yield from list(read(of, damaged))
        if not came:
            came.append(write(folder, "z", 2))

    monkeypatch.setattr(set_digest, "read_records", read_and_be_overtaken)
    assert write_digest(folder)["slides"] == 4 and open_dataset(folder).slides["slide"].tolist()[-1] == "z"


def test_a_record_that_goes_while_others_are_read_is_passed_over(folder):
    """Another part of the build commits its slide anew, and takes the old record away first."""
    found = manifest.read_records(folder)
    assert next(found)["slide"] == "a"
    (folder / "b.record.json").unlink()
    assert [record["slide"] for record in found] == ["c-1 é"]


def test_a_shard_that_fails_leaves_the_earlier_one_as_it_was(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RuntimeError), ShardWriter(folder, "a") as shard:
        shard.add("a_x0_y0", jpeg(99), {}, 0, 0)
        raise RuntimeError
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("tiles", [2, 0])
def test_a_commit_that_is_killed_leaves_no_record(folder, monkeypatch, tiles):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rnagan.data.manifest.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write(folder, "a", tiles)
    assert not (folder / "a.record.json").exists()


def test_a_slide_that_lost_its_tiles_loses_its_tar(folder):
    write(folder, "a", 0)
    assert not (folder / "a.tar").exists() and not (folder / "a.index.parquet").exists()


@pytest.mark.parametrize("name", ["../a", "a/b", "a.b", "", "..", "a\nb", "x" * 71])
def test_names_that_could_leave_the_folder_are_refused(folder, name):
    shards = open_dataset(folder)
    for use in (shards.tar_address, shards.index, lambda slide: ShardWriter(folder, slide)):
        with pytest.raises(ValueError, match="can't name a shard"):
            use(name)


def test_the_longest_name_fits_a_tar_header(tmp_path):
    slide = "x" * 70
    with ShardWriter(tmp_path, slide) as shard:
        shard.add(f"{slide}_x1234567_y1234567", jpeg(0), {}, 1234567, 1234567)
        shard.commit("done", {}, {}, OPTIONS, {})
    assert io.BytesIO((tmp_path / f"{slide}.tar").read_bytes())


def test_a_manipulated_table_of_slides_is_refused(folder):
    slides = pd.read_parquet(folder / "slides.parquet").replace({"slide": {"a": "../a"}})
    slides.to_parquet(folder / "slides.parquet")
    with pytest.raises(ValueError, match="can't name a shard"):
        open_dataset(folder)


def test_foreign_truncated_and_mixed_folders(folder, tmp_path_factory):
    shards = open_dataset(folder)
    tar = folder / "a.tar"
    tar.write_bytes(tar.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="a.tar is missing or truncated"):
        shards.index("a")
    with pytest.raises(ValueError, match="has no slide z"):
        shards.index("z")
    (folder / "c-1 é.index.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="index.parquet is missing or damaged"):
        shards.index("c-1 é")
    write(folder, "z", 1, {"tile_px": 32, "mpp": None})
    with pytest.raises(ValueError, match="mixes tiles of 16 px at 0.5 µm and 32 px at unknown µm"):
        write_digest(folder)
    (folder / "slides.parquet").unlink()
    with pytest.raises(ValueError, match="slides.parquet is missing or damaged"):
        open_dataset(folder)
    (folder / "dataset.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="does not describe shards of this project"):
        open_dataset(folder)
    (folder / "dataset.json").write_text('{"format": "rnagan-shards", "version": 2}')
    with pytest.raises(ValueError, match="version 2, and this program reads version 1"):
        open_dataset(folder)
    with pytest.raises(FileNotFoundError, match="no finished folder of shards"):
        open_dataset(tmp_path_factory.mktemp("empty"))


def test_a_shrunk_tile_has_larger_pixels(tmp_path: Path) -> None:
    shards = ShardSet(tmp_path, tile_px=256, mpp=0.5, slides=pd.DataFrame(), digest="")
    assert shards.mpp_at(64) == 2.0 and shards.mpp_at(256) == 0.5
    assert dataclasses.replace(shards, mpp=None).mpp_at(64) is None


@given(
    st.text(st.characters(exclude_characters="/\\\0", codec="utf-8"), min_size=1, max_size=25),
    st.integers(0, 8**11 - 1),
)
def test_our_headers_are_those_of_the_library(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    assert tar_header(name, size) == info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
