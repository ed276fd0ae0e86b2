import io
import pickle
import tarfile
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from rnagan.data import loader
from rnagan.data.images import decode_image
from rnagan.data.index import open_dataset
from rnagan.data.loader import TileReader, tile_batches
from rnagan.data.order import TileOrder
from rnagan.data.records import write_digest

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


def independent(shards):
    """Every tile of the tars in stored order, by tarfile and PIL."""
    tiles = {}
    for slide in TILES:
        with tarfile.open(shards.tar_path(slide)) as tar:
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
        for image, row, (slide, k) in zip(batch.images, batch.slides, order.locate(batch.start, 6), strict=True):
            assert row == slide
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


def test_stored_bytes_come_unchanged(shards, reader):
    with tarfile.open(shards.tar_path("b")) as tar:
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
    monkeypatch.setattr(loader, "OPEN_SLIDES", 1)
    for few, many in zip(images(TileReader(shards, list(TILES)), order, 0, 15, 2), expected, strict=True):
        torch.testing.assert_close(few.images, many.images, rtol=0, atol=0)


def test_a_damaged_byte_names_the_tar(shards, reader, order):
    tar, row = shards.tar_path("b"), shards.index("b").iloc[2]
    data = bytearray(tar.read_bytes())
    data[row.offset + row["size"] // 2] ^= 1
    tar.write_bytes(data)
    with pytest.raises(ValueError, match=r"b\.tar is damaged at tile 2 \(CRC-32 differs\); build this slide again\.$"):
        images(reader, order, 0, 15, 1)
    assert reader.read(1, 3) and reader.read(0, 2)  # the others can still be read


def test_a_tar_cut_short_after_opening_names_the_tar(shards, reader):
    reader.read(0, 0)
    tar = shards.tar_path("a")
    tar.write_bytes(tar.read_bytes()[: shards.index("a").iloc[4].offset + 10])
    with pytest.raises(ValueError, match=r"a\.tar is damaged at tile 4"):
        reader.read(0, 4)


def test_a_tile_that_is_no_jpeg_names_the_tar(make_shards):
    shards = make_shards({"odd": 2}, jpeg=lambda slide, n: b"\x89PNG, not a JPEG")
    with pytest.raises(ValueError, match=r"odd\.tar holds no readable image at tile 0 \(.*\); build this slide again"):
        images(TileReader(shards, ["odd"]), TileOrder([2], 0), 0, 2, 1)


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
    sprung, tar_path = tmp_path / "sprung", shards.tar_path("a")
    record = tar_path.with_name("a.record.json")
    with tarfile.open(tar_path, "a") as tar:
        for name in ("a_x0_y0.pyd", "a_x0_y0.pickle", "z.pth"):
            member, data = tarfile.TarInfo(name), pickle.dumps(Trap(sprung))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    old = shards.slides.set_index("slide").loc["a", "bytes"]
    record.write_text(record.read_text().replace(f'"bytes": {old}', f'"bytes": {tar_path.stat().st_size}'))
    write_digest(shards.folder)
    images(TileReader(open_dataset(shards.folder), list(TILES)), order, 0, 15, 2)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works


def test_decode_keeps_red_red():
    data = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), (200, 20, 60), np.uint8)).save(data, "JPEG", quality=95)
    np.testing.assert_allclose(decode_image(data.getvalue())[8, 8], (200, 20, 60), atol=4)
