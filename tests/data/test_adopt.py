import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import webdataset as wds
from PIL import Image

from rnagan.data.adopt import adopt_folder
from rnagan.data.check import check_folder
from rnagan.data.images import decode_image
from rnagan.data.index import open_dataset
from rnagan.data.loader import TileReader, tile_batches
from rnagan.data.order import TileOrder

SCRIPT = Path(__file__).parents[2] / "shards" / "check_shards.py"


def tile(n, side=24):
    return np.full((side, side, 3), 10 + 20 * n, np.uint8)


def jpeg(n, side=24):
    return simplejpeg.encode_jpeg(tile(n, side), 95, "RGB", "444")


def png(n, mode="RGB", side=24):
    data = io.BytesIO()
    image = Image.fromarray(tile(n, side))
    (image.quantize(4) if mode == "P" else image.convert(mode)).save(data, format="PNG")
    return data.getvalue()


def write_tar(path, members, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1234567
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def folder(tmp_path):
    """Two tars as others write them: one with WebDataset's own writer, one of PNGs with json and classes."""
    (tmp_path / "set").mkdir()
    with wds.TarWriter(str(tmp_path / "set" / "train-000000.tar")) as writer:
        for n in range(6):
            writer.write({"__key__": f"sample{n:05d}", "jpg": jpeg(n), "cls": str(n)})
    about = b'{"x": 512, "y": 256, "mpp": 0.5}'
    members = [(f"./deep/{n}.{kind}", data) for n in range(4) for kind, data in (("json", about), ("png", png(n)))]
    write_tar(tmp_path / "set" / "others.tar", members, format=tarfile.PAX_FORMAT)
    return tmp_path / "set"


def test_tars_are_adopted_as_they_are_and_read_by_our_loader(folder):
    before = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    adopted, refused = adopt_folder(folder, mpp=0.5)
    assert (adopted, refused) == (["others", "train-000000"], [])
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before
    assert check_folder(folder, decode=True).findings == []
    shards = open_dataset(folder)
    assert (shards.tile_px, shards.mpp, len(shards.index("train-000000"))) == (24, 0.5, 6)
    assert shards.index("others")[["x", "y"]].to_numpy().tolist() == [[512, 256]] * 4
    assert shards.index("train-000000")["x"].eq(-1).all()
    reader = TileReader(shards, ["others", "train-000000"])
    batch = next(tile_batches(reader, TileOrder(np.array([4, 6]), seed=0), 0, 10))
    shown = sorted(round(float(image.float().mean())) for image in batch.images)
    assert shown == sorted([10 + 20 * n for n in range(4)] + [10 + 20 * n for n in range(6)])


def test_the_index_draws_an_order_of_its_own(tmp_path):
    write_tar(tmp_path / "long.tar", [(f"{n:03d}.jpg", jpeg(n % 10)) for n in range(60)])
    adopt_folder(tmp_path)
    keys = open_dataset(tmp_path).index("long")["key"].tolist()
    assert sorted(keys) == [f"{n:03d}" for n in range(60)] != keys
    (tmp_path / "long.record.json").unlink()
    adopt_folder(tmp_path, seed=1)
    assert open_dataset(tmp_path).index("long")["key"].tolist() != keys
    (tmp_path / "long.index.parquet").unlink()
    assert check_folder(tmp_path, repair=True).findings == []
    assert check_folder(tmp_path).findings == []


def test_adopting_again_takes_only_what_is_new(folder):
    adopt_folder(folder, mpp=0.5)
    write_tar(folder / "more.tar", [("a.jpg", jpeg(1))])
    assert adopt_folder(folder, mpp=0.5) == (["more"], [])
    assert open_dataset(folder).slides["slide"].tolist() == ["more", "others", "train-000000"]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA"])
def test_png_of_other_modes_becomes_rgb(mode):
    assert np.abs(decode_image(png(3, mode)).astype(int) - 70).max() <= 1


def test_png_of_16_bits_is_refused(tmp_path):
    data = io.BytesIO()
    Image.fromarray(np.full((24, 24), 30_000, np.uint16)).save(data, format="PNG")
    write_tar(tmp_path / "deep.tar", [("a.png", data.getvalue())])
    (finding,) = adopt_folder(tmp_path)[1]
    assert "a PNG of mode I;16; only 8 bits a channel are read" in str(finding)


@pytest.mark.parametrize(
    ("name", "members", "sentence"),
    [
        ("a.tar", [("a.jpg", jpeg(1)), ("b.jpg", jpeg(1, 32))], "a.tar: has images of 24 × 24, 32 × 32 px; all must"),
        ("a.tar", [("a.jpg", simplejpeg.encode_jpeg(np.zeros((24, 32, 3), np.uint8)))], "has images of 32 × 24 px"),
        ("a.tar", [("a.jpg", jpeg(1)), ("a.png", png(1))], "has 2 images (jpg, png) under the key 'a'"),
        ("a.tar", [("a.json", b"{}")], "has 0 images (json) under the key 'a'"),
        ("a.tar", [("a.jpg", jpeg(1)), ("a.jpg", jpeg(2))], "has 2 images"),
        ("a.tar", [], "holds no sample"),
        ("a.tar", [("a.jpg", b"text")], "holds 'a.jpg', which is "),
        ("a.tar", [("../a.jpg", jpeg(1))], "a name that leads out of a folder"),
        ("a.tar", [("a.jpg", jpeg(1)), ("a.json", b'{"mpp": 1.0}')], "says mpp 1 in its json, and --mpp is 0.5"),
        ("a.0.tar", [("a.jpg", jpeg(1))], "a.0.tar: 'a.0' can't name a shard"),
    ],
)
def test_what_cannot_be_adopted_is_told_and_the_rest_taken(tmp_path, name, members, sentence):
    write_tar(tmp_path / "good.tar", [("k.jpg", jpeg(0))])
    write_tar(tmp_path / name, members)
    adopted, (finding,) = adopt_folder(tmp_path, mpp=0.5)
    assert adopted == ["good"] and sentence in str(finding)


def test_compressed_and_truncated_tars_are_refused(tmp_path):
    whole = write_tar(tmp_path / "cut.tar", [(f"{n}.jpg", jpeg(n)) for n in range(9)]).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:5000])
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    adopted, findings = adopt_folder(tmp_path)
    assert adopted == [] and [finding.file for finding in findings] == ["a.tar.gz", "cut.tar"]
    assert "unpack it to a plain .tar" in findings[0].problem and "truncated" in findings[1].problem
    assert not (tmp_path / "dataset.json").exists()
    (tmp_path / "cut.tar").write_bytes(whole[: whole.index(b"5.jpg")])  # between two samples
    assert "cut.tar: lacks the two blocks that end a tar" in str(adopt_folder(tmp_path)[1][1])


def test_several_kinds_are_refused_before_anything_is_written(tmp_path):
    write_tar(tmp_path / "small.tar", [("a.jpg", jpeg(0))])
    write_tar(tmp_path / "large.tar", [("a.jpg", jpeg(0, 48))])
    with pytest.raises(ValueError, match="mixes tiles of several kinds .24 px at unknown µm: small; 48 px .* large"):
        adopt_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.tar", "small.tar"]


def test_the_script_adopts_and_checks(folder):
    write_tar(folder / "bad.tar", [("a.json", b"{}")])
    command = [sys.executable, SCRIPT, folder, "--index", "--mpp", "0.5"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "2 tars adopted, 1 refused." in result.stdout
    assert result.stderr.count("bad.tar") == 1 and "2 slides, 10 tiles" in result.stdout
    (folder / "bad.tar").unlink()
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
