import hashlib
import io
import shutil
import tarfile
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import simplejpeg

from rnagan.data.index import open_dataset
from rnagan.data.manifest import write_record
from rnagan.data.set_digest import write_digest
from rnagan.data.tars import scan_tar
from rnagan.data.verify import check_folder
from rnagan.data.writer import ShardWriter
from rnagan.io.files import read_json, sha256_of, sha256_of_file, write_json
from rnagan.io.parquet import read_parquet
from rnagan.runtime.workers import Workers
from tests import programs

OPTIONS = {"tile_px": 24, "mpp": 0.5}


@pytest.fixture
def folder(tmp_path):
    """Slides a (3 tiles), b (none), c (5 tiles), as rnagan build-tiles leaves them."""
    random = np.random.default_rng(0)
    for slide, tiles in (("a", 3), ("b", 0), ("c", 5)):
        with ShardWriter(tmp_path / "shards", slide) as shard:
            for n in range(tiles):
                jpeg = simplejpeg.encode_jpeg(random.integers(0, 256, (24, 24, 3), np.uint8), 90, "RGB", "444")
                about = {"slide": slide, "x": n, "y": 2 * n, "tile_px": 24, "mpp": 0.5}
                shard.add(f"{slide}_x{n}_y{2 * n}", jpeg, about, n, 2 * n)
            shard.commit("done" if tiles else "no_tiles", {"background": 2}, {"bytes": 1}, OPTIONS, {})
    write_digest(tmp_path / "shards")
    return tmp_path / "shards"


def findings(folder, **options):
    return [str(finding) for finding in check_folder(folder, **options).findings]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def change_index(folder, change):
    path = folder / "a.index.parquet"
    table = pd.read_parquet(path)
    change(table).to_parquet(path, index=False)


def change_record(folder, **changes):
    write_json(folder / "a.record.json", read_json(folder / "a.record.json") | changes)


def vouch(folder, **changes):
    """The record as if it had been written so."""
    write_record(folder, read_json(folder / "a.record.json") | changes)


def swap_offsets(table):
    table.loc[[0, 1], "offset"] = table.loc[[1, 0], "offset"].to_numpy()
    return table


def rewrite_tar(folder, members):
    """A tar of (TarInfo or name, bytes), vouched for by the record as if it were right."""
    path = folder / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    vouch(folder, sha256=sha256_of_file(path), bytes=path.stat().st_size)


def link(name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def test_a_sound_folder_has_no_findings(folder):
    report = check_folder(folder, decode=True)
    assert report.findings == [] and (report.slides, report.tiles) == (3, 8)
    assert report.bytes == sum(path.stat().st_size for path in folder.glob("*.tar"))
    assert check_folder(folder, Workers(2)).findings == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: flip(f / "a.tar", 600), ["a.tar: is not the file that its record vouches for (sha256 differs)"]),
        (lambda f: flip(f / "a.tar", 3), ["a.tar: is "]),
        (
            lambda f: flip(f / "a.tar", -5),
            ["a.tar: is not the file that its record vouches for", "a.tar: lacks the two blocks that end a tar"],
        ),
        (
            lambda f: (f / "a.tar").write_bytes((f / "a.tar").read_bytes()[:-9000]),
            ["a.tar: has 11,480 bytes, and its record says 20,480"],
        ),
        (lambda f: (f / "a.tar").unlink(), ["a.tar: is missing; build this slide again"]),
        (lambda f: (f / "a.index.parquet").unlink(), ["a.index.parquet: is missing; --repair mends it"]),
        (lambda f: (f / "a.index.parquet").write_bytes(b"PAR1"), ["a.index.parquet: is damaged"]),
        (
            lambda f: change_index(f, swap_offsets),
            ["a.index.parquet: has another offset than the tar for 2 tiles (a_x0_y0)"],
        ),
        (
            lambda f: change_index(f, lambda t: t.assign(crc32=t["crc32"] + [0, 1, 0])),
            ["a.index.parquet: has another crc32 than the tar for 1 tiles (a_x1_y2)"],
        ),
        (lambda f: change_index(f, lambda t: t.assign(x=t["x"] + 7)), ["a.index.parquet: has another x than"]),
        (lambda f: change_index(f, lambda t: t[:2]), ["a.index.parquet: lists 2 tiles that aren't the 3 of its tar"]),
        (lambda f: change_index(f, lambda t: t.replace("a_x0_y0", "z")), ["a.index.parquet: lists 3 tiles that"]),
        (lambda f: change_index(f, lambda t: t[::-1]), ["a.index.parquet: lists its tiles in another order"]),
        (lambda f: change_index(f, lambda t: t.drop(columns="y")), ["a.index.parquet: has columns"]),
        (lambda f: (f / "a.record.json").write_text("{"), ["a.record.json: is no JSON; delete it and build"]),
        (lambda f: change_record(f, version=9), ["a.record.json: is no record of version 1"]),
        (lambda f: change_record(f, slide="z"), ["a.record.json: says that it is of slide 'z'"]),
        (
            lambda f: change_record(f, tiles="3"),
            ["""a.record.json: has "3" as 'tiles', which must be a whole number"""],
        ),
        (
            lambda f: change_record(f, options={"tile_px": 24, "mpp": 1.0}),
            ["a.record.json: has options that their digest doesn't match"],
        ),
        (lambda f: change_record(f, status="no_tiles"), ["a.record.json: says no_tiles and 3 tiles"]),
        (lambda f: (f / "a.record.json").unlink(), ["a.index.parquet: has no record", "a.tar: has no record"]),
        (lambda f: shutil.copy(f / "a.tar", f / "new.tar"), ["new.tar: has no record; build this slide again, or"]),
        (lambda f: shutil.copy(f / "a.tar", f / "b.tar"), ["b.tar: belongs to a slide without tiles"]),
        (lambda f: (f / "dataset.json").unlink(), ["dataset.json: is missing, damaged or older than the records"]),
        (
            lambda f: write_json(f / "dataset.json", read_json(f / "dataset.json") | {"tiles": 9}),
            ["dataset.json: is missing, damaged or older"],
        ),
        (lambda f: (f / "slides.parquet").write_bytes(b"no"), ["slides.parquet: is missing, damaged or older"]),
    ],
)
def test_each_damage_is_reported_by_file(folder, damage, expected):
    damage(folder)
    about = ("dataset.json", "slides.parquet")
    found = findings(folder)
    if not expected[0].startswith(about):  # where a record is gone, the digest is stale too
        found = [text for text in found if not text.startswith(about)]
    assert found and all(any(text.startswith(start) for start in expected) for text in found)
    assert all(any(text.startswith(start) for text in found) for start in expected)


def test_what_killed_builds_leave_is_no_fault(folder):
    (folder / ".tmp-xyz").mkdir()
    report = check_folder(folder)
    assert report.findings == [] and report.leftovers == 1


def entries(folder):
    with tarfile.open(folder / "a.tar") as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: [("../a.jpg", b"x"), *e], "holds '../a.jpg', a name that leads out of a folder"),
        (lambda e: [("/etc/a.jpg", b"x"), *e], "holds '/etc/a.jpg', a name that leads out of a folder"),
        (lambda e: [(link("a.jpg"), b""), *e], "holds 'a.jpg', which is no plain file"),
        (lambda e: [("noextension", b""), *e], "holds 'noextension', which is no sample"),
        (lambda e: [*e[:-2], ("a_x2_y4.x.jpg", e[-2][1]), e[-1]], "has 0 images"),
        (lambda e: [*e, *e[:2]], "under the key 'a_x0_y0', and must have one"),
        (lambda e: [e[1], e[0], *e[2:]], "has not KEY.jpg and KEY.json in turn"),
        (lambda e: e[:4], "has 2 tiles, and its record says 3"),
        (lambda e: e[:-1], "has not KEY.jpg and KEY.json in turn (at a_x2_y4.jpg)"),
        (lambda e: [*e, ("a_x2_y4.pickle", b"x")], "has not KEY.jpg and KEY.json in turn (at a_x2_y4.pickle)"),
        (lambda e: [(n.replace("a_", "b_"), d) for n, d in e], "has a key 'b_x0_y0' that doesn't begin with its slide"),
        (lambda e: [e[0], ("a_x0_y0.json", e[1][1].replace(b"24", b"32")), *e[2:]], "with tile_px 32, not 24"),
        (lambda e: [e[0], ("a_x0_y0.json", e[1][1].replace(b"0.5", b"0.48")), *e[2:]], "with mpp 0.48, not 0.5"),
        (lambda e: [e[0], ("a_x0_y0.json", e[1][1].replace(b"0.5", b"null")), *e[2:]], "with mpp None, not 0.5"),
        (lambda e: [("a\udcff.jpg", b"x"), *e], "a name with control characters or not in UTF-8"),
        (lambda e: [("../a.jpg", b"x"), ("../b.jpg", b"x"), *e], "a name that leads out of a folder (and 1 more)"),
        (lambda e: [e[0], ("a_x0_y0.json", e[3][1]), *e[2:]], "has a description of 'a_x0_y0' with another position"),
        (lambda e: [e[0], ("a_x0_y0.json", b'{"slide": "c"}'), *e[2:]], "that is no JSON or of another slide"),
        (lambda e: [e[0], ("a_x0_y0.json", b"[" * 100_000), *e[2:]], "that is no JSON or of another slide"),
        (lambda e: [e[0], ("a_x0_y0.json", b" " * 2_000_000), *e[2:]], "too large for a sample"),
        (lambda e: [], "holds no sample"),
    ],
)  # fmt: skip
def test_tars_that_are_vouched_for_and_yet_wrong(folder, change, sentence):
    rewrite_tar(folder, change(entries(folder)))
    assert any(text.startswith("a.tar: ") and sentence in text for text in findings(folder)), findings(folder)


def test_images_are_decoded_on_request(folder):
    rewrite_tar(folder, [(name, b"no jpeg" if name == "a_x1_y2.jpg" else data) for name, data in entries(folder)])
    check_folder(folder, repair=True)
    assert findings(folder) == []
    assert ["holds 'a_x1_y2.jpg', which can't be decoded" in text for text in findings(folder, decode=True)] == [True]
    large = simplejpeg.encode_jpeg(np.zeros((32, 24, 3), np.uint8), 90, "RGB", "444")
    rewrite_tar(folder, [(name, large if name == "a_x1_y2.jpg" else data) for name, data in entries(folder)])
    assert any("which has 24 × 32 px, not 24" in text for text in findings(folder, decode=True))


@pytest.mark.parametrize("seed", range(60))
def test_no_flipped_byte_passes_unseen(folder, seed):
    """In a tar or an index every byte counts; in a record and the digest those that say something of the shard."""
    random = np.random.default_rng(seed)
    path = folder / ["a.tar", "c.tar", "c.index.parquet"][seed % 3]
    before = path.read_bytes()
    flip(path, int(random.integers(len(before))))
    found = findings(folder)
    if path.suffix == ".parquet" and not found:  # some bytes of a Parquet file are statistics and padding
        assert pd.read_parquet(path).equals(pd.read_parquet(io.BytesIO(before)))
    else:
        assert found and all(text.startswith(path.name) for text in found)


def test_repair_rebuilds_what_it_can_and_touches_no_tar(folder):
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    change_index(folder, swap_offsets)
    (folder / "c.index.parquet").unlink()
    (folder / "dataset.json").unlink()
    (folder / "slides.parquet").write_bytes(b"")
    assert findings(folder, repair=True) == [] == findings(folder)
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert again.keys() == sound.keys()
    assert {name: data for name, data in again.items() if not name.endswith(".parquet")} == {
        name: data for name, data in sound.items() if not name.endswith(".parquet")
    }
    assert len(open_dataset(folder).index("c")) == 5

    flip(folder / "a.tar", 700)
    (folder / "a.index.parquet").unlink()
    found = findings(folder, repair=True)
    problem = "is not the file that its record vouches for (sha256 differs)"
    assert found == [f"a.tar: {problem}; delete the record and build this slide again"]
    assert not (folder / "a.index.parquet").exists()


def test_slides_near_the_resolution_asked_for_are_not_resampled_and_say_their_own(folder):
    rewrite_tar(folder, [(name, data.replace(b"0.5", b"0.4942")) for name, data in entries(folder)])
    check_folder(folder, repair=True)
    assert findings(folder) == []


def test_names_that_sort_otherwise_with_a_suffix(folder):
    """`a-b.record.json` comes before `a.record.json`, and `a` before `a-b`."""
    with ShardWriter(folder, "a-b") as shard:
        shard.commit("no_tiles", {}, {}, OPTIONS, {})
    write_digest(folder)
    assert findings(folder) == []


def test_a_tar_with_another_behind_it(folder):
    whole = (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(whole + (folder / "c.tar").read_bytes())
    vouch(folder, sha256=sha256_of_file(folder / "a.tar"), bytes=(folder / "a.tar").stat().st_size)
    (found,) = [text for text in findings(folder) if text.startswith("a.")]
    at = max(n for n in range(0, len(whole), 512) if any(whole[n : n + 512])) + 512
    assert found.startswith(f"a.tar: has a damaged header, or a second tar joined to it, at byte {at:,}")


def test_a_disk_that_fails_spoils_the_check_of_one_file(folder):
    (folder / "a.tar").unlink()
    (folder / "a.tar").symlink_to("/proc/self/mem")  # a file that can be opened and not read
    (folder / "c.index.parquet").unlink()
    assert findings(folder) == [
        "a.tar: couldn't be checked (Input/output error); see to that and check again",
        "c.index.parquet: is missing; --repair mends it",
    ]


def test_a_broken_record_keeps_nothing_else_from_being_mended(folder):
    digest = (folder / "dataset.json").read_bytes()
    change_record(folder, version=9)
    (folder / "c.index.parquet").unlink()
    report = check_folder(folder, repair=True)
    assert [str(finding) for finding in report.findings] == [
        "a.record.json: is no record of version 1; delete it and build this slide again"
    ]
    assert [str(finding) for finding in report.mended] == ["c.index.parquet: is missing; mended"]
    assert (folder / "dataset.json").read_bytes() == digest
    (folder / "a.record.json").unlink()  # as it says
    assert [finding.file for finding in check_folder(folder, repair=True).mended] == ["dataset.json", "slides.parquet"]
    assert open_dataset(folder).slides["slide"].tolist() == ["b", "c"]


@pytest.mark.parametrize(
    "options",
    [{"tile_px": [24], "mpp": 0.5}, {"tile_px": 24}, {"tile_px": 24, "mpp": "0.5"}, {"tile_px": True, "mpp": None}],
)
def test_a_record_of_odd_options_that_vouches_for_them(folder, options):
    change_record(folder, options=options, options_digest=sha256_of(options))
    found = "a.record.json: doesn't say tile_px and mpp in its options; delete it and build this slide again"
    assert findings(folder) == [found]


def said(path):
    """What a file says of the shards: what follows from the source and the versions of programs is left out."""
    if path.suffix == ".parquet":
        return read_parquet(path).to_dict("list")
    value = read_json(path)
    return {name: value[name] for name in value if name not in ("source", "versions")}


@pytest.mark.parametrize("name", ["a.record.json", "b.record.json", "dataset.json", "slides.parquet"])
def test_no_flipped_byte_of_a_record_or_the_digest_passes_unseen(folder, name):
    random, path = np.random.default_rng(len(name)), folder / name
    before, sound, harmless = path.read_bytes(), said(path), 0
    for at in random.choice(len(before), 60, replace=False).tolist():
        flip(path, at)
        if not findings(folder):
            harmless += 1
            assert said(path) == sound, at
        path.write_bytes(before)
    assert harmless < 50 and findings(folder) == []


def test_tars_with_mad_headers_are_refused_and_nothing_else_happens(tmp_path):
    """A stranger's tar: sizes, types and names of members are changed, and their sums made to fit."""
    random, path, refused = np.random.default_rng(3), tmp_path / "x.tar", 0
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for n in range(6):
            info = tarfile.TarInfo(f"{'long' * 40}{n}.jpg" if n % 2 else f"é{n}.jpg")
            info.size, info.mtime = 700, 0.5
            tar.addfile(info, io.BytesIO(random.bytes(700)))
    sound = path.read_bytes()
    headers = [at for at in range(0, len(sound), 512) if sound[at + 257 : at + 262] == b"ustar"]
    assert len(headers) >= 12 and len(scan_tar(path).members) == 6 and scan_tar(path).problems == []
    for _ in range(300):
        data, at = bytearray(sound), int(random.choice(headers))
        field = random.choice([124, 156, 0, 512, 345])  # size, type, name, what follows, prefix
        data[at + field : at + field + 8] = [random.bytes(8), b"\xff" * 8, b"00000000", b"gLKxSV13"][random.integers(4)]
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        path.write_bytes(data)
        scan = scan_tar(path)
        assert scan.bytes == len(data) and scan.sha256 == hashlib.sha256(data).hexdigest()
        refused += bool(scan.problems)
    assert refused > 100


def test_a_size_that_leads_backwards_ends(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
        tar.addfile(tarfile.TarInfo("b.jpg"))
    data = bytearray(path.read_bytes())
    for size in (-512, -1024, -(2**40)):
        data[512 + 124 : 512 + 136] = b"\xff" + (size).to_bytes(11, "big", signed=True)
        data[512 + 148 : 512 + 156] = b" " * 8
        data[512 + 148 : 512 + 156] = b"%06o\0 " % sum(data[512:1024])
        path.write_bytes(data)
        assert len(scan_tar(path).problems) == 1


def test_a_large_tar_takes_little_memory(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for n in range(40):
            info = tarfile.TarInfo(f"{n}.jpg")
            info.size = 2_000_000
            tar.addfile(info, io.BytesIO(bytes(info.size)))
        for n in range(3000):
            info = tarfile.TarInfo(f"{n}.cls")
            tar.addfile(info)
    tracemalloc.start()
    scan = scan_tar(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scan.members) == 3040 and scan.bytes > 80e6 and peak < 10e6


def test_the_script_tells_and_mends(folder):
    def run(*arguments):
        return programs.run("rnagan", "check-shards", folder, *arguments)

    sound = run()
    assert sound.returncode == 0 and "3 slides, 8 tiles" in sound.stdout and "0 findings." in sound.stdout
    change_index(folder, swap_offsets)
    wrong = run("--processes", "2")
    assert wrong.returncode == 1 and "a.index.parquet: has another offset" in wrong.stderr
    mended = run("--repair")
    assert mended.returncode == 0 and "1 mended, 0 findings." in mended.stdout
    assert "a.index.parquet: has another offset than the tar for 2 tiles (a_x0_y0); mended" in mended.stdout
    assert run().returncode == 0
    assert "for --index" in run("--mpp", "0.5").stderr
