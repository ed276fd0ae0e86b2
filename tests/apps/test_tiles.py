"""Tiles as they are served say nothing but their pixels; sources that are wrong are named."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnagan.apps.tell_tales import NOTHING, measure_tile, tell_tale
from rnagan.apps.tile_images import encode_alike
from rnagan.apps.tile_set import open_tile_set, write_tile_set
from rnagan.apps.tile_sources import Wanted, check_fair, choose_tiles, curated_tiles, parse_source, rule_of
from rnagan.io.files import read_json, write_json
from rnagan.io.images import save_png
from tests.apps.made_study import SIDE, chosen_tiles, make_tiles, pixels, write_images


def chunks(data: bytes) -> list[bytes]:
    found, place = [], 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        found.append(data[place + 4 : place + 8])
        place += 12 + length
    return found


@pytest.mark.attack(kind=10, ends="unharmed")
def test_length_and_parts_of_a_png_do_not_say_what_it_is() -> None:
    real, smooth = pixels("real", 0), pixels("GAN", 0)
    plain = []
    for tile in (real, smooth):
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "PNG")
        plain.append(len(buffer.getvalue()))
    assert plain[0] > 1.5 * plain[1]  # without padding the length gives it away
    served = encode_alike([real, smooth])
    assert len(served[0]) == len(served[1])
    assert {tuple(dict.fromkeys(chunks(data))) for data in served} == {(b"IHDR", b"IDAT", b"zpAd", b"IEND")}
    for tile, data in zip((real, smooth), served, strict=True):
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image), tile) and not image.info


@pytest.mark.attack(kind=10, ends="unharmed")
def test_the_texts_of_a_generated_png_are_not_served(tmp_path: Path) -> None:
    for k in range(3):
        save_png(tmp_path / f"g/lung/{k}.png", pixels("GAN", k), {"Synthetic": "true", "rnagan:profile": "D1"})
        save_png(tmp_path / f"r/lung/{k}.png", pixels("real", k))
    sources = [("GAN", str(tmp_path / "g")), ("real", str(tmp_path / "r"))]
    write_tile_set(tmp_path / "out", choose_tiles(sources, Wanted(3, SIDE)), [""] * 6, "", "")
    for tile in open_tile_set(tmp_path / "out").tiles.values():
        assert b"Synthetic" not in tile.png and b"D1" not in tile.png


def test_the_draw_is_a_function_of_the_seed(tmp_path: Path) -> None:
    write_images(tmp_path, each=6)
    sources = [(name, str(tmp_path / name)) for name in ("real", "GAN")]
    first, again, other = ([tile.origin for tile in choose_tiles(sources, Wanted(2, SIDE, seed))] for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 8 and "seed 1" in rule_of(Wanted(2, SIDE, 1), None)


def test_names_and_order_of_a_set_are_random(tmp_path: Path) -> None:
    one, other = make_tiles(tmp_path / "a"), make_tiles(tmp_path / "b")
    assert not one.tiles.keys() & other.tiles.keys()
    assert [tile.source for tile in one.tiles.values()] != sorted(tile.source for tile in one.tiles.values())
    assert one.tissues == ["brain cortex", "lung"]


@pytest.mark.attack(kind=3)
def test_a_changed_set_is_refused(tmp_path: Path) -> None:
    tiles = make_tiles(tmp_path)
    with pytest.raises(ValueError, match="other sources or settings"):
        open_tile_set(tmp_path, "another request")
    name = next(iter(tiles.tiles))
    (tmp_path / f"tiles/{name}.png").write_bytes(b"other")
    with pytest.raises(ValueError, match=f"{name}.png is missing or was changed"):
        open_tile_set(tmp_path)
    record = read_json(tmp_path / "tiles.json")
    record["tiles"][0]["id"] = "../../etc/passwd"
    write_json(tmp_path / "tiles.json", record)
    with pytest.raises(ValueError, match="which is none"):
        open_tile_set(tmp_path)


@pytest.mark.attack(kind=5)
def test_no_path_leads_out_of_a_folder_or_table(tmp_path: Path) -> None:
    save_png(tmp_path / "secret.png", pixels("real", 0))
    save_png(tmp_path / "folder/lung/a.png", pixels("real", 1))
    (tmp_path / "folder/lung/link.png").symlink_to(tmp_path / "secret.png")
    found = choose_tiles([("real", str(tmp_path / "folder"))], Wanted(1, SIDE))
    assert [Path(tile.origin).name for tile in found] == ["a.png"]
    (tmp_path / "folder/t.csv").write_text("path,source,tissue\n../secret.png,real,lung\n")
    with pytest.raises(ValueError, match="line 2: path '../secret.png' leads out"):
        curated_tiles(tmp_path / "folder/t.csv", SIDE)


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("given", "said"), [("tiles", "NAME=PATH"), ("=x", "NAME=PATH"), ("real=", "NAME=PATH"), ("n" * 99 + "=x", "99")]
)
def test_a_source_that_is_none_is_named(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_source(given)


def test_too_few_tiles_and_sources_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path)
    with pytest.raises(ValueError, match="real has 3 tiles of brain cortex, and 9 are asked for"):
        choose_tiles([("real", str(tmp_path / "real"))], Wanted(9, SIDE))
    with pytest.raises(ValueError, match="smaller than the 64 px"):
        choose_tiles([("real", str(tmp_path / "real"))], Wanted(3, 64))
    with pytest.raises(ValueError, match="of one source"):
        check_fair(chosen_tiles(sources=("real",)))


def test_a_curated_choice_is_what_its_table_says(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "t.csv").write_text(
        "path,source,tissue\nreal/lung/donor_real_0.png,real,lung\nGAN/lung/donor_GAN_2.png,GAN,lung\n"
    )
    found = curated_tiles(tmp_path / "t.csv", SIDE)
    assert [(tile.source, tile.tissue) for tile in found] == [("real", "lung"), ("GAN", "lung")]
    assert "curated" in rule_of(Wanted(3, SIDE), tmp_path / "t.csv")


def test_the_tell_tale_is_the_measure_that_is_farthest_off() -> None:
    random = np.random.default_rng(0)
    real = [np.clip(random.normal(150, 30, (32, 32, 3)), 0, 255).astype(np.uint8) for _ in range(8)]
    measured = [measure_tile(tile) for tile in real]
    board = 40 * (-1.0) ** np.add.outer(np.arange(32), np.arange(32))[..., None]
    checkered = np.clip(real[0] + board, 0, 255).astype(np.uint8)
    assert tell_tale(measure_tile(checkered), measured) == (
        "A checkerboard pattern is stronger than in 100% of the real tiles here."
    )
    blurred = np.full((32, 32, 3), 150, np.uint8) + random.integers(0, 2, (32, 32, 3), dtype=np.uint8)
    assert "weaker" in tell_tale(measure_tile(blurred), measured)
    assert tell_tale(measured[0], measured) == NOTHING
    assert tell_tale(measured[0], measured[:3]) == ""
