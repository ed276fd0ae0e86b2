"""Batches of profiles from shards: the same machinery as for tiles, and the same sequence as from memory."""

import dataclasses
import json
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from rnagan.data.loader import Loading
from rnagan.data.npy_codec import encode_profile
from rnagan.data.profile_layout import Arrangement
from rnagan.data.profile_shards import all_profiles, open_profile_set, profile_batches
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.expression.h5ad import OBS_COLUMNS
from rnagan.io.files import read_json
from tests import programs
from tests.data.profiles import bits, files, make_set
from tests.data.servers import WebServer


def training_split(expression):
    return expression.obs.index[expression.obs["split"] == "train"].tolist()


@pytest.fixture
def world(tmp_path):
    """The expression, the set of 29 profiles in four shards, the training split, and its order."""
    expression, profiles = make_set(tmp_path, 29)
    selection = profiles.arrangement.select(training_split(expression))
    return expression, profiles, selection, selection.order(5, window=3)


def read(profiles, selection, order, start, batch_size, count, **options):
    return list(islice(profile_batches(profiles, selection, order, start, batch_size, **options), count))


def assert_equal_batches(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one.start, one.replaced) == (other.start, other.replaced)
        assert torch.equal(one.values.view(torch.int32), other.values.view(torch.int32))
        assert torch.equal(one.rows, other.rows)


def test_batches_are_the_profiles_of_the_split_bit_by_bit(world):
    expression, profiles, selection, order = world
    place = {sample: row for row, sample in enumerate(expression.obs.index)}
    batches = read(profiles, selection, order, 0, 6, 12)
    for number, batch in enumerate(batches):
        assert batch.start == 6 * number and batch.replaced == ()
        assert batch.values.shape == (6, 13) and batch.values.dtype == torch.float32
        assert batch.rows.dtype == torch.int64
        rows = [place[profiles.samples[row]] for row in batch.rows.tolist()]
        np.testing.assert_array_equal(bits(batch.values.numpy()), bits(expression.values[rows]))
    shown = [profiles.samples[row] for batch in batches for row in batch.rows.tolist()]
    count = len(selection.samples)
    assert sorted(shown[:count]) == sorted(shown[count : 2 * count]) == sorted(training_split(expression))


@pytest.mark.parametrize(
    "loading", [Loading(threads=1, prefetch=1), Loading(threads=5, prefetch=3), Loading(workers=2)]
)
def test_threads_and_worker_processes_change_nothing(world, loading):
    _, profiles, selection, order = world
    expected = read(profiles, selection, order, 3, 4, 12, rank=1, processes=2, loading=Loading(threads=1))
    found = read(profiles, selection, order, 3, 4, 12, rank=1, processes=2, loading=loading)
    assert_equal_batches(found, expected)


@pytest.mark.parametrize("count", [5, 29])
@pytest.mark.parametrize("per_shard", [4, 256])
@pytest.mark.parametrize("seed", [0, 7])
def test_memory_sees_what_shards_give(tmp_path, count, per_shard, seed):
    """The trainer's two ways: rows of an .h5ad that was dealt in thought, and batches from shards."""
    expression, profiles = make_set(tmp_path, count, per_shard)
    wanted = training_split(expression)
    dealt = Arrangement.dealt(expression.obs.index.tolist(), per_shard=per_shard)
    in_memory = dealt.select(wanted)
    order, place = in_memory.order(seed), expression.obs.index.get_indexer(dealt.samples)
    for batch_size, processes, workers in (
        (1, 1, 0),
        (6, 2, 0),
        (4, 2, 2) if (count, per_shard, seed) == (29, 4, 7) else (8, 1, 0),
    ):
        share, batches = batch_size // processes, 5
        for rank in range(processes):
            selection = profiles.arrangement.select(wanted)
            streamed = read(
                profiles, selection, selection.order(seed), 2, batch_size, batches,
                rank=rank, processes=processes, loading=Loading(workers=workers),
            )  # fmt: skip
            for number, batch in enumerate(streamed):
                rows = in_memory.rows(order.locate(2 + number * batch_size + rank * share, share))
                assert [profiles.samples[row] for row in batch.rows] == [dealt.samples[row] for row in rows]
                np.testing.assert_array_equal(bits(batch.values.numpy()), bits(expression.values[place[rows]]))


def test_processes_share_the_same_profiles_and_resume_is_a_number(world):
    _, profiles, selection, order = world
    whole = torch.cat([batch.values for batch in read(profiles, selection, order, 0, 12, 5)])
    for processes in (2, 3):
        for b in range(3):
            parts = [
                read(profiles, selection, order, 7, 12, 3, rank=rank, processes=processes)[b]
                for rank in range(processes)
            ]
            assert torch.equal(torch.cat([part.values for part in parts]), whole[7 + 12 * b :][:12])
    with pytest.raises(ValueError, match="batch_size 6 can't be shared evenly by 4 processes"):
        read(profiles, selection, order, 0, 6, 1, processes=4)


GATHER = """
import json, sys
from itertools import islice
import torch.distributed as dist
from rnagan.data.profile_shards import open_profile_set, profile_batches

if __name__ == "__main__":
    dist.init_process_group("gloo")
    profiles = open_profile_set(sys.argv[1])
    selection = profiles.arrangement.select(json.loads(sys.argv[3]))
    batches = profile_batches(profiles, selection, selection.order(5, 3), 4, 6, dist.get_rank(), dist.get_world_size())
    read = [[batch.start, batch.rows.tolist(), batch.values.tolist()] for batch in islice(batches, 8)]
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, read)
    if dist.get_rank() == 0:
        json.dump(gathered, open(sys.argv[2], "w"))
    dist.destroy_process_group()
"""


@pytest.mark.distributed
def test_two_processes_read_what_one_reads(world, tmp_path):
    _, profiles, selection, order = world
    script, out = tmp_path / "gather.py", tmp_path / "read.json"
    script.write_text(GATHER)
    words = (script, profiles.address, out, json.dumps(selection.samples))
    programs.run(*words, env={"OMP_NUM_THREADS": "1"}, processes=2).check()
    of_rank = json.loads(out.read_text())
    for number, batch in enumerate(read(profiles, selection, order, 4, 6, 8)):
        starts, rows, values = zip(*(read[number] for read in of_rank), strict=True)
        assert starts == (batch.start, batch.start + 3) and rows[0] != rows[1]
        assert rows[0] + rows[1] == batch.rows.tolist() and values[0] + values[1] == batch.values.tolist()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_all_profiles_come_once_in_stored_order(world, batch_size):
    expression, profiles, selection, _ = world
    before = threading.active_count()
    batches = list(all_profiles(profiles, selection, batch_size, Loading(threads=2)))
    assert threading.active_count() == before
    assert torch.cat([batch.rows for batch in batches]).tolist() == selection.all_rows.tolist()
    assert [len(batch.rows) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    rows = expression.obs.index.get_indexer(selection.samples)
    np.testing.assert_array_equal(bits(torch.cat([batch.values for batch in batches])), bits(expression.values[rows]))


def test_a_remote_set_is_read_through_the_cache(world, tmp_path, monkeypatch):
    _, profiles, selection, order = world
    monkeypatch.setenv("RNAGAN_CACHE", str(tmp_path / "cache"))
    server = WebServer(tmp_path)
    try:
        remote = open_profile_set(f"{server.url}/profiles")
        assert dataclasses.replace(remote.arrangement, sizes=0) == dataclasses.replace(profiles.arrangement, sizes=0)
        chosen = remote.arrangement.select(selection.samples)
        expected = read(profiles, selection, order, 0, 6, 8)
        assert_equal_batches(read(remote, chosen, chosen.order(5, window=3), 0, 6, 8), expected)
        assert_equal_batches(read(remote, chosen, order, 0, 6, 8, loading=Loading(workers=1)), expected)
        asked = len(server.requests)
        again = open_profile_set(f"{server.url}/profiles")
        assert_equal_batches(read(again, again.arrangement.select(selection.samples), order, 0, 6, 8), expected)
        assert len(server.requests) == asked + 2  # dataset.json and slides.parquet: the rest is kept
    finally:
        server.close()


def damage(profiles, row):
    """Flip a bit of a profile; its name as messages have it."""
    shard = int(np.searchsorted(np.cumsum(profiles.arrangement.sizes), row, side="right"))
    name, place = profiles.shard_names[shard], row - int(profiles.arrangement.first_rows[shard])
    tar, where = Path(profiles.tar_address(name)), profiles.index(name).iloc[place]
    data = bytearray(tar.read_bytes())
    data[where["offset"] + where["size"] - 2] ^= 1
    tar.write_bytes(data)
    return name, place


def test_a_damaged_profile_is_named_by_its_place_or_replaced_by_the_next_of_the_split(world):
    expression, profiles, selection, order = world
    row = next(row for row in selection.all_rows.tolist() if selection.places[0][-1] > row > selection.places[0][0])
    whole = torch.cat([batch.rows for batch in read(profiles, selection, order, 0, 4, 8)]).tolist()
    name, place = damage(profiles, row)
    found = rf"{name}.tar is damaged at profile {place} \(CRC-32 differs\); build these profiles again \(rnagan build-"
    with pytest.raises(ValueError, match=found):
        read(profiles, selection, order, 0, 4, 8)
    skip = Loading(threads=2, skip_corrupt=True, max_corrupt=1.0)
    batches = read(profiles, selection, order, 0, 4, 8, loading=skip)
    following = selection.all_rows.tolist()[selection.all_rows.tolist().index(row) + 1]
    shown = torch.cat([batch.rows for batch in batches]).tolist()
    assert shown == [following if one == row else one for one in whole]
    replaced = [one for batch in batches for one in batch.replaced]
    assert [(one.number, one.slide, one.tile) for one in replaced] == [
        (n, name, place) for n, one in enumerate(whole) if one == row
    ]
    values = torch.cat([batch.values for batch in batches]).numpy()
    rows = expression.obs.index.get_indexer([profiles.samples[one] for one in shown])
    np.testing.assert_array_equal(bits(values), bits(expression.values[rows]))
    few = dataclasses.replace(skip, max_corrupt=0.001)
    with pytest.raises(
        ValueError, match=rf"1 of 22 profiles are damaged \({name} profile {place}\), more than the share"
    ):
        read(profiles, selection, order, 0, 4, 8, loading=few)


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (b"no array", "no .npy"),
        (encode_profile(np.zeros(12, np.float32)), r"it has the shape \(12,\), not \(13,\)"),
    ],
)
def test_a_stored_array_of_another_kind_is_damaged(tmp_path, stored, problem):
    _, profiles = make_set(tmp_path, 5)
    record = read_json(tmp_path / "profiles" / "profiles-00000.record.json")
    with ShardWriter(profiles.address, "profiles-00000") as shard:
        for place, sample in enumerate(profiles.samples):
            shard.add_profile(f"profiles-00000_n{place}", stored, sample, "tpm")
        shard.commit("done", {}, record["source"], record["options"], {})
    write_digest(profiles.address)
    profiles = open_profile_set(profiles.address)
    selection = profiles.arrangement.select(profiles.samples)
    with pytest.raises(
        ValueError, match=rf"profiles-00000.tar holds no readable array at profile \d \({problem}.*\); build"
    ):
        read(profiles, selection, selection.order(0), 0, 1, 1)


@pytest.mark.parametrize("name", ["genes.parquet", "samples.parquet", "profiles-00001.index.parquet", "dataset.json"])
def test_a_table_that_is_missing_or_of_another_set_is_refused(world, tmp_path, name):
    _, profiles, selection, order = world
    make_set(tmp_path / "profiles", 11, per_shard=3)
    for damaged in (None, b"PAR1", files(tmp_path / "profiles" / "profiles")[name]):
        path = tmp_path / "profiles" / name
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        if name == "genes.parquet" and damaged and len(damaged) > 4:
            assert open_profile_set(profiles.address).genes == profiles.genes  # the same genes
            continue
        with pytest.raises(
            (ValueError, FileNotFoundError),
            match=r"(missing|damaged|not that of|no finished|disagree|not valid|does not belong)",
        ):
            opened = open_profile_set(profiles.address)
            chosen = opened.arrangement.select(selection.samples)
            read(opened, chosen, order, 0, 22, 1)


def test_no_flipped_bit_of_samples_or_genes_changes_them_unseen(world, tmp_path):
    """Labels are joined by sample: a name that changed would give a profile another's tissue and split."""
    _, profiles, *_ = world
    random = np.random.default_rng(0)
    for name in ("genes.parquet", "samples.parquet"):
        path = tmp_path / "profiles" / name
        before = path.read_bytes()
        for at in random.choice(len(before), 60, replace=False).tolist():
            data = bytearray(before)
            data[at] ^= 0x10
            path.write_bytes(data)
            try:
                found = open_profile_set(profiles.address)
            except ValueError:
                continue
            assert (found.genes, found.symbols, found.samples) == (profiles.genes, profiles.symbols, profiles.samples)
        path.write_bytes(before)


def test_labels_are_joined_without_opening_a_tar(world):
    expression, profiles, *_ = world
    for name in profiles.shard_names:
        Path(profiles.tar_address(name)).unlink()
    opened = open_profile_set(profiles.address)
    labels = expression.obs.loc[opened.samples, list(OBS_COLUMNS)]
    assert (labels["donor"] == opened.samples).all()
