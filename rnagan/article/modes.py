"""GAN beside RNA-GAN (article, figure 5) and noise in ±0.3 beside RNA-GAN (figure 4C): three runs, and two pictures."""

import shlex
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnagan.article.stages import Stage, run_stages, starting
from rnagan.cohort.table import read_cohort
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.selection import make_order, select
from rnagan.io.files import write_json
from rnagan.io.images import synthetic_texts
from rnagan.reports.figures import LOSSES, curves, side_by_side, tiles_of_grid
from rnagan.tracking.run_folder import read_metrics
from rnagan.training.latent_table import shown_samples
from rnagan.training.tile_inputs import TileData, TileInputs

MODES = {"gan": "GAN", "rnagan": "RNA-GAN", "noise_only": "noise in ±{range:g}"}
FIGURES = {"figure5.png": ("gan", "rnagan"), "figure4c.png": ("noise_only", "rnagan")}
COLUMNS = 5  # counts of images that are shown at most
CELL = (2, 4)  # rows and columns of tiles in a cell


def compare_modes(config: GANConfig, inputs: TileInputs, out: Path, launch: Path | None = None) -> str:
    """Train the three modes one after another into `out/MODE`, with the same settings, seed and count of images, and
    draw what each had learnt by then: `out/figure5.png`, `out/figure4c.png`, `out/losses.png` and `out/modes.json`.

    `launch`: a config of accelerate's launcher; without it, one process. A run that was broken off goes on, a finished
    one is kept. Returns what to tell the user.
    """
    configs, data = run_configs(config, inputs)
    for mode, own in configs.items():
        own.save(out / f"{mode}.yaml")
    run_stages([Stage(mode, _command(inputs, out, launch, mode)) for mode in MODES], out)
    draw_modes(config, inputs, out, data.order.epoch_length)
    return f"{out}: {', '.join(FIGURES)}, losses.png, modes.json."


def run_configs(config: GANConfig, inputs: TileInputs) -> tuple[dict[str, GANConfig], TileData]:
    """The settings of each mode's run, and the tiles that they are trained on.

    The clock is images, so all three have the same count whatever slides lack a profile.
    """
    configs = {mode: config.replace(mode=mode) for mode in MODES}  # refused before anything is opened, if they are
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    selection = select(shards, cohort, "train", config.tiles_per_slide, config.where)
    order = make_order(selection, config.seed, config.window_slides, config.tile_order, config.tissue_weights)
    counted = {mode: own.counted_in_images(order.epoch_length).replace(epochs=0) for mode, own in configs.items()}
    return counted, TileData(shards, selection, order)


def draw_modes(config: GANConfig, inputs: TileInputs, out: Path, epoch_length: int) -> None:
    """Draw the figures of three runs in `out/MODE`, from the sample grids that they saved."""
    counts = _common_counts(out)
    shown = [counts[k] for k in np.unique(np.linspace(0, len(counts) - 1, COLUMNS).round().astype(int))]
    titles = [f"{count:,} images ({count / epoch_length:.3g} epochs)" for count in shown]
    tissues = _tissues_of_rows(inputs, out / "rnagan")
    rows = {mode: _rows(config, out / mode, mode, shown, tissues if mode == "rnagan" else None) for mode in MODES}
    mpp = open_dataset(inputs.shards).mpp_at(config.resolution)
    for name, (left, right) in FIGURES.items():
        texts = synthetic_texts(f"{out}/{left}, {out}/{right}", "validation donors", config.seed, mpp)
        side_by_side(out / name, rows[left] | rows[right], titles, texts)
    metrics = {mode: read_metrics(out / mode) for mode in MODES}
    curves(out / "losses.png", metrics, LOSSES, "images")
    lines = {
        mode: {name: [[row["images"], row[name]] for row in found if name in row] for name in LOSSES}
        for mode, found in metrics.items()
    }
    write_json(out / "modes.json", {"images": shown, "epoch_length": epoch_length, "losses": lines})


def _command(inputs: TileInputs, out: Path, launch: Path | None, mode: str) -> str:
    """The command line of one mode's run."""
    words = [*starting("train-rnagan", launch), "--shards", str(inputs.shards), "--cohort", str(inputs.cohort)]
    if mode == "rnagan":
        words += ["--expression", str(inputs.expression), "--vae", str(inputs.vae)]
    return shlex.join([*words, "--config", str(out / f"{mode}.yaml"), "--out", str(out / mode)])


def _common_counts(out: Path) -> list[int]:
    """Counts of images at which every mode saved a sample grid."""
    saved = [{int(path.stem) for path in (out / mode / "samples").glob("*.png")} for mode in MODES]
    counts = sorted(set.intersection(*saved))
    if not counts:
        raise ValueError(f"The runs in {out} saved no sample grid; choose --sample-every below --images.")
    return counts


def _tissues_of_rows(inputs: TileInputs, run: Path) -> list[str]:
    """The tissue of each row of RNA-GAN's sample grids."""
    cohort = read_cohort(inputs.cohort)
    tissue_of = dict(zip(cohort["sample"], cohort["tissue"], strict=True))
    return [tissue_of.get(sample, "unknown tissue") for sample in shown_samples(run)]


def _rows(
    config: GANConfig, run: Path, mode: str, counts: list[int], tissues: list[str] | None
) -> dict[str, list[NDArray[np.uint8]]]:
    """Rows of a figure by label, a block of tiles for each count: one row a tissue where tissues are known."""
    grids = [tiles_of_grid(run / "samples" / f"{count:012d}.png", config.resolution) for count in counts]
    label = MODES[mode].format(range=config.noise_range)
    if tissues is None:
        return {label: [_block(tiles) for tiles in grids]}
    names = np.array(tissues)
    return {f"{label}, {name}": [_block(tiles[names == name]) for tiles in grids] for name in dict.fromkeys(tissues)}


def _block(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A cell's tiles of those of a grid (profiles, draws, H, W, 3): a column for each profile, as far as they go, and
    more draws of them beyond."""
    rows, columns = CELL
    down = tiles.transpose(1, 0, 2, 3, 4).reshape(-1, *tiles.shape[2:])  # the first draw of each profile, the second …
    return down[: rows * columns].reshape(rows, columns, *tiles.shape[2:])
