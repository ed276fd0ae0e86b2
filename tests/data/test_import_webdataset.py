import bz2
import gzip
import io
import lzma
import tarfile

import imagecodecs
import numpy as np
import pytest
import simplejpeg
import webdataset as wds
from PIL import Image

from rnagan.data.image_codec import decode_image
from rnagan.data.import_webdataset import adopt_folder
from rnagan.data.index import open_dataset
from rnagan.data.loader import TileReader, tile_batches
from rnagan.data.manifest import write_record
from rnagan.data.sampler import TileOrder
from rnagan.data.verify import check_folder
from rnagan.runtime.workers import Workers
from tests import programs


def tile(n, side=24):
    return np.full((side, side, 3), 10 + 20 * n, np.uint8)


def jpeg(n, side=24):
    return simplejpeg.encode_jpeg(tile(n, side), 95, "RGB", "444")


def png(n, mode="RGB", side=24):
    data = io.BytesIO()
    image = Image.fromarray(tile(n, side))
    (image.quantize(4) if mode == "P" else image.convert(mode)).save(data, format="PNG")
    return data.getvalue()


def cmyk():
    data = io.BytesIO()
    Image.new("CMYK", (24, 24)).save(data, "JPEG")
    return data.getvalue()


def png_of_16_bits():
    return imagecodecs.png_encode(np.full((24, 24, 3), 40_000, np.uint16))


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
        ("a.tar", [("a.jpg", jpeg(1)), ("a.json", b'{"mpp": NaN}')], "says mpp nan in its json, and --mpp is 0.5"),
        ("a.tar", [("a.jpg", jpeg(1)), ("a.json", b'{"mpp": -1}')], "says mpp -1 in its json"),
        ("a.tar", [("a.jpg", jpeg(1)), ("a.json", b'{"mpp": 1' + b"0" * 400 + b"}")], "says mpp 1000000000000000"),
        ("a.tar", [("a.jpg", jpeg(1)), ("a.json", b'{"mpp": "0.5"}')], "says mpp '0.5' in its json"),
        ("a.tar", [("slide.svs_1.jpg", jpeg(1))], "has 0 images (svs_1.jpg) under the key 'slide'"),
        ("a.tar", [("\udcff.jpg", jpeg(1))], "a name with control characters or not in UTF-8"),
        ("a.tar", [("a.jpg", cmyk())], "which is a JPEG in CMYK"),
        ("a.tar", [("a.png", png_of_16_bits())], "which is a PNG of 16 bits a channel"),
    ],
)
def test_what_cannot_be_adopted_is_reported_and_the_rest_taken(tmp_path, name, members, sentence):
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


def test_a_tar_that_is_damaged_or_joined_in_its_middle_is_refused(tmp_path):
    """tarfile takes a damaged header for the end, and would silently leave out what follows."""
    whole = write_tar(tmp_path / "a.tar", [(f"{n}.jpg", jpeg(n)) for n in range(9)]).read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(b"5.jpg")] ^= 1
    (tmp_path / "a.tar").write_bytes(damaged)
    (tmp_path / "b.tar").write_bytes(whole + whole)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert len(tar.getnames()) == 5
    adopted, findings = adopt_folder(tmp_path)
    assert adopted == [] and [finding.file for finding in findings] == ["a.tar", "b.tar"]
    assert all("has a damaged header, or a second tar joined to it" in finding.problem for finding in findings)


def test_an_adopted_tar_that_changed_is_not_to_be_built(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", jpeg(0))])
    adopt_folder(tmp_path)
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    (finding,) = check_folder(tmp_path).findings
    assert str(finding).endswith("(sha256 differs); fetch this tar again, or adopt it anew without its record")
    path.unlink()
    assert [str(finding) for finding in check_folder(tmp_path).findings] == ["a.tar: is missing; fetch this tar again"]


def test_a_tar_that_is_compressed_by_another_name(tmp_path):
    whole = write_tar(tmp_path / "a.tar", [("a.jpg", jpeg(0))]).read_bytes()
    for kind, pack in (("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)):
        (tmp_path / "a.tar").write_bytes(pack(whole))
        (finding,) = adopt_folder(tmp_path)[1]
        assert finding.problem.startswith(f"is compressed ({kind}), and tiles are read by offset")
    (tmp_path / "a.tar").write_bytes(whole)
    (tmp_path / "a.tar.md5").write_text("no tar at all")
    assert adopt_folder(tmp_path) == (["a"], [])


def test_scanners_that_differ_by_a_percent_are_one_set_where_mpp_says_so(tmp_path):
    for name, mpp in (("a", b"0.4942"), ("b", b"0.5017")):
        write_tar(tmp_path / f"{name}.tar", [("k.jpg", jpeg(0)), ("k.json", b'{"mpp": ' + mpp + b"}")])
    with pytest.raises(ValueError, match="24 px at 0.4942 µm: a; 24 px at 0.5017 µm: b.*or say with --mpp"):
        adopt_folder(tmp_path)
    assert adopt_folder(tmp_path, mpp=0.5) == (["a", "b"], [])
    assert open_dataset(tmp_path).mpp == 0.5 and check_folder(tmp_path).findings == []


def test_samples_that_say_nothing_beside_others_that_do(tmp_path):
    write_tar(tmp_path / "a.tar", [("k.jpg", jpeg(0)), ("k.json", b'{"mpp": 0.25}'), ("l.jpg", jpeg(1))])
    (finding,) = adopt_folder(tmp_path)[1]
    assert finding.problem == "says mpp nothing in its json, and others say 0.25"
    assert adopt_folder(tmp_path, mpp=0.25) == (["a"], [])


def test_what_was_adopted_before_a_kill_stays_so(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        write_tar(tmp_path / f"{name}.tar", [("k.jpg", jpeg(0))])
    with monkeypatch.context() as patch:
        records = iter([write_record])
        patch.setattr(
            "rnagan.data.import_webdataset.write_record", lambda *what: next(records)(*what)
        )  # the second one stops it
        with pytest.raises(StopIteration):
            adopt_folder(tmp_path)
    assert [path.name for path in tmp_path.glob("*.record.json")] == ["a.record.json"]
    assert adopt_folder(tmp_path) == (["b", "c"], [])
    (tmp_path / "dataset.json").unlink()  # killed before the digest
    assert adopt_folder(tmp_path) == ([], []) and len(open_dataset(tmp_path).slides) == 3


@pytest.mark.slow
@pytest.mark.guard
def test_several_processes_adopt_the_same(tmp_path):
    for name in "abc":
        members = [(f"{n}.jpg", jpeg(n)) for n in range(12)]
        write_tar(tmp_path / "one" / f"{name}.tar", members)
        write_tar(tmp_path / "two" / f"{name}.tar", members)
    assert adopt_folder(tmp_path / "one") == adopt_folder(tmp_path / "two", workers=Workers(2)) == (["a", "b", "c"], [])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_several_kinds_are_refused_before_anything_is_written(tmp_path):
    write_tar(tmp_path / "small.tar", [("a.jpg", jpeg(0))])
    write_tar(tmp_path / "large.tar", [("a.jpg", jpeg(0, 48))])
    with pytest.raises(ValueError, match="mixes tiles of several kinds .24 px at unknown µm: small; 48 px .* large"):
        adopt_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.tar", "small.tar"]


def test_the_script_adopts_and_checks(folder):
    write_tar(folder / "bad.tar", [("a.json", b"{}")])
    command = ("rnagan", "check-shards", folder, "--index", "--mpp", "0.5")
    result = programs.run(*command)
    assert result.returncode == 1 and "2 tars adopted, 1 refused." in result.stdout
    assert result.stderr.count("bad.tar") == 1 and "2 slides, 10 tiles" in result.stdout
    (folder / "bad.tar").unlink()
    assert programs.run(*command).returncode == 0
