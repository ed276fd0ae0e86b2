"""What a run reads: chosen slides, weighted tissues, damaged tiles, shards at a URL."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.loader import Batch
from rnagan.io.files import read_json, sha256_of_file
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import read_metrics
from rnagan.training.gan.step import StepRecord
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.tile_trainer import TileTrainer
from tests.data.servers import WebServer

pytestmark = pytest.mark.usefixtures("no_mlflow")


def weights(run: Path) -> dict[str, str]:
    newest = latest_checkpoint(run)
    assert newest is not None
    return {path.name: sha256_of_file(path) for path in newest.glob("*.safetensors")}


@pytest.fixture
def own_shards(inputs: TileInputs, tmp_path: Path) -> TileInputs:
    """The toy cohort with shards that a test may spoil."""
    return dataclasses.replace(inputs, shards=shutil.copytree(inputs.shards, tmp_path / "shards"))


def damage(inputs: TileInputs, slide: str, tile: int) -> None:
    shards = open_dataset(inputs.shards)
    row, tar = shards.index(slide).iloc[tile], Path(shards.tar_address(slide))
    data = bytearray(tar.read_bytes())
    data[row["offset"] + row["size"] // 2] ^= 1
    tar.write_bytes(data)


def test_slides_are_chosen_by_a_column(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train_gan(small.replace(images=16, where="tissue=lung;site=site0"), inputs, tmp_path)
    assert read_json(tmp_path / "model/model.json")["tissues"] == ["lung"]
    said = capsys.readouterr().out
    assert "of 3 training slides (3 lung)." in said
    assert "Left out 7 slides that the selection doesn't want: D0-cortex-slide" in said
    with pytest.raises(ValueError, match=r"holds a run with other settings \(where tissue=lung;site=site0 → \)"):
        train_gan(small.replace(images=24), inputs, tmp_path)


def test_a_tissue_of_weight_zero_is_not_the_models(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train_gan(small.replace(images=16, tissue_weights="lung=1,cortex=0"), inputs, tmp_path)
    assert read_json(tmp_path / "model/model.json")["tissues"] == ["lung"]
    assert "of 5 training slides (5 lung)." in capsys.readouterr().out


def test_a_run_goes_on_with_the_weights_it_was_started_with(
    small: GANConfig, inputs: TileInputs, tmp_path: Path
) -> None:
    table = tmp_path / "weights.csv"
    table.write_text("tissue,weight\nlung,2\ncortex,1\n")
    config = small.replace(images=16, tissue_weights=str(table))
    train_gan(config, inputs, tmp_path / "run")
    pd.DataFrame({"tissue": ["lung", "cortex"], "weight": [3, 1]}).to_csv(table, index=False)
    with pytest.raises(ValueError, match="was started with another tissue weights; choose another --out"):
        train_gan(config.replace(images=24), inputs, tmp_path / "run")


def test_a_damaged_tile_stops_a_run_or_is_replaced_and_listed(
    small: GANConfig, own_shards: TileInputs, tmp_path: Path
) -> None:
    damage(own_shards, "D1-lung-slide", 1)
    with pytest.raises(ValueError, match=r"D1-lung-slide\.tar is damaged at tile 1"):
        train_gan(small, own_shards, tmp_path / "run")
    too_many = small.replace(on_corrupt="skip")  # one of 39 tiles
    with pytest.raises(ValueError, match=r"1 of 39 tiles are damaged .* more than the share of 0\.001"):
        train_gan(too_many, own_shards, tmp_path / "run")
    train_gan(too_many.replace(max_corrupt=0.03), own_shards, tmp_path / "run")
    lines = (tmp_path / "run/corrupt_tiles.0.jsonl").read_text().splitlines()
    assert 2 <= len(lines) <= 3  # 96 images are two epochs and a half
    listed = [json.loads(line) for line in lines]
    assert {(one["slide"], one["tile"]) for one in listed} == {("D1-lung-slide", 1)}
    assert len({one["number"] for one in listed}) == len(lines)
    assert read_metrics(tmp_path / "run")[-1]["corrupt_tiles"] == len(lines)


def test_a_tissue_of_weight_zero_stands_in_for_nothing(
    small: GANConfig, own_shards: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(own_shards.shards) / "D1-cortex-slide.tar").unlink()  # the next one by name is of lung
    tissues, one_step = set(), TileTrainer._one_step

    def seen(trainer: TileTrainer, batch: Batch) -> StepRecord:
        tissues.update(trainer.data.selection.table["tissue"].iloc[batch.slides.tolist()])
        return one_step(trainer, batch)

    monkeypatch.setattr(TileTrainer, "_one_step", seen)
    config = small.replace(images=48, tissue_weights="cortex=1,lung=0", on_corrupt="skip", max_corrupt=1.0)
    train_gan(config, own_shards, tmp_path / "run")
    assert (tmp_path / "run/corrupt_tiles.0.jsonl").read_text().count("D1-cortex-slide") > 1
    assert tissues == {"cortex"}


@pytest.fixture
def server(inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("RNAGAN_CACHE", str(tmp_path / "cache"))
    server = WebServer(Path(inputs.shards))
    yield server
    server.close()


def test_shards_at_a_url_train_to_the_same_bits(
    small: GANConfig, inputs: TileInputs, trained: Path, server: WebServer, tmp_path: Path
) -> None:
    server.fail("500", "cut")
    remote = dataclasses.replace(inputs, shards=server.url)
    train_gan(small.replace(prefetch_batches=4), remote, tmp_path / "run")
    assert weights(tmp_path / "run") == weights(trained)
    tars = [request.path for request in server.requests if request.path.endswith(".tar") and request.method == "GET"]
    assert 0 < len(tars) == len(set(tars)) <= 10  # small ones: a block each
    before = len(server.requests)
    train_gan(small.replace(images=104), remote, tmp_path / "run")
    assert {request.path.rpartition("/")[2] for request in server.requests[before:]} <= {
        "dataset.json",
        "slides.parquet",
    }
    assert any((tmp_path / "cache").rglob("*"))


def test_a_server_that_answers_no_more_ends_in_one_sentence(
    small: GANConfig, inputs: TileInputs, server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.always["GET"] = "503"
    with pytest.raises(ConnectionError, match=r"dataset\.json could not be read in 5 tries \(HTTP 503"):
        train_gan(small, dataclasses.replace(inputs, shards=server.url), tmp_path / "run")
