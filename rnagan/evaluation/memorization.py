"""Are generated tiles copies of training tiles? Distances to the nearest real one, beside held-out tiles'."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats

from rnagan.evaluation.features import FeatureExtractor, offline_extractor, took_part
from rnagan.evaluation.real_tiles import NumberedTiles, row_names, tiles_of_slides
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, open_evaluation_set
from rnagan.io.claim import stating
from rnagan.io.files import write_json
from rnagan.io.images import synthetic_texts
from rnagan.reports.figures import nearest_figure
from rnagan.runtime import progress, rng
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

SYMMETRIES = 8
PERCENTILE = 1.0  # of held-out real tiles' distances: so many of them lie below
COPY_LEVEL = 0.01  # chance that even one of all generated tiles is called a copy where none is
_AT_A_TIME = 256  # rows of distances
SHOWN = 12  # generated tiles of the picture
NEIGHBOURS = 4


class Neighbours(NamedTuple):
    """Of each tile its nearest training tiles, nearest first: their row, the distance, and the number of the symmetry
    of the tile (`symmetry`) that comes so near, all (n, k)."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]
    symmetries: NDArray[np.int64]


def symmetry(tiles: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Tiles (n, S, S, 3) turned by `number % 4` quarter turns, then mirrored if `number` is 4 or more."""
    turned = np.rot90(tiles, number % 4, axes=(1, 2))
    return turned[:, :, ::-1] if number >= 4 else turned


def undone(tiles: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The tiles that `symmetry` of the same number turns into these."""
    return np.rot90(tiles[:, :, ::-1] if number >= 4 else tiles, -number % 4, axes=(1, 2))


def nearest(
    tiles: NDArray[np.uint8], training: NDArray[np.float32], extractor: FeatureExtractor, k: int = 4
) -> Neighbours:
    """The `k` nearest training tiles, by their features (m, width), of each of `tiles` (n, S, S, 3).

    Features of each tile's eight symmetries are taken, not of the training tiles', of which there are far more.
    """
    k = min(k, len(training))
    each = np.stack([_distances(extractor(symmetry(tiles, g)), training) for g in range(SYMMETRIES)])
    symmetries, distances = each.argmin(axis=0), each.min(axis=0)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Neighbours(rows, *(np.take_along_axis(values, rows, axis=1) for values in (distances, symmetries)))


def _distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances (n, m), in float64: of copies the squares nearly cancel."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0))


class CopyTest(NamedTuple):
    """`share`: of generated tiles nearer to a training tile than `threshold`, the 1st percentile of held-out real
    tiles' distances; `expected` (0.01) where generated tiles are as new as those. `ratio`: generated over held-out
    median."""

    share: float
    expected: float
    threshold: float
    ratio: float
    generated: int
    held_out: int


def copy_test(generated: NDArray[np.float64], held_out: NDArray[np.float64]) -> CopyTest:
    """From each tile's distance to its nearest training tile: (n,) of generated, (m,) of held-out real tiles.

    A share well above the expected one says that tiles lie nearer to training tiles than new tissue does: look at the
    picture, since smooth, average-looking tiles come near to many without being copies. With fewer than 100 held-out
    tiles the percentile is the least of them, roughly.
    """
    threshold = float(np.percentile(held_out, PERCENTILE))
    share = float(np.mean(generated < threshold))
    ratio = float(np.median(generated) / max(np.median(held_out), 1e-12))
    return CopyTest(share, PERCENTILE / 100, threshold, ratio, len(generated), len(held_out))


def closeness(found: Neighbours, training: NDArray[np.float32], donors: NDArray) -> NDArray[np.float64]:
    """How near each tile's nearest training tile is (n,), as a multiple of that one's own distance to the nearest
    training tile of another donor: about 1 for new tissue, near 0 for a copy.

    Some tissue looks alike everywhere and some nowhere, so a distance alone tells little (Carlini et al. 2023, section
    4.2, calibrate likewise). `donors` (m,) of `training` (m, width).
    """
    nearest_rows = found.rows[:, 0]
    own = np.unique(nearest_rows)
    scale = np.empty(len(own))
    for first in range(0, len(own), _AT_A_TIME):
        rows = own[first : first + _AT_A_TIME]
        apart = np.where(donors[rows][:, None] == donors[None], np.inf, _distances(training[rows], training))
        scale[first : first + _AT_A_TIME] = apart.min(axis=1)
    return found.distances[:, 0] / np.maximum(scale[np.searchsorted(own, nearest_rows)], 1e-12)


class Copies(NamedTuple):
    """`rows`: of generated tiles called copies, nearest first; `p`: of every generated tile; `below`: closeness below
    which a tile is called a copy."""

    rows: NDArray[np.int64]
    p: NDArray[np.float64]
    below: float


def find_copies(generated: NDArray[np.float64], held_out: NDArray[np.float64]) -> Copies:
    """Generated tiles whose `closeness` (n,) to training tiles no new tissue would have, as that of held-out real tiles
    (m,) shows. Raises `ValueError` where these are fewer than 3.

    Logarithms of the latter are taken as normal, and a generated tile is called a copy where it lies so far below that
    COPY_LEVEL / n of them would (Bonferroni), and below all of them: far out a normal tail is only a guess.
    """
    if len(held_out) < 3:
        raise ValueError(
            f"Copies can't be separated from new tissue by {len(held_out)} held-out tiles; 3 at least are needed."
        )
    logs, own = (np.log(np.maximum(values, 1e-12)) for values in (held_out, generated))
    mean, sd = logs.mean(), max(logs.std(ddof=1), 1e-3)
    below = min(mean + sd * stats.norm.ppf(COPY_LEVEL / len(own)), logs.min())
    rows = np.flatnonzero(own < below)
    return Copies(rows[np.argsort(own[rows], kind="stable")], stats.norm.cdf((own - mean) / sd), float(np.exp(below)))


def nearest_tiles(
    inputs: EvaluationInputs,
    out: Path,
    split: str = "test",
    tiles: int = 400,
    training_tiles: int = 20_000,
    seed: int = 0,
    extractor: FeatureExtractor | None = None,
    device: str | torch.device = AUTO,
) -> dict[str, Any]:
    """Test `tiles` tiles generated from profiles of `split`, beside as many real tiles of the same slides, against up
    to `training_tiles` tiles that the model was trained on; writes `out/nearest.png`, then `out/nearest.json`, whose
    `copies` lists each generated tile that is called a copy (`find_copies`), with the training tile, as SLIDE/NUMBER.

    Where training used more tiles, a copy of one that isn't looked at isn't found; `training_tiles` of the result and
    `of_training_tiles` say how many were.
    """
    held_out = open_evaluation_set(inputs, split, device=device)
    return nearest_of_set(held_out, out, tiles, training_tiles, seed, extractor=extractor or offline_extractor(device))


def nearest_of_set(
    held_out: EvaluationSet,
    out: Path,
    tiles: int = 400,
    training_tiles: int = 20_000,
    seed: int = 0,
    *,
    extractor: FeatureExtractor,
) -> dict[str, Any]:
    """`nearest_tiles` of an evaluation set that is open."""
    inputs, split = held_out.inputs, held_out.split
    held_out = dataclasses.replace(held_out, rows=_fewer(held_out.rows, tiles, seed))
    model = held_out.model
    in_training = took_part(extractor.name, model.config.backbone)
    used = held_out.train_rows(model.config.tiles_per_slide)
    used = used[used["tissue"].isin(model.tissues)]
    seen = _fewer(used, training_tiles, seed)
    training = _features(held_out, seen, extractor)
    generated = np.concatenate(list(held_out.generated(model, seed)))
    real = np.concatenate(list(held_out.real()))
    found, of_real = (nearest(own, training, extractor, NEIGHBOURS) for own in (generated, real))
    test = copy_test(found.distances[:, 0], of_real.distances[:, 0])
    donors = np.repeat(seen["donor"].to_numpy(), seen["tiles"])
    close, close_real = (closeness(each, training, donors) for each in (found, of_real))
    copies = find_copies(close, close_real)
    generated_names, training_names = (_names(held_out, rows) for rows in (held_out.rows, seen))
    result = {
        "model": model.digest,
        "extractor": extractor.name,
        "extractor_in_training": in_training,
        "split": split,
        "split_by": held_out.split_by,
        "seed": seed,
        "training_tiles": len(training),
        "of_training_tiles": int(used["tiles"].sum()),
        **test._asdict(),
        "closeness": {"generated_median": float(np.median(close)), "held_out_median": float(np.median(close_real))},
        "copy_below": copies.below,
        "copies": [
            {
                "generated": generated_names[k],
                "training": training_names[found.rows[k, 0]],
                "closeness": float(close[k]),
                "p": float(copies.p[k]),
            }
            for k in copies.rows
        ],
    }
    shown = _shown(close)
    read = NumberedTiles(held_out.shards, seen, seen["tiles"].to_numpy(), held_out.resolution)
    neighbours = [
        [
            undone(read(range(row, row + 1)), int(g))[0]
            for row, g in zip(found.rows[k], found.symmetries[k], strict=True)
        ]
        for k in shown
    ]
    texts = synthetic_texts(model.digest, f"profiles of split {split}", seed, model.mpp)
    result |= {} if held_out.claim is None else held_out.claim.as_json()
    with stating(held_out.claim):
        nearest_figure(out / "nearest.png", generated[shown], neighbours, found.distances[shown], test.threshold, texts)
    write_json(out / "nearest.json", result)
    protocol = inputs.protocol(
        split=split,
        tiles=tiles,
        training_tiles=training_tiles,
        seed=seed,
        extractor=extractor.name,
        extractor_in_training=in_training,
    )
    figures = {"share": test.share, "ratio": test.ratio, "copies": float(len(copies.rows))}
    scores = {name: {"value": value} for name, value in figures.items()}
    pictures = [out / "nearest.png"]
    record_evaluation(out, "memorization", inputs.model, scores, protocol, pictures=pictures, claim=held_out.claim)
    return result


def _shown(close: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of the SHOWN tiles of the picture: the nearest half, and others evenly down to the farthest."""
    order, half = np.argsort(close), SHOWN // 2
    further = np.linspace(half, len(order) - 1, half).astype(int) if len(order) > SHOWN else range(half, len(order))
    return order[[*range(min(half, len(order))), *further]]


def _names(held_out: EvaluationSet, rows: pd.DataFrame) -> list[str]:
    """NAME/NUMBER of the rows' tiles, or of those generated for them, in order."""
    names = row_names(held_out.shards, rows)
    return [f"{name}/{k}" for name, tiles in zip(names, rows["tiles"], strict=True) for k in range(tiles)]


def _fewer(rows: pd.DataFrame, tiles: int, seed: int) -> pd.DataFrame:
    """About so many tiles, as many of each slide as can be; where there are more slides than that, some of them."""
    if len(rows) > tiles:
        rows = rows.iloc[np.sort(rng.generator(seed, "nearest/slides").permutation(len(rows))[:tiles])]
    each = -(-tiles // len(rows))
    return rows.assign(tiles=rows["tiles"].clip(upper=each)).reset_index(drop=True)


def _features(held_out: EvaluationSet, rows: pd.DataFrame, extractor: FeatureExtractor) -> NDArray[np.float32]:
    """Features of the rows' tiles, in order."""
    features = []
    with progress.bar(int(rows["tiles"].sum()), "tile", "Training tiles") as bar:
        for own in tiles_of_slides(held_out.shards, rows, held_out.resolution):
            features.append(extractor(own))
            bar.update(len(own))
    return np.concatenate(features)
