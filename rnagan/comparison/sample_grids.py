"""Sample grids of several runs beside one another, at the same counts of images, and whether they can be compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnagan.io.images import shrink, synthetic_texts
from rnagan.reports.figures import side_by_side, tiles_of_grid
from rnagan.tracking.run_folder import RunFolder
from rnagan.training.latent_table import shown_samples

COUNTS_SHOWN = 4
SPREAD = 0.1  # share by which counts of images may differ and be shown as one
DRAWS = (2, 4)  # tiles of a profile while training goes on, and at the end
SIDES = (64, 128)  # of a tile that is shown then, px at most
PROFILES_SHOWN = 8


def nearest_counts(saved: Mapping[str, Sequence[int]], most: int = COUNTS_SHOWN) -> list[dict[str, int]]:
    """Counts of images at which every run saved a grid, by run, as far as they go together; the last of them last.

    `saved`: the counts of each run. They start from the run with the fewest and take the nearest of the others; those
    that differ by more than SPREAD are left out unless all do, when the closest is left. At most `most`, spread evenly.
    """
    if not saved or not all(saved.values()):
        return []
    fewest = min(saved.values(), key=len)
    found = [{run: min(counts, key=lambda own: abs(own - count)) for run, counts in saved.items()} for count in fewest]
    found = list({tuple(each.values()): each for each in found}.values())
    near = [each for each in found if _spread(each) <= SPREAD] or [min(found, key=_spread)]
    places = np.unique(np.linspace(0, len(near) - 1, most).round().astype(int)) if len(near) > 1 else [0]
    return [near[k] for k in places]


def _spread(counts: Mapping[str, int]) -> float:
    return 1 - min(counts.values()) / max(max(counts.values()), 1)


def why_not_the_same(runs: Mapping[str, RunFolder]) -> list[str]:
    """Reasons why the sample grids of GAN runs show other profiles or other noise; [] where they show the same."""
    values = {"seed": {name: str(run.settings["seed"]) for name, run in runs.items()}}
    values["mode"] = {name: run.settings.get("mode", "rnagan") for name, run in runs.items()}
    if "rnagan" in values["mode"].values():  # another cohort shows in its profiles
        values["profiles"] = {name: _shown(run) for name, run in runs.items()}
        for what, title in (("expression", "expression"), ("vae", "β-VAE")):
            values[title] = {name: run.made_from.get(what, "none")[:12] for name, run in runs.items()}
    return [
        f"{what} ({', '.join(f'{name}: {_brief(value)}' for name, value in own.items())})"
        for what, own in values.items()
        if len(set(own.values())) > 1
    ]


def _shown(run: RunFolder) -> str:
    """The samples of a run's grids."""
    if run.settings.get("mode", "rnagan") != "rnagan":
        return "none"
    try:
        return ", ".join(shown_samples(run.folder))
    except FileNotFoundError:
        return "unknown"


def _brief(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:38]} …"


def draw_as_training_goes(path: Path, runs: Mapping[str, RunFolder], counts: list[dict[str, int]]) -> None:
    """A PNG with a row for each run and a column for each count of images: a few tiles of each profile."""
    side = min(SIDES[0], *(run.settings["resolution"] for run in runs.values()))
    rows = {name: [_tiles(run, each[name], side, DRAWS[0]) for each in counts] for name, run in runs.items()}
    # Profiles lie beside one another here: a row each would be too tall for many runs.
    flat = {name: [block.transpose(1, 0, 2, 3, 4) for block in blocks] for name, blocks in rows.items()}
    side_by_side(path, _alike(flat), [count_title(each) for each in counts], _texts(runs))


def draw_at(path: Path, runs: Mapping[str, RunFolder], counts: dict[str, int]) -> None:
    """A PNG with a column for each run at one count of images: a row a profile."""
    side = min(SIDES[1], *(run.settings["resolution"] for run in runs.values()))
    row = {"": [_tiles(run, counts[name], side, DRAWS[1]) for name, run in runs.items()]}
    side_by_side(path, _alike(row), list(runs), _texts(runs))


def count_title(counts: Mapping[str, int]) -> str:
    """A count of images that all runs share, or from which to which they go."""
    fewest, most = min(counts.values()), max(counts.values())
    return f"{most:,} images" if fewest == most else f"{fewest:,} to {most:,} images"


def _tiles(run: RunFolder, count: int, side: int, draws: int) -> NDArray[np.uint8]:
    """Tiles (profiles, draws, side, side, 3) of a sample grid, the first draws of each profile."""
    resolution = run.settings["resolution"]
    tiles = tiles_of_grid(run.sample_grids()[count], resolution)[:PROFILES_SHOWN, :draws]
    shrunk = [[shrink(tile, resolution // side) for tile in row] for row in tiles]
    return np.array(shrunk, np.uint8)


def _alike(rows: Mapping[str, list[NDArray[np.uint8]]]) -> dict[str, list[NDArray[np.uint8]]]:
    """Blocks of tiles cut to as many rows and columns as all of them have."""
    shapes = np.array([block.shape[:2] for blocks in rows.values() for block in blocks])
    down, across = shapes.min(axis=0)
    return {name: [block[:down, :across] for block in blocks] for name, blocks in rows.items()}


def _texts(runs: Mapping[str, RunFolder]) -> dict[str, str]:
    folders = ", ".join(str(run.folder) for run in runs.values())
    return synthetic_texts(folders, "validation donors", next(iter(runs.values())).settings["seed"], None)
