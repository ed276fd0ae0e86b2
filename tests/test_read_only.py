"""What is finished is looked at, and used, on a disk that can't be written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from rnagan.commands.main import main
from rnagan.config.gan import GANConfig
from rnagan.config.simulation import SimulationConfig
from rnagan.config.tiling import TilingConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.build_profiles import build_profiles
from rnagan.data.import_webdataset import adopt_folder
from rnagan.data.verify import check_folder
from rnagan.expression.h5ad import open_profiles
from rnagan.generation import generate_tiles
from rnagan.simulation.cohort import simulate_cohort
from rnagan.slides.premade_tiles import pack_tiles
from rnagan.tracking.evaluations import find_evaluations, record_evaluation
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.vae.data import VAEInputs
from rnagan.training.vae.train import train_vae
from tests.disks import read_only

pytestmark = pytest.mark.usefixtures("no_mlflow")


TINY = SimulationConfig(donors=10, slide_donors=1, genes=50, tiles_across=1, tiles_down=1)
GENERATED = {"n": 2, "seed": 5, "form": "png", "split": "test", "samples": []}


@pytest.fixture(scope="module")
def place(inputs: TileInputs, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `tiles`, and `seen`, which can't be written: shards, cohort, expression, a VAE and a GAN, and
    finished builds."""
    place = tmp_path_factory.mktemp("read_only")
    data = place / "data"
    shutil.copytree(Path(inputs.shards).parent, data)
    shutil.copytree(trained, data / "trained")
    (place / "tiles").mkdir()
    for k in range(3):
        Image.new("RGB", (40, 40), (60 * k,) * 3).save(place / f"tiles/{k}.png")
    table = pd.DataFrame({"path": [f"{k}.png" for k in range(3)], "tissue": "lung", "donor": ["a", "a", "b"]})
    table.to_csv(place / "tiles/tiles.csv", index=False)
    table.assign(donor=["a", "c", "b"]).to_csv(place / "tiles/changed.csv", index=False)
    pack_tiles(place / "tiles/tiles.csv", data / "packed", TilingConfig(tile_px=32))
    build_profiles(data / "expression.h5ad", data / "profiles")
    simulate_cohort(TINY, data / "simulated", processes=1)
    generate_tiles(data / "trained", data / "expression.h5ad", data / "generated", **GENERATED)
    with read_only(data, place / "seen"):
        yield place


@pytest.fixture
def seen(place: Path) -> Path:
    return place / "seen"


@pytest.mark.attack(kind=7, ends="unharmed")
def test_finished_builds_are_up_to_date_on_a_read_only_disk(place: Path, seen: Path) -> None:
    summary = pack_tiles(place / "tiles/tiles.csv", seen / "packed", TilingConfig(tile_px=32))
    assert (summary.made, summary.up_to_date, summary.failures) == (0, 2, {})
    assert "up to date" in " ".join(build_profiles(seen / "expression.h5ad", seen / "profiles"))
    assert simulate_cohort(TINY, seen / "simulated", processes=1) == f"{seen / 'simulated'} is up to date."
    said = generate_tiles(seen / "trained", seen / "expression.h5ad", seen / "generated", **GENERATED)
    assert said == [f"{seen / 'generated'} is up to date."]
    assert adopt_folder(seen / "shards") == ([], [])
    for folder in ("packed", "profiles"):
        assert check_folder(seen / folder).findings == []


@pytest.mark.attack(kind=7, ends="unharmed")
def test_models_and_data_are_used_from_a_read_only_disk(seen: Path, small: GANConfig, tmp_path: Path) -> None:
    given = TileInputs(seen / "shards", seen / "cohort.csv", seen / "expression.h5ad", seen / "vae")
    assert train_gan(small.replace(images=16), given, tmp_path / "gan")
    config = VAEConfig(hidden="8", latent=2, epochs=1, threads=1)
    for expression in (seen / "expression.h5ad", seen / "profiles"):
        inputs_of_vae = VAEInputs(str(expression), seen / "cohort.csv" if expression.is_dir() else None)
        assert train_vae(config, inputs_of_vae, tmp_path / f"vae of {expression.name}")
    generate_tiles(seen / "trained", seen / "expression.h5ad", tmp_path / "generated", **GENERATED)
    with Image.open(seen / "generated/grid.png") as there, Image.open(tmp_path / "generated/grid.png") as again:
        np.testing.assert_array_equal(np.asarray(again), np.asarray(there))
    assert open_profiles(seen / "expression.h5ad").n_obs


@pytest.mark.attack(kind=7, ends="unharmed")
def test_an_evaluation_of_a_model_on_a_read_only_disk(
    seen: Path, tmp_path: Path, mirrored_evaluations: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.warns(
        UserWarning, match=r"MLflow is not reachable \(.*its disk is read-only; .*the evaluation goes on"
    ):
        record_evaluation(tmp_path / "out", "fid", seen / "trained", {"fid": {"value": 1.0}}, {})
    assert find_evaluations(tmp_path / "out") == [tmp_path / "out/evaluation_run.json"]


@pytest.mark.attack(kind=7)
def test_what_must_be_written_there_is_refused_in_one_sentence(place: Path, seen: Path) -> None:
    words = ["build-tiles", "--tiles", place / "tiles/changed.csv", "--tile-px", "32", "--processes", "1"]
    result = CliRunner().invoke(main, [*map(str, words), "--out", str(seen / "packed")])
    assert result.exit_code == 1 and result.stderr.startswith(f"Error: {seen / 'packed'}")
    assert result.stderr.endswith("its disk is read-only; choose another place, or mount it for writing.\n")
