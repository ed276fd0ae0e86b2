"""Attacks on a folder of shards: each is noticed, by opening, reading or a build, and the same build mends it."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions
from rnagan.data.build_profiles import build_profiles
from rnagan.data.index import DamagedShard, open_dataset
from rnagan.data.profile_shards import open_profile_set
from rnagan.data.verify import check_folder
from rnagan.io.files import read_json, write_json
from rnagan.slides.premade_tiles import pack_tiles
from tests import programs
from tests.data.profiles import make_expression, write

CONFIG = TilingConfig(tile_px=24)
NAMES = ("a", "b", "c")  # donors, each with three tiles; c looks like a, but for the pixels


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A table of ready-made tiles, and `sound`: the folder of an undisturbed build of it."""
    folder = tmp_path_factory.mktemp("built")
    random, rows = np.random.default_rng(0), []
    (folder / "tiles").mkdir()
    for donor in NAMES:
        for n in range(3):
            path = folder / "tiles" / f"{donor}{n}.png"
            Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
            rows.append({"path": path.name, "tissue": "lung", "donor": donor})
    pd.DataFrame(rows).to_csv(folder / "tiles" / "tiles.csv", index=False)
    build(folder, folder / "sound")
    return folder


@pytest.fixture
def folder(built, tmp_path):
    """A copy of the sound folder, to be damaged."""
    return shutil.copytree(built / "sound", tmp_path / "shards")


def build(built, out, **how):
    return pack_tiles(built / "tiles" / "tiles.csv", out, CONFIG, BuildOptions(**how))


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read_all(folder):
    """As training reads: open the set, and where each tile lies."""
    shards = open_dataset(folder)
    for slide in shards.slides["slide"]:
        shards.locations(slide)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path, **changes):
    write_json(path, read_json(path) | changes)


def flip_description(folder):
    tar = folder / "a.tar"
    flip(tar, tar.read_bytes().index(b'"source"') + 12)


def new_options_digest(path):
    from rnagan.io.files import sha256_of

    record = read_json(path)
    options = record["options"] | {"mpp": 0.25}
    edit(path, options=options, options_digest=sha256_of(options))


def strange_record(folder):
    """A record of a slide of another set, as it was written there."""
    from rnagan.data.manifest import write_record

    write_record(folder, read_json(folder / "a.record.json") | {"slide": "z"})


# name: damage; what reading says, None where it reads nothing of it; what the build says of its own accord
ATTACKS = {
    "index flipped": (
        lambda f: flip(f / "a.index.parquet", 100),
        "a.index.parquet is missing or damaged .it is not the file that its record vouches for.*rnagan build-tiles",
        "a.index.parquet is not the file",
    ),
    "index cut": (
        lambda f: cut(f / "a.index.parquet"),
        "a.index.parquet is missing or damaged",
        "a.index.parquet is not",
    ),
    "index lost": (
        lambda f: (f / "a.index.parquet").unlink(),
        "a.index.parquet is missing or damaged.*rnagan build-tiles",
        "a.index.parquet is missing",
    ),
    "index of another slide": (
        lambda f: shutil.copy(f / "c.index.parquet", f / "a.index.parquet"),
        "a.index.parquet is missing or damaged",
        "a.index.parquet is not the file",
    ),
    "tar cut": (lambda f: cut(f / "a.tar"), "a.tar is missing or truncated", "a.tar has .* bytes, and its record says"),
    "tar lost": (lambda f: (f / "a.tar").unlink(), "a.tar is missing or truncated", "a.tar is missing"),
    "record lost": (
        lambda f: (f / "a.record.json").unlink(),
        "a.record.json is missing, and dataset.json counts its slide; run rnagan build-tiles again",
        None,
    ),
    "record cut": (lambda f: cut(f / "a.record.json"), None, "a.record.json is not valid JSON"),
    "record flipped": (
        lambda f: flip(f / "a.record.json", (f / "a.record.json").read_bytes().index(b'"sha256": "') + 20),
        None,
        "a.record.json was changed after it was written",
    ),
    "record edited": (lambda f: edit(f / "a.record.json", tiles=4), None, "a.record.json was changed after"),
    "record of another set": (lambda f: new_options_digest(f / "a.record.json"), None, "a.record.json was changed"),
    "record without its sums": (
        lambda f: write_json(
            f / "a.record.json", {k: v for k, v in read_json(f / "a.record.json").items() if k != "sum"}
        ),
        None,
        "a.record.json was changed after",
    ),
    "record of another slide": (
        lambda f: shutil.copy(f / "c.record.json", f / "a.record.json"),
        None,
        "a.record.json says that it is of slide 'c'",
    ),
    "dataset.json lost": (
        lambda f: (f / "dataset.json").unlink(),
        "no dataset.json.; make one with rnagan build",
        None,
    ),
    "dataset.json cut": (lambda f: cut(f / "dataset.json"), "dataset.json is not valid JSON.*rnagan build-tiles", None),
    "dataset.json with another mpp": (
        lambda f: edit(f / "dataset.json", mpp=0.5),
        "dataset.json was changed after it was written .its sum differs.; run rnagan build-tiles again",
        None,
    ),
    "dataset.json with another digest": (
        lambda f: edit(f / "dataset.json", digest="0" * 64),
        "dataset.json was changed after it was written",
        None,
    ),
    "dataset.json without sums": (
        lambda f: write_json(
            f / "dataset.json", {k: v for k, v in read_json(f / "dataset.json").items() if k not in ("sum", "sums")}
        ),
        "dataset.json was changed after it was written",
        None,
    ),
    "slides.parquet of other counts": (
        lambda f: (
            pd.read_parquet(f / "slides.parquet").assign(tiles=[4, 2, 3]).to_parquet(f / "slides.parquet", index=False)
        ),
        "slides.parquet is not the table that dataset.json was written with",
        None,
    ),
    "slides.parquet lost": (lambda f: (f / "slides.parquet").unlink(), "slides.parquet is missing or damaged", None),
}


@pytest.mark.attack(kind=4, ends="unharmed")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_damaged_file_is_named_and_the_same_build_mends_it(built, folder, attack):
    damage, read, rebuilt = ATTACKS[attack]
    damage(folder)
    if read is None:  # a record is read by builds and checks alone: the set still is what its digest says
        read_all(folder)
    else:
        with pytest.raises((DamagedShard, ValueError, FileNotFoundError), match=read):
            read_all(folder)
    assert check_folder(folder).findings
    summary = build(built, folder)
    problems = [problem for problem in summary.damaged.values()]
    if rebuilt is not None:
        assert len(problems) == 1 and re.match(rebuilt, problems[0]), problems
    assert not summary.failures and summary.made == (rebuilt is not None or "record lost" in attack)
    assert files(folder) == files(built / "sound")
    read_all(folder)


@pytest.mark.attack(kind=4, ends="unharmed")
@pytest.mark.parametrize(
    "damage",
    [
        flip_description,
        lambda f: flip(f / "a.tar", 700),
        lambda f: (f / "a.tar").write_bytes((f / "c.tar").read_bytes()),
    ],
    ids=["a KEY.json flipped", "an image flipped", "the tar of another slide"],
)
def test_damage_inside_a_tar_is_found_by_verify(built, folder, damage):
    """Its size is right, and only reading it says more: that is what --verify does."""
    damage(folder)
    assert build(built, folder).made == 0
    summary = build(built, folder, verify=True)
    assert list(summary.damaged) == ["a"] and "a.tar is not the file that its record" in summary.damaged["a"]
    assert summary.made == 1 and files(folder) == files(built / "sound")
    assert build(built, folder, verify=True).damaged == {}


def test_the_command_says_what_was_damaged_and_verifies(built, folder):
    flip(folder / "b.index.parquet", 60)
    flip_description(folder)
    tiles = ("--tiles", built / "tiles" / "tiles.csv", "--out", folder, "--tile-px", "24")
    quick = programs.run("rnagan", "build-tiles", *tiles, "--processes", "1")
    assert quick.returncode == 0 and "Warning: b.index.parquet is not the file that its record" in quick.stderr
    assert "b was made again." in quick.stderr and "1 made, 2 up to date" in quick.stdout
    whole = programs.run("rnagan", "build-tiles", *tiles, "--verify", "--processes", "1")
    assert whole.returncode == 0 and "Warning: a.tar is not the file" in whole.stderr
    assert files(folder) == files(built / "sound")


@pytest.mark.attack(kind=4)
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "z.record.json").write_text("{"), "z.record.json is not valid JSON .*; delete it, or give its"),
        (lambda f: shutil.copy(f / "a.record.json", f / "z.record.json"), "z.record.json says that it is of slide 'a'"),
    ],
)
def test_a_broken_record_of_a_slide_that_is_not_built_is_refused(built, folder, damage, sentence):
    damage(folder)
    with pytest.raises(DamagedShard, match=r"dataset.json doesn't count z.record.json: a build goes on or was stopped"):
        open_dataset(folder)
    with pytest.raises(ValueError, match=sentence):
        build(built, folder)


@pytest.mark.attack(kind=4)
def test_a_slide_that_is_not_built_now_and_lost_its_files_fails(built, folder):
    strange_record(folder)
    with pytest.raises(DamagedShard, match=r"doesn't count z.record.json"):
        open_dataset(folder)
    summary = build(built, folder)
    assert summary.failures["z"].sentence == f"{folder}/z.tar is missing; give its slide too, to make it again."


@pytest.mark.attack(kind=4)
def test_a_record_that_went_from_a_set_is_missed_by_a_build_of_other_slides(built, folder):
    table = pd.read_csv(built / "tiles" / "tiles.csv")
    fewer = built / "tiles" / "fewer.csv"
    table[table["donor"] != "a"].to_csv(fewer, index=False)
    (folder / "a.record.json").unlink()
    summary = pack_tiles(fewer, folder, CONFIG, BuildOptions())
    assert summary.failures["a"].sentence.startswith(f"{folder}/a.record.json is missing, and dataset.json counts it;")


@pytest.mark.attack(kind=4, ends="unharmed")
def test_a_damaged_record_of_another_part_is_left_to_that_part(built, folder):
    cut(folder / "a.record.json")
    for part in ((2, 2), (1, 2)):
        assert build(built, folder, part=part).failures == {}
    assert files(folder) == files(built / "sound")


@pytest.mark.attack(kind=4)
@pytest.mark.parametrize(
    "attack", ["index lost", "index of another slide", "record lost", "dataset.json with another mpp"]
)
def test_sets_of_earlier_versions_are_checked_by_what_they_have(built, folder, attack):
    """Their records hold no sum: rows of another slide, counts, sizes and the digest are looked at."""
    for path in folder.glob("*.record.json"):
        record = read_json(path)
        write_json(path, {name: value for name, value in record.items() if name not in ("sum", "index_sha256")})
    slides = pd.read_parquet(folder / "slides.parquet").drop(columns="index_sha256")
    slides.to_parquet(folder / "slides.parquet", index=False)
    dataset = read_json(folder / "dataset.json")
    write_json(folder / "dataset.json", {name: dataset[name] for name in dataset if name not in ("sum", "sums")})
    read_all(folder)
    assert check_folder(folder).findings == []
    before = files(folder)
    assert build(built, folder).made == 0 and files(folder).keys() == before.keys()
    ATTACKS[attack][0](folder)
    if attack != "index of another slide":  # there each of its tiles fails by its own sum
        with pytest.raises((DamagedShard, ValueError)):
            read_all(folder)
    summary = build(built, folder)
    assert summary.made == (0 if "dataset" in attack else 1)
    assert json.loads(files(folder)["dataset.json"])["digest"] == dataset["digest"]


# name: damage of a set of profiles; what opening and reading says
PROFILE_ATTACKS = {
    "index flipped": (
        lambda f: flip(f / "profiles-00000.index.parquet", 90),
        "profiles-00000.index.parquet is missing or",
    ),
    "index of another": (
        lambda f: shutil.copy(f / "profiles-00001.index.parquet", f / "profiles-00000.index.parquet"),
        "profiles-00000.index.parquet is missing or damaged",
    ),
    "record lost": (lambda f: (f / "profiles-00000.record.json").unlink(), "profiles-00000.record.json is missing"),
    "record flipped": (lambda f: flip(f / "profiles-00000.record.json", 300), None),
    "record cut": (lambda f: cut(f / "profiles-00002.record.json"), None),
    "dataset.json edited": (
        lambda f: edit(f / "dataset.json", units="counts"),
        "dataset.json was changed after it was",
    ),
    "samples renamed": (
        lambda f: (
            pd.read_parquet(f / "samples.parquet")
            .assign(sample=lambda t: t["sample"] + "x")
            .to_parquet(f / "samples.parquet", index=False)
        ),
        "samples.parquet is not that of these shards",
    ),
}


@pytest.mark.attack(kind=4, ends="unharmed")
@pytest.mark.parametrize("attack", PROFILE_ATTACKS)
def test_damaged_profile_shards_are_named_and_made_again(tmp_path, attack):
    damage, sentence = PROFILE_ATTACKS[attack]
    expression, out = write(tmp_path, "e.h5ad", make_expression(20)), tmp_path / "profiles"
    build_profiles(expression, out, 8)
    sound = files(out)
    damage(out)
    if sentence is not None:
        with pytest.raises(ValueError, match=sentence):
            profiles = open_profile_set(out)
            for name in profiles.shard_names:
                profiles.locations(name)
    build_profiles(expression, out, 8)
    assert files(out) == sound


@pytest.mark.attack(kind=4)
def test_profiles_of_a_lost_record_are_never_overwritten_by_others(tmp_path):
    """Its name would be the next free one."""
    out = tmp_path / "profiles"
    build_profiles(write(tmp_path, "e.h5ad", make_expression(8)), out, 8)
    second = write(tmp_path, "f.h5ad", make_expression(8, first=20))
    build_profiles(second, out, 8)
    sound, record = files(out), out / "profiles-00001.record.json"
    other = write(tmp_path, "g.h5ad", make_expression(8, first=40))
    cut(record)
    with pytest.raises(ValueError, match=r"profiles-00001.record.json is not .*; start with the .h5ad that its shard"):
        build_profiles(other, out, 8)
    record.unlink()
    said = build_profiles(other, out, 8)
    assert "Warning: profiles-00001.record.json is missing, and dataset.json counts it: its profiles are" in said[1]
    assert (out / "profiles-00001.tar").read_bytes() == sound["profiles-00001.tar"]
    assert open_profile_set(out).shard_names == ["profiles-00000", "profiles-00002"]
    build_profiles(second, out, 8)
    assert len(open_profile_set(out).samples) == 24
