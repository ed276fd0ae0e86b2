"""Does the painted tissue follow the profile? Morphology of tiles painted for held-out donors against the truth.

Measured as DESIGN.md ("A claim about RNA") asks: within a tissue, over donors, with the same measure on the donors'
real tiles as the ceiling.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan import pictures, progress
from rnagan.data.images import decode_image
from rnagan.data.index import ShardSet
from rnagan.data.reader import TileReader
from rnagan.evaluation.correlation import FEWEST_DONORS, correlate, pearson
from rnagan.evaluation.morphology import MEASURES, measure
from rnagan.evaluation.tissue_classifier import TissueClassifier, train_tissue_classifier
from rnagan.expression.store import Expression
from rnagan.pretrained import RNAGAN

CLASSIFIER_TILES = 2000  # real training tiles a tissue at most


def paint_profiles(
    model: RNAGAN, expression: Expression, samples: list[str], n: int, seed: int
) -> dict[str, NDArray[np.uint8]]:
    """Paint `n` tiles for each sample: (n, H, W, 3) uint8 by sample."""
    rows = expression.obs.index.get_indexer(samples)
    latents = model.latents(expression.values[rows], expression.genes, expression.units)
    painted = {}
    with progress.bar(len(samples), "profile", "Painting") as bar:
        for latent, sample in zip(latents, samples, strict=True):
            painted[sample] = model.paint(latent, n, seed, sample)
            bar.update()
    return painted


def read_tiles(shards: ShardSet, slides: list[str], n: int, resolution: int) -> list[NDArray[np.uint8]]:
    """The first `n` tiles of each slide (a uniform draw of its tiles), each (at most n, resolution, resolution, 3)."""
    reader = TileReader(shards, slides)
    counts = shards.slides.set_index("slide")["tiles"]
    return [
        np.stack([shrink(decode_image(reader.read(i, k)), resolution) for k in range(min(n, counts[slide]))])
        for i, slide in enumerate(slides)
    ]


def tiles_of_samples(shards: ShardSet, rows: pd.DataFrame, n: int, resolution: int) -> dict[str, NDArray[np.uint8]]:
    """Up to `n` real tiles of each sample of the cohort rows (sample, slide), taken evenly from its slides."""
    result = {}
    for sample, own in rows.groupby("sample"):
        each = -(-n // len(own))
        result[str(sample)] = np.concatenate(read_tiles(shards, own["slide"].tolist(), each, resolution))[:n]
    return result


def shrink(image: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """A tile (S, S, 3) averaged by area to `resolution`, which divides S."""
    factor = image.shape[0] // resolution
    return image if factor == 1 else pictures.shrink(image, factor)


def mean_measures(tiles: dict[str, NDArray[np.uint8]], mpp: float) -> pd.DataFrame:
    """Mean of each morphology measure over a sample's tiles: index sample, one column a measure."""
    rows = [{name: float(values.mean()) for name, values in measure(own, mpp).items()} for own in tiles.values()]
    return pd.DataFrame(rows, index=pd.Index(list(tiles), name="sample"), columns=list(MEASURES), dtype=float)


def faithfulness(truth: pd.DataFrame, painted: pd.DataFrame, real: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Correlations by tissue and measure, over donors; a donor's profiles of a tissue are averaged first.

    `truth`: index sample; columns donor, tissue, site and the expected measures (empty where a tissue has no such
    thing). `painted`, `real`: index sample, the measures; real tiles exist for some donors only. The permutation test
    shuffles within centres, except for the site's own stain, which is constant within a centre. `ceiling` is None where
    fewer than FEWEST_DONORS have real tiles; a tissue with fewer held-out donors is left out, by name.
    """
    result: dict[str, Any] = {}
    for tissue, rows in truth.loc[painted.index].groupby("tissue"):
        expected, measured = _by_donor(truth, rows), _by_donor(painted, rows)
        if len(expected) < FEWEST_DONORS:
            progress.say(f"{tissue} has {len(expected)} held-out donors, too few for a correlation: left out.")
            continue
        site = rows.groupby("donor")["site"].first().to_numpy()
        pictured = rows.loc[rows.index.intersection(real.index)]
        expected_of_real, measured_on_real = _by_donor(truth, pictured), _by_donor(real, pictured)
        result[str(tissue)] = {}
        for name in MEASURES:
            if expected[name].isna().any():
                continue
            strata = None if name == "site_stain" else site
            found = correlate(expected[name].to_numpy(), measured[name].to_numpy(), seed, strata)
            ceiling = None
            if len(measured_on_real) >= FEWEST_DONORS:
                r = pearson(expected_of_real[name].to_numpy(), measured_on_real[name].to_numpy())
                ceiling = float(np.nan_to_num(r))  # without any variation, as in `correlate`
            result[str(tissue)][name] = found._asdict() | {"ceiling": ceiling, "ceiling_donors": len(measured_on_real)}
    return result


def _by_donor(measures: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean measures of each donor of `rows`, by donor."""
    return measures.loc[rows.index, list(MEASURES)].groupby(rows["donor"]).mean()


def tissue_accuracy(
    shards: ShardSet,
    train: pd.DataFrame,
    real: dict[str, NDArray[np.uint8]],
    painted: dict[str, NDArray[np.uint8]],
    tissue_of: pd.Series,
    resolution: int,
    seed: int = 0,
) -> dict[str, float | None]:
    """Share of tiles whose tissue a classifier trained on real training tiles calls right.

    `train`: rows of the cohort table with slide and tissue; `real` and `painted`: tiles by sample of held-out donors;
    `tissue_of`: tissue by sample. The share on real tiles is the ceiling.
    """
    per_slide = max(1, CLASSIFIER_TILES * train["tissue"].nunique() // len(train))
    own = read_tiles(shards, train["slide"].tolist(), per_slide, resolution)
    right = [tissue for tiles, tissue in zip(own, train["tissue"], strict=True) for _ in tiles]
    classifier = train_tissue_classifier(np.concatenate(own), right, seed=seed)
    return {name: _share_right(classifier, tiles, tissue_of) for name, tiles in (("real", real), ("painted", painted))}


def _share_right(
    classifier: TissueClassifier, tiles: dict[str, NDArray[np.uint8]], tissue_of: pd.Series
) -> float | None:
    """Share of all tiles whose tissue is called right; None where there is no tile."""
    right = [np.array(classifier.predict(own)) == tissue_of[sample] for sample, own in tiles.items()]
    return float(np.mean(np.concatenate(right))) if right else None
