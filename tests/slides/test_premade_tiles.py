import numpy as np
import pandas as pd
import pytest
import webdataset as wds
from PIL import Image

from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions
from rnagan.data.index import open_dataset
from rnagan.data.reader import TileReader
from rnagan.runtime.workers import Workers
from rnagan.slides.premade_tiles import load_tile, pack_tiles
from tests import programs

CONFIG = TilingConfig(tile_px=32)


@pytest.fixture
def table(tmp_path):
    """Three donors; image k of the folder has the grey value 20·k, and is 96 × 64 px."""
    rows = []
    for number, donor in enumerate(["d.1"] * 4 + ["d2"] * 3 + ["d3"]):
        path = tmp_path / "tiles" / donor / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 64), (20 * number,) * 3).save(path)
        rows.append({"path": f"{donor}/{number}.png", "tissue": "lung", "source": donor})
    pd.DataFrame(rows).to_csv(tmp_path / "tiles" / "tiles.csv", index=False)
    return tmp_path / "tiles" / "tiles.csv"


def pack(table, out, **options):
    return pack_tiles(table, out, CONFIG, donor_column="source", **options)


def test_one_shard_a_donor_with_its_images(table, tmp_path):
    summary = pack(table, tmp_path / "out")
    assert (summary.made, summary.tiles, summary.failures) == (3, 8, {})
    shards = open_dataset(tmp_path / "out")
    assert (shards.tile_px, shards.mpp) == (32, None)
    assert dict(zip(shards.slides["slide"], shards.slides["tiles"], strict=True)) == {"d2": 3, "d3": 1, "d_1": 4}
    seen = {}
    for sample in wds.WebDataset(f"file:{tmp_path}/out/d_1.tar", shardshuffle=False).decode("rgb8"):
        assert sample["jpg"].shape == (32, 32, 3)
        assert (sample["json"]["slide"], sample["json"]["mpp"], sample["json"]["x"]) == ("d_1", None, None)
        seen[sample["json"]["source"]] = int(sample["jpg"].mean().round())
    assert seen == {f"d.1/{n}.png": pytest.approx(20 * n, abs=1) for n in range(4)}
    assert shards.index("d_1")["x"].eq(-1).all()
    assert sorted(path.suffix for path in table.parent.rglob("*.*") if path.is_file()) == [".csv"] + [".png"] * 8


@pytest.mark.slow
@pytest.mark.guard
def test_done_donors_are_kept_and_changed_ones_made_again(table, tmp_path):
    pack(table, tmp_path / "out")
    assert pack(table, tmp_path / "out").made == 0
    Image.new("RGB", (64, 64), (9, 9, 9)).save(table.parent / "d2" / "5.png")
    assert pack(table, tmp_path / "out").made == 1
    other = pack(table, tmp_path / "two", how=BuildOptions(Workers(2)))
    assert other.made == 3
    assert open_dataset(tmp_path / "out").digest == open_dataset(tmp_path / "two").digest
    with pytest.raises(ValueError, match="already holds tiles of 32 px at unknown µm .d2, ….; choose another --out"):
        pack(table, tmp_path / "out", mpp=0.5)


@pytest.mark.parametrize(("flags", "mpp"), [([], 2.0), (["--mpp", "1"], 1.0)])
def test_script_takes_mpp_from_config_and_flags(table, tmp_path, flags, mpp):
    config = tmp_path / "tiles.yaml"
    config.write_text("tile_px: 32\nmpp: 2\n")
    command = ("rnagan", "build-tiles", "--tiles", table, "--donor-column", "source", "--out", tmp_path / "out")
    programs.run(*command, "--processes", 1, "--config", config, *flags).check()
    assert open_dataset(tmp_path / "out").mpp == mpp


def test_unreadable_images_are_named_and_their_donor_fails(table, tmp_path):
    (table.parent / "d2" / "4.png").write_bytes(b"no image")
    whole = (table.parent / "d2" / "5.png").read_bytes()
    (table.parent / "d2" / "5.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (20, 90)).save(table.parent / "d3" / "7.png")
    command = ("rnagan", "build-tiles", "--tiles", table, "--donor-column", "source", "--tile-px", 32)
    result = programs.run(*command, "--processes", 1, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "d2 failed: 2 of 3 images can't be used" in result.stderr
    assert "4.png is no readable image" in result.stderr and "5.png is no readable image" in result.stderr
    assert "7.png is 20×90 px, smaller than the 32 px asked for" in result.stderr
    assert open_dataset(tmp_path / "out").slides["slide"].tolist() == ["d_1"]


def test_reduction_is_antialiased_and_centred(tmp_path):
    stripes = np.zeros((128, 192, 3), np.uint8)
    stripes[:, 32:160:2] = 255  # inside the centred square: white and black by turns
    stripes[:, :32] = (255, 0, 0)
    Image.fromarray(stripes).save(tmp_path / "a.png")
    tile = load_tile(tmp_path / "a.png", 32)
    assert np.abs(tile[:, 4:28].astype(int) - 127).max() < 12  # picking pixels would give 0 or 255
    assert np.ptp(tile[:, 4:28].mean(axis=2)) < 20


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.replace({"path": {"d2/4.png": "../outside.png"}}), "line 6: path '../outside.png' leads out"),
        (lambda t: t.replace({"path": {"d2/4.png": "/etc/passwd"}}), "line 6: path '/etc/passwd' leads out"),
        (lambda t: t.drop(columns="source"), "has no column source; it has path, tissue"),
        (lambda t: t.assign(path="d2/4.png"), "names images twice"),
        (lambda t: t.assign(tissue=["lung", "colon"] * 4), "donors with tiles of several tissues"),
        (lambda t: t.replace({"source": {"d2": "d_1"}}), "would both become shard d_1"),
        (lambda t: t.replace({"source": {"d2": "../d2"}}), "can't name a shard"),
        (lambda t: t[:0], "names no image"),
    ],
)
def test_bad_tables(table, tmp_path, change, sentence):
    change(pd.read_csv(table)).to_csv(table, index=False)
    with pytest.raises(ValueError, match=sentence):
        pack(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def spots_of(table, change=lambda rows: rows):
    """The same images as spots: two sections of one donor, and one of another; a name for each."""
    rows = pd.read_csv(table).assign(section=["A1"] * 3 + ["A2"] + ["B1"] * 4, source=["A"] * 4 + ["B"] * 4)
    change(rows.assign(spot=[f"spot{n}" for n in range(8)])).to_csv(table, index=False)
    return table


def pack_spots(table, out, **options):
    return pack(table, out, section_column="section", profile_column="spot", **options)


def test_a_shard_a_section_whose_tiles_name_their_profiles(table, tmp_path):
    pack_spots(spots_of(table), tmp_path / "out")
    shards = open_dataset(tmp_path / "out")
    assert dict(zip(shards.slides["slide"], shards.slides["tiles"], strict=True)) == {"A1": 3, "A2": 1, "B1": 4}
    for slide in shards.slides["slide"]:
        named = shards.index(slide)["profile"].tolist()
        samples = wds.WebDataset(f"file:{tmp_path}/out/{slide}.tar", shardshuffle=False).decode("rgb8")
        for profile, sample in zip(named, samples, strict=True):  # spot k is image k, of the grey value 20 k
            assert sample["json"]["profile"] == profile and sample["json"]["source"].endswith(f"/{profile[4:]}.png")
            assert round(sample["jpg"].mean() * (1 if sample["jpg"].dtype == np.uint8 else 255) / 20) == int(
                profile[4:]
            )
    assert pack_spots(table, tmp_path / "out").made == 0
    renamed = pd.read_csv(table)
    renamed.loc[3, "spot"] = "other"
    renamed.to_csv(table, index=False)
    assert (
        pack_spots(table, tmp_path / "out").made == 1
        and open_dataset(tmp_path / "out").profiles.frame()["profile"][3] == "other"
    )
    with pytest.raises(ValueError, match="already holds tiles of 32 px at unknown µm, each with its profile"):
        pack(table, tmp_path / "out", section_column="section")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("spot", "", "line 4: the column spot names no profile"),
        ("spot", "spot7", "1 profiles are in several shards .spot7 in A1, B1.*SECTION_SPOT"),
        ("tissue", "colon", "has sections with tiles of several tissues .A1"),
    ],
)
def test_spots_that_cannot_be_joined_are_refused(table, tmp_path, column, value, said):
    def change(rows):
        rows.loc[2, column] = value
        return rows

    with pytest.raises(ValueError, match=said):
        pack_spots(spots_of(table, change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_centred_square_of_an_image(table, tmp_path):
    path = tmp_path / "edged.png"
    picture = Image.new("RGB", (96, 64), (0, 0, 0))
    picture.paste((200, 200, 200), (28, 12, 68, 52))  # 40 px about the middle
    picture.save(path)
    assert load_tile(path, 32, 40).min() == 200 and load_tile(path, 32).min() < 10
    with pytest.raises(ValueError, match="smaller than the 80 px asked for"):
        load_tile(path, 32, 80)
    with pytest.raises(ValueError, match="--crop-px 16 is smaller than tile_px 32"):
        pack(table, tmp_path / "out", crop_px=16)


def test_a_margin_lies_around_the_crop_in_which_training_shifts_the_tile(table, tmp_path):
    draw = np.random.default_rng(3)
    for path in pd.read_csv(table)["path"]:
        Image.fromarray(draw.integers(0, 255, (64, 64, 3), np.uint8)).save(table.parent / path)
    pack(table, tmp_path / "without", crop_px=32)
    pack(table, tmp_path / "with", crop_px=32, margin_px=8)
    plain, wide = open_dataset(tmp_path / "without"), open_dataset(tmp_path / "with")
    assert (wide.tile_px, wide.margin_px, plain.margin_px) == (32, 8, 0)
    stored = wds.WebDataset(f"file:{tmp_path}/with/d2.tar", shardshuffle=False).decode("rgb8")
    assert all(sample["jpg"].shape == (48, 48, 3) and sample["json"]["margin_px"] == 8 for sample in stored)
    one, other = (TileReader(shards, ["d2"]) for shards in (plain, wide))
    tiles = np.empty((2, 32, 32, 3), np.uint8)
    one.decode(0, 0, tiles[0])
    other.decode(0, 0, tiles[1])
    assert np.abs(tiles[0].astype(int) - tiles[1]).mean() < 25  # noise, compressed twice
    assert np.corrcoef(tiles[0].ravel(), tiles[1].ravel())[0, 1] > 0.9
    with pytest.raises(ValueError, match="--margin-px needs --crop-px"):
        pack(table, tmp_path / "out", margin_px=8)
    failed = pack(table, tmp_path / "out", crop_px=64, margin_px=8).failures
    assert len(failed) == 3 and "is 64×64 px, smaller than the 96 px asked for" in str(failed["d2"])
