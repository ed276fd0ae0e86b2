from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rnagan.cohort.table import read_cohort
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.doctor import reading
from rnagan.doctor.findings import Section, Verdict
from rnagan.doctor.reading import check_reading, choose, decode_rate, loader_rate
from rnagan.training.tile_inputs import TileInputs

CONFIG = GANConfig(resolution=32, batch_size=8, tiles_per_slide=40)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SECONDS", 0.2)


def test_rates_of_reading_decoding_and_the_loader(make_shards: Callable) -> None:
    shards = make_shards({"a": 60, "b": 30, "c": 0}, 64)
    chosen = choose(shards, None, CONFIG)
    assert chosen.slides == ["a", "b"] and chosen.counts.tolist() == [40, 30]
    section = Section("Tiles")
    check_reading(section, shards, chosen, CONFIG)
    assert len(section.lines) == 4 and {line.verdict for line in section.lines} <= {Verdict.OK, Verdict.WARNING}
    figures = section.figures
    assert figures["tiles_in_use"] == 70 and figures["fits_in_memory"]
    per_tile = figures["read_bytes_per_second"] / figures["read_tiles_per_second"]
    sizes = np.concatenate([shards.locations(slide).size for slide in "ab"])
    assert sizes.min() <= per_tile <= sizes.max()
    assert loader_rate(figures) == figures["loader_images_per_second"] > 0
    assert decode_rate(figures) == max(figures["decode_images_per_second"].values()) > 0


def test_tiles_that_do_not_stay_in_memory_come_no_faster_than_the_storage() -> None:
    figures = {"loader_images_per_second": 9.0, "read_tiles_per_second": 5.0, "fits_in_memory": False}
    assert loader_rate(figures) == 5 and loader_rate(figures | {"fits_in_memory": True}) == 9
    assert loader_rate({}) is None and decode_rate({}) is None


def test_a_damaged_tar_is_a_problem(make_shards: Callable) -> None:
    shards = make_shards({"a": 30}, 32)
    tar = Path(shards.address) / "a.tar"
    data = bytearray(tar.read_bytes())
    for offset in shards.locations("a").offset:
        data[offset + 300] ^= 255
    tar.write_bytes(data)
    section = Section("Tiles")
    check_reading(section, shards, choose(shards, None, CONFIG), CONFIG)
    assert section.lines[-1].verdict == Verdict.PROBLEM and "a.tar" in section.lines[-1].text
    assert "rnagan check-shards" in section.lines[-1].advice


def test_a_remote_set_is_read_over_its_protocol(
    make_shards: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNAGAN_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    files.put(make_shards({"a": 30}, 32).address, "/doctor", recursive=True)
    shards = open_dataset("memory://doctor")
    section = Section("Tiles")
    check_reading(section, shards, choose(shards, None, CONFIG), CONFIG)
    assert {line.verdict for line in section.lines} == {Verdict.OK} and "over the network" in section.lines[1].text
    assert section.figures["share_in_memory_after_drop"] is None and section.figures["loader_images_per_second"] > 0


def test_a_cohort_chooses_its_training_slides(inputs: TileInputs) -> None:
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    training = set(cohort.loc[cohort["split"] == "train", "slide"])
    assert set(choose(shards, cohort, CONFIG).slides) == training
    assert len(choose(shards, None, CONFIG).slides) > len(training)
