"""The nearest real training tiles of painted tiles, as a test and as a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan import progress, rng
from rnagan.cohort.table import read_cohort
from rnagan.data.selection import select
from rnagan.evaluation.features import FeatureExtractor, offline_extractor
from rnagan.evaluation.figures import nearest_figure
from rnagan.evaluation.held_out import HeldOut, TileInputs
from rnagan.evaluation.neighbours import closeness, copy_test, find_copies, nearest, undone
from rnagan.evaluation.real_tiles import NumberedTiles, tiles_of_slides
from rnagan.files import write_json
from rnagan.pictures import synthetic_texts
from rnagan.pretrained import RNAGAN

SHOWN = 12  # painted tiles of the picture: the nearest half, and others evenly down to the farthest
NEIGHBOURS = 4


def nearest_tiles(
    folder: Path,
    inputs: TileInputs,
    out: Path,
    split: str = "test",
    tiles: int = 400,
    training_tiles: int = 20_000,
    seed: int = 0,
    extractor: FeatureExtractor | None = None,
) -> dict[str, Any]:
    """Test `tiles` tiles painted from profiles of `split`, beside as many real tiles of the same slides, against up to
    `training_tiles` tiles that the model was trained on; writes `out/nearest.png`, then `out/nearest.json`, whose
    `copies` lists each painted tile that is called a copy (`find_copies`), with the training tile, as SLIDE/NUMBER.

    Where training used more tiles, a copy of one that isn't looked at isn't found; `training_tiles` of the result and
    `of_training_tiles` say how many were.
    """
    model, extractor = RNAGAN.from_pretrained(folder), extractor or offline_extractor()
    held_out = HeldOut([model], inputs, split, 1_000_000)
    held_out.rows = _fewer(held_out.rows, tiles, seed)
    rows = select(held_out.shards, read_cohort(inputs.cohort), "train", model.config.tiles_per_slide).table
    used = held_out.shards.slides.set_index("slide")["tiles"].clip(upper=model.config.tiles_per_slide)
    rows = rows[rows["tissue"].isin(model.tissues)].assign(tiles=lambda table: table["slide"].map(used))
    seen = _fewer(rows, training_tiles, seed)
    training = _features(held_out, seen, extractor)
    painted = np.concatenate(list(held_out.painted(model, seed)))
    real = np.concatenate(list(held_out.real()))
    found, of_real = (nearest(own, training, extractor, NEIGHBOURS) for own in (painted, real))
    test = copy_test(found.distances[:, 0], of_real.distances[:, 0])
    donors = np.repeat(seen["donor"].to_numpy(), seen["tiles"])
    close, close_real = (closeness(each, training, donors) for each in (found, of_real))
    copies = find_copies(close, close_real)
    painted_names, training_names = _names(held_out.rows), _names(seen)
    result = {
        "model": model.digest,
        "extractor": extractor.name,
        "split": split,
        "seed": seed,
        "training_tiles": len(training),
        "of_training_tiles": int(rows["tiles"].sum()),
        **test._asdict(),
        "closeness": {"painted_median": float(np.median(close)), "held_out_median": float(np.median(close_real))},
        "copy_below": copies.below,
        "copies": [
            {
                "painted": painted_names[k],
                "training": training_names[found.rows[k, 0]],
                "closeness": float(close[k]),
                "p": float(copies.p[k]),
            }
            for k in copies.rows
        ],
    }
    order = np.argsort(close)
    half = SHOWN // 2
    further = np.linspace(half, len(order) - 1, half).astype(int) if len(order) > SHOWN else range(half, len(order))
    shown = order[[*range(min(half, len(order))), *further]]
    read = NumberedTiles(held_out.shards, seen["slide"].tolist(), seen["tiles"].to_numpy(), held_out.resolution)
    neighbours = [
        [
            undone(read(range(row, row + 1)), int(g))[0]
            for row, g in zip(found.rows[k], found.symmetries[k], strict=True)
        ]
        for k in shown
    ]
    texts = synthetic_texts(model.digest, f"profiles of split {split}", seed, model.mpp)
    nearest_figure(Path(out) / "nearest.png", painted[shown], neighbours, found.distances[shown], test.threshold, texts)
    write_json(Path(out) / "nearest.json", result)
    return result


def _names(rows: pd.DataFrame) -> list[str]:
    """SLIDE/NUMBER of the rows' tiles, or of those painted for them, in order."""
    return [f"{slide}/{k}" for slide, tiles in zip(rows["slide"], rows["tiles"], strict=True) for k in range(tiles)]


def _fewer(rows: pd.DataFrame, tiles: int, seed: int) -> pd.DataFrame:
    """About so many tiles, as many of each slide as can be; where there are more slides than that, some of them."""
    if len(rows) > tiles:
        rows = rows.iloc[np.sort(rng.generator(seed, "nearest/slides").permutation(len(rows))[:tiles])]
    each = -(-tiles // len(rows))
    return rows.assign(tiles=rows["tiles"].clip(upper=each)).reset_index(drop=True)


def _features(held_out: HeldOut, rows: pd.DataFrame, extractor: FeatureExtractor) -> NDArray[np.float32]:
    """Features of the rows' tiles, in order."""
    features = []
    with progress.bar(int(rows["tiles"].sum()), "tile", "Training tiles") as bar:
        for own in tiles_of_slides(held_out.shards, rows, held_out.resolution):
            features.append(extractor(own))
            bar.update(len(own))
    return np.concatenate(features)
