"""Three modes trained alike and drawn beside one another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnagan.article.modes import MODES, draw_modes
from rnagan.config.gan import GANConfig
from rnagan.io.files import read_json
from rnagan.io.images import grid, save_png
from rnagan.reports.figures import side_by_side, tiles_of_grid
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from tests import programs

FLAGS = "--resolution 32 --images 32 --batch-size 8 --generator-width 4 --critic-width 4 --noise-units 8 "
FLAGS += "--log-every 8 --sample-every 16 --threads 1 --precision float32"


def test_tiles_come_back_from_a_grid(tmp_path: Path) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (3, 5, 8, 8, 3), np.uint8)
    save_png(tmp_path / "grid.png", grid(tiles))
    np.testing.assert_array_equal(tiles_of_grid(tmp_path / "grid.png", 8), tiles)
    with pytest.raises(ValueError, match=r"grid\.png is no grid of tiles of 16 px\."):
        tiles_of_grid(tmp_path / "grid.png", 16)


def test_cells_lie_under_their_title_and_beside_their_label(tmp_path: Path) -> None:
    green, red = (np.full((1, 2, 60, 60, 3), colour, np.uint8) for colour in ((10, 90, 10), (200, 10, 10)))
    side_by_side(tmp_path / "f.png", {"a": [green, red], "b": [red, red]}, ["1", "2"], {"k": "v"})
    with Image.open(tmp_path / "f.png") as picture:
        pixels, texts = np.asarray(picture.convert("RGB")), picture.text
    assert texts["k"] == "v"
    greens, reds = (np.argwhere((pixels == block[0, 0, 0, 0]).all(axis=2)) for block in (green, red))
    assert np.ptp(greens, axis=0).tolist() == [59, 121]  # two tiles and the gap, at the upper left
    assert (reds.min(axis=0) == greens.min(axis=0)).all() and (reds.max(axis=0) > greens.max(axis=0)).all()
    assert len(reds) == 3 * len(greens)


@pytest.mark.usefixtures("no_mlflow")
def test_figures_show_the_grids_of_the_runs_at_the_same_images(
    small: GANConfig, inputs: TileInputs, tmp_path: Path
) -> None:
    config = small.replace(images=32, sample_every=16, checkpoint_every=1000)
    for mode in MODES:
        given = inputs if mode == "rnagan" else TileInputs(inputs.shards, inputs.cohort)
        train_gan(config.replace(mode=mode), given, tmp_path / mode)
    draw_modes(config, inputs, tmp_path, epoch_length=16)
    drawn = read_json(tmp_path / "modes.json")
    assert drawn["images"] == [16, 32] and set(drawn["losses"]) == set(MODES)
    assert [point[0] for point in drawn["losses"]["gan"]["wasserstein"]] == [16, 32]
    grids = {mode: tiles_of_grid(tmp_path / mode / "samples/000000000032.png", 32) for mode in MODES}
    for name, other, tiles in (("figure5.png", "gan", 8), ("figure4c.png", "noise_only", 8)):
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("RGB"))
            assert picture.text["Synthetic"] == "true"
        shown = [pixels[y : y + 32, x : x + 32].tobytes() for y, x in _corners(pixels)]
        for mode, wanted in ((other, grids[other][:, 0]), ("rnagan", grids["rnagan"][:, 0])):  # a draw of each profile
            assert all(tile.tobytes() in shown for tile in wanted), mode
        assert tiles <= len(shown)
    (tmp_path / "gan/samples/000000000016.png").unlink()
    (tmp_path / "gan/samples/000000000032.png").unlink()
    with pytest.raises(ValueError, match="saved no sample grid; choose --sample-every below --images"):
        draw_modes(config, inputs, tmp_path, epoch_length=16)


def _corners(pixels: np.ndarray) -> list[tuple[int, int]]:
    """Upper left corners of tiles: a pixel of colour with white above and at the left of it."""
    white = (pixels == 255).all(axis=2)
    found = np.argwhere(~white[1:, 1:] & white[:-1, 1:] & white[1:, :-1] & white[:-1, :-1]) + 1
    return [(int(y), int(x)) for y, x in found]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_command_trains_draws_and_is_up_to_date(inputs: TileInputs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["rnagan", "compare-modes", "--out", out, *FLAGS.split()]
    for name in ("shards", "cohort", "expression", "vae"):
        command += [f"--{name}", getattr(inputs, name)]
    programs.run(*command, cwd=tmp_path, timeout=800).check()
    assert {"figure5.png", "figure4c.png", "losses.png", "modes.json"} <= {path.name for path in out.iterdir()}
    before = (out / "rnagan/model/model.json").stat().st_mtime_ns
    again = programs.run(*command, cwd=tmp_path).check()
    assert again.stdout.count("up to date (32 images)") == 3
    assert (out / "rnagan/model/model.json").stat().st_mtime_ns == before
