import dataclasses
import io
import multiprocessing
import operator
import pickle
import tarfile
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rnagan.config.gan import GANConfig
from rnagan.data import storage
from rnagan.data.image_codec import decode_image
from rnagan.data.index import open_dataset
from rnagan.data.loader import BatchMemory, Loading, tile_batches
from rnagan.data.manifest import IndexRow, write_index, write_record
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder, WeightedOrder
from rnagan.data.set_digest import write_digest
from rnagan.io.files import read_json, sha256_of_file
from rnagan.training.gan.draws import StepDraws

TILES = {"a": 5, "b": 7, "c-1": 3}


@pytest.fixture
def shards(make_shards):
    return make_shards(TILES)


@pytest.fixture
def reader(shards):
    return TileReader(shards, list(TILES))


@pytest.fixture
def order():
    return TileOrder(list(TILES.values()), seed=2, window=2)


def images(reader, order, start, batch_size, batches, rank=0, processes=1):
    return list(islice(tile_batches(reader, order, start, batch_size, rank, processes), batches))


LOADINGS = [
    Loading(threads=1, prefetch=1),
    Loading(threads=5, prefetch=3),
    Loading(workers=2, prefetch=1),
]


def assert_equal_batches(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one.start, one.replaced) == (other.start, other.replaced)
        assert torch.equal(one.images, other.images) and one.images.stride() == other.images.stride()
        assert torch.equal(one.slides, other.slides) and torch.equal(one.tiles, other.tiles)


def independent(shards):
    """Every tile of the tars in stored order, by tarfile and PIL."""
    tiles = {}
    for slide in TILES:
        with tarfile.open(shards.tar_address(slide)) as tar:
            members = [member for member in tar if member.name.endswith(".jpg")]
            tiles[slide] = [np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read()))) for member in members]
    return tiles


def test_batches_are_the_tars_tiles_in_order(shards, reader, order):
    truth, slides = independent(shards), list(TILES)
    for number, batch in enumerate(images(reader, order, 0, 6, 5)):  # 30 images: two epochs
        assert batch.start == 6 * number
        assert batch.images.shape == (6, 3, 24, 24) and batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.slides.dtype == torch.int64
        located = order.locate(batch.start, 6)
        for image, row, tile, (slide, k) in zip(batch.images, batch.slides, batch.tiles, located, strict=True):
            assert (row, tile) == (slide, k)
            # two JPEG decoders may round differently
            difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - truth[slides[slide]][k])
            assert difference.max() <= 3
            assert (
                min(
                    np.abs(image.permute(1, 2, 0).numpy().astype(int) - other).mean()
                    for name in slides
                    for j, other in enumerate(truth[name])
                    if (name, j) != (slides[slide], k)
                )
                > 5
            )


@pytest.mark.parametrize("loading", LOADINGS, ids=lambda loading: f"{loading.threads}-{loading.workers}")
def test_threads_and_worker_processes_change_nothing(reader, order, loading):
    expected = list(islice(tile_batches(reader, order, 3, 4, 1, 2, Loading(threads=1)), 7))
    batches = tile_batches(reader, order, 3, 4, 1, 2, loading)
    assert_equal_batches(list(islice(batches, 7)), expected)


def test_weighted_tissues_in_worker_processes_too(reader):
    order = WeightedOrder(list(TILES.values()), list(TILES), {"a": 3, "b": 1, "c-1": 0}, seed=0, window=2)
    expected = list(islice(tile_batches(reader, order, 0, 4), 9))
    np.testing.assert_array_equal(
        torch.cat([torch.stack([batch.slides, batch.tiles], dim=1) for batch in expected]), order.locate(0, 36)
    )
    assert_equal_batches(list(islice(tile_batches(reader, order, 0, 4, loading=Loading(workers=2)), 9)), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_gets_each_batch(reader, order, workers):
    loading = Loading(workers=workers, transform=operator.methodcaller("_replace", slides="transformed"))
    batch = next(tile_batches(reader, order, 0, 4, loading=loading))
    assert batch.slides == "transformed"
    assert torch.equal(batch.images, next(tile_batches(reader, order, 0, 4)).images)


def test_what_was_handed_out_is_not_written_again(reader, order):
    batches = tile_batches(reader, order, 0, 5, loading=Loading(threads=2, prefetch=1))
    first = next(batches)
    copy = first.images.clone()
    for _ in range(20):
        next(batches)
    assert torch.equal(first.images, copy)


def test_threads_end_with_the_batches(reader, order):
    before = threading.active_count()
    batches = tile_batches(reader, order, 0, 5, loading=Loading(threads=3))
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_many_threads_on_few_open_files(make_shards, monkeypatch):
    """A thread's file must not be closed under it by another that opens the same or the next one."""
    monkeypatch.setattr(storage, "_allow_open_files", lambda: 1)
    shards = make_shards({f"s{n}": 3 for n in range(8)})
    order = TileOrder([3] * 8, seed=0)
    reader = TileReader(shards, [f"s{n}" for n in range(8)])
    one = list(islice(tile_batches(reader, order, 0, 24, loading=Loading(threads=1)), 10))
    assert_equal_batches(list(islice(tile_batches(reader, order, 0, 24, loading=Loading(threads=16)), 10)), one)


def test_stored_bytes_come_unchanged(shards, reader):
    with tarfile.open(shards.tar_address("b")) as tar:
        assert reader.read(1, 4) == tar.extractfile("b_x4_y8.jpg").read()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_same_images(reader, order, processes):
    alone = images(reader, order, 4, 6, 3)
    shared = [images(reader, order, 4, 6, 3, rank, processes) for rank in range(processes)]
    for b in range(3):
        parts = [batches[b] for batches in shared]
        assert [part.start for part in parts] == [4 + 6 * b + rank * 6 // processes for rank in range(processes)]
        torch.testing.assert_close(torch.cat([part.images for part in parts]), alone[b].images, rtol=0, atol=0)
        torch.testing.assert_close(torch.cat([part.slides for part in parts]), alone[b].slides)
    assert not torch.equal(shared[0][0].images, shared[1][0].images)


@pytest.mark.parametrize(("start", "batch_size"), [(0, 1), (5, 5), (11, 3), (14, 7)])
def test_resume_at_any_image_with_any_batch_size(reader, order, start, batch_size):
    whole = torch.cat([batch.images for batch in images(reader, order, 0, 8, 5)])
    resumed = torch.cat([batch.images for batch in images(reader, order, start, batch_size, 3)])
    torch.testing.assert_close(resumed, whole[start : start + 3 * batch_size], rtol=0, atol=0)


def test_few_open_slides_change_nothing(shards, reader, order, monkeypatch):
    expected = images(reader, order, 0, 15, 2)
    monkeypatch.setattr(storage, "_allow_open_files", lambda: 1)
    monkeypatch.setattr("rnagan.data.reader.MORE_OPEN", -1)
    shards = open_dataset(shards.address)
    for few, many in zip(images(TileReader(shards, list(TILES), window=2), order, 0, 15, 2), expected, strict=True):
        torch.testing.assert_close(few.images, many.images, rtol=0, atol=0)


def test_a_damaged_byte_names_the_tar(shards, reader, order):
    tar, row = Path(shards.tar_address("b")), shards.index("b").iloc[2]
    data = bytearray(tar.read_bytes())
    data[row.offset + row["size"] // 2] ^= 1
    tar.write_bytes(data)
    with pytest.raises(ValueError, match=r"b\.tar is damaged at tile 2 \(CRC-32 differs\); build this slide again\.$"):
        images(reader, order, 0, 15, 1)
    assert reader.read(1, 3) and reader.read(0, 2)  # the others can still be read


def test_a_tar_cut_short_after_opening_names_the_tar(shards, reader):
    reader.read(0, 0)
    tar = Path(shards.tar_address("a"))
    tar.write_bytes(tar.read_bytes()[: shards.index("a").iloc[4].offset + 10])
    with pytest.raises(ValueError, match=r"a\.tar is damaged at tile 4"):
        reader.read(0, 4)


def test_a_tile_that_is_no_jpeg_names_the_tar(make_shards):
    shards = make_shards({"odd": 2}, jpeg=lambda slide, n: b"\x89PNG, not a JPEG")
    with pytest.raises(ValueError, match=r"odd\.tar holds no readable image at tile 0 \(.*\); build this slide again"):
        images(TileReader(shards, ["odd"]), TileOrder([2], 0), 0, 2, 1)


def damage(shards, slide, *tiles):
    """Flip a bit in the middle of tiles."""
    tar = Path(shards.tar_address(slide))
    data = bytearray(tar.read_bytes())
    for row in shards.index(slide).iloc[list(tiles)].itertuples():
        data[row.offset + row.size // 2] ^= 1
    tar.write_bytes(data)


def test_the_error_comes_where_the_tile_would(shards, reader, order):
    expected = images(reader, order, 0, 1, 15)
    at = next(n for n, batch in enumerate(expected) if (batch.slides.item(), batch.tiles.item()) == (1, 2))
    damage(shards, "b", 2)
    for loading in LOADINGS:
        batches = tile_batches(reader, order, 0, 1, loading=loading)
        assert_equal_batches(list(islice(batches, at)), expected[:at])
        with pytest.raises(ValueError, match=r"b\.tar is damaged at tile 2 \(CRC-32 differs\)"):
            next(batches)
        assert not multiprocessing.active_children()


SKIP = Loading(threads=2, skip_corrupt=True, max_corrupt=1.0)


@pytest.mark.parametrize(("loading", "processes"), [(SKIP, 1), (SKIP, 3), (dataclasses.replace(SKIP, workers=2), 1)])
def test_a_damaged_tile_is_replaced_by_the_next_of_its_slide_everywhere(shards, reader, order, loading, processes):
    whole = images(reader, order, 0, 15, 2)
    damage(shards, "b", 2, 3)
    for b in range(2):
        parts = [
            list(islice(tile_batches(reader, order, 0, 15, rank, processes, loading), 2))[b]
            for rank in range(processes)
        ]
        tiles = torch.cat([torch.stack([part.slides, part.tiles], dim=1) for part in parts]).tolist()
        pixels, replaced = torch.cat([part.images for part in parts]), [one for part in parts for one in part.replaced]
        wanted = list(zip(whole[b].slides.tolist(), whole[b].tiles.tolist(), strict=True))
        pixels_of = dict(zip(wanted, whole[b].images, strict=True))
        assert tiles == [[1, 4] if tile in ((1, 2), (1, 3)) else list(tile) for tile in wanted]
        for image, tile in zip(pixels, tiles, strict=True):
            assert torch.equal(image, pixels_of[tuple(tile)])
        bad = [n for n, tile in enumerate(wanted, start=15 * b) if tile in ((1, 2), (1, 3))]
        assert [(one.number, one.slide) for one in replaced] == [(n, "b") for n in bad]
        assert sorted(one.tile for one in replaced) == [2, 3]
        assert all("b.tar is damaged at tile" in one.problem for one in replaced)


@pytest.mark.parametrize("how", ["missing", "truncated", "no index", "broken index"])
def test_a_damaged_shard_is_refused_or_replaced_by_the_next_slide(shards, order, how):
    tar = Path(shards.tar_address("b"))
    index = tar.with_name("b.index.parquet")
    if how == "missing":
        tar.unlink()
    elif how == "truncated":
        tar.write_bytes(tar.read_bytes()[:-10])
    elif how == "no index":
        index.unlink()
    else:
        index.write_bytes(b"PAR1 nonsense PAR1")
    reader = TileReader(shards, list(TILES), np.array(list(TILES.values())))
    with pytest.raises(ValueError, match=r"b\.(tar|index\.parquet) is missing or (truncated|damaged)"):
        images(reader, order, 0, 15, 1)
    (batch,) = islice(tile_batches(reader, order, 0, 15, loading=SKIP), 1)
    located = order.locate(0, 15).tolist()
    assert [[slide, k] for slide, k in zip(batch.slides.tolist(), batch.tiles.tolist(), strict=True)] == [
        [2, k % 3] if slide == 1 else [slide, k] for slide, k in located
    ]
    assert len(batch.replaced) == 7


def test_too_many_damaged_tiles_end_the_stream(shards, reader, order):
    damage(shards, "b", 2)
    enough = Loading(skip_corrupt=True, max_corrupt=1 / 15)
    assert sum(len(batch.replaced) for batch in islice(tile_batches(reader, order, 0, 5, loading=enough), 12)) == 4
    few = dataclasses.replace(enough, max_corrupt=0.99 / 15)
    with pytest.raises(ValueError, match=r"1 of 15 tiles are damaged \(b tile 2\), more than the share of 0\.066"):
        list(islice(tile_batches(reader, order, 0, 5, loading=few), 3))


def test_where_nothing_can_be_read_the_first_error_is_reported(make_shards):
    shards = make_shards({"odd": 2}, jpeg=lambda slide, n: b"not an image")
    with pytest.raises(ValueError, match=r"odd\.tar holds no readable image at tile 0"):
        next(tile_batches(TileReader(shards, ["odd"]), TileOrder([2], 0), 0, 1, loading=SKIP))


@pytest.mark.parametrize("side", [16, 32])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_of_another_size_is_damaged(make_shards, side, kind):
    data = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(data, kind)
    shards = make_shards({"odd": 1}, jpeg=lambda slide, n: data.getvalue())
    with pytest.raises(ValueError, match=rf"no readable image at tile 0 \(it has {side} × {side} px, not 24 × 24\)"):
        next(tile_batches(TileReader(shards, ["odd"]), TileOrder([1], 0), 0, 1))


def test_a_png_is_read_as_it_is(make_shards):
    data, pixels = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    shards = make_shards({"p": 1}, jpeg=lambda slide, n: data.getvalue())
    batch = next(tile_batches(TileReader(shards, ["p"]), TileOrder([1], 0), 0, 1))
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), pixels)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("offset", -1, "impossible offsets"),
        ("size", 0, "impossible offsets"),
        ("size", 2**40, "impossible offsets"),
        ("offset", 2**20, "beyond the end of its tar"),
    ],
)
def test_an_index_of_a_stranger_cannot_ask_for_what_is_not_there(shards, column, value, problem):
    rows = shards.index("b")
    rows.loc[3, column] = value
    folder = Path(shards.address)
    write_index(folder / "b.index.parquet", [IndexRow(*row) for row in rows.itertuples(index=False)])
    with pytest.raises(ValueError, match="it is not the file that its record vouches for"):
        TileReader(shards, list(TILES)).read(1, 0)
    vouched = {"index_sha256": sha256_of_file(folder / "b.index.parquet")}
    write_record(folder, read_json(folder / "b.record.json") | vouched)
    write_digest(folder)
    with pytest.raises(ValueError, match=problem):
        TileReader(open_dataset(folder), list(TILES)).read(1, 0)


def test_a_batch_that_processes_cannot_share_is_refused(reader, order):
    with pytest.raises(ValueError, match="batch_size 6 can't be shared evenly by 4 processes"):
        tile_batches(reader, order, 0, 6, 0, 4)


@pytest.mark.parametrize("name", ["pipe:touch x", "../a", "http://example.org/a", "a.tar"])
def test_names_that_are_no_local_shard_are_refused(shards, name):
    with pytest.raises(ValueError, match=r"can't name a shard|has no slide"):
        TileReader(shards, [name]).read(0, 0)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_in_a_tar_are_never_opened(shards, order, tmp_path):
    """WebDataset's own decoder would run them (FACTS: `.decode()` loads .pyd and .pickle members)."""
    sprung, tar_path = tmp_path / "sprung", Path(shards.tar_address("a"))
    record = tar_path.with_name("a.record.json")
    with tarfile.open(tar_path, "a") as tar:
        for name in ("a_x0_y0.pyd", "a_x0_y0.pickle", "z.pth"):
            member, data = tarfile.TarInfo(name), pickle.dumps(Trap(sprung))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    write_record(record.parent, read_json(record) | {"bytes": tar_path.stat().st_size})
    write_digest(shards.address)
    images(TileReader(open_dataset(shards.address), list(TILES)), order, 0, 15, 2)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works


def test_decode_keeps_red_red():
    data = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), (200, 20, 60), np.uint8)).save(data, "JPEG", quality=95)
    np.testing.assert_allclose(decode_image(data.getvalue())[8, 8], (200, 20, 60), atol=4)


@pytest.mark.parametrize("loading", LOADINGS)
def test_what_is_made_beside_tiles_belongs_to_their_numbers_and_lies_in_one_memory(reader, order, loading):
    draws = StepDraws(GANConfig(resolution=32, noise_units=3), 2)
    beside = dataclasses.replace(loading, beside=draws)
    expected = images(reader, order, 3, 20, 3, rank=1, processes=2)
    found = list(islice(tile_batches(reader, order, 3, 20, 1, 2, beside), 3))
    assert_equal_batches(found, expected)
    for batch in found:
        field = batch.packed.field
        drawn = draws.packed(batch.start, 10)
        assert all(torch.equal(field(name), drawn.field(name)) for name in draws.rows)
        assert torch.equal(field("items").permute(0, 3, 1, 2), batch.images)
        assert torch.equal(field("places"), torch.stack([batch.slides, batch.tiles], dim=1))
        assert len({own.untyped_storage().data_ptr() for own in (field("items"), field("noise"))}) == 1


def test_memory_comes_back_when_the_last_that_shares_it_is_gone():
    memory = BatchMemory((4, 8, 8, 3), keep=2)
    first = memory.take()
    assert first.shape == (4, 8, 8, 3) and first.dtype == torch.uint8
    place = first.data_ptr()
    part = first.permute(0, 3, 1, 2)[1:].numpy()
    del first
    assert memory.take().data_ptr() != place  # a part of it is still in use
    del part
    again = [memory.take() for _ in range(2)]
    assert place in [tensor.data_ptr() for tensor in again]
    assert len({tensor.data_ptr() for tensor in again}) == 2


def test_memory_is_of_the_dtype_asked_for_and_fresh_memory_does_not_come_back():
    memory = BatchMemory((3, 5), keep=2, dtype=np.float32)
    assert memory.take().dtype == memory.fresh().dtype == torch.float32 and memory.fresh().shape == (3, 5)
    assert len(memory._free) == 1


def test_no_more_than_asked_for_is_kept():
    memory = BatchMemory((1000,), keep=2)
    lent = [memory.take() for _ in range(5)]
    assert len({tensor.data_ptr() for tensor in lent}) == 5
    del lent
    assert len(memory._free) == 2


def test_it_may_come_back_in_another_thread():
    memory = BatchMemory((1000,), keep=1)
    lent = [memory.take()]
    thread = threading.Thread(target=lent.clear)
    thread.start()
    thread.join()
    assert len(memory._free) == 1
