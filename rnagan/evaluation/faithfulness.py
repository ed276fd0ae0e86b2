"""Does the painted tissue follow the profile? Morphology of tiles painted for held-out donors against the truth.

Measured as DESIGN.md ("A claim about RNA") asks: within a tissue, over donors, with the same measure on the donors'
real tiles as the ceiling.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan import progress
from rnagan.data.index import ShardSet
from rnagan.evaluation.correlation import FEWEST_DONORS, correlate, pearson
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.expression.store import Expression
from rnagan.pretrained import RNAGAN


def painted_tiles(
    model: RNAGAN, expression: Expression, samples: Sequence[str], n: int, seed: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Paint `n` tiles for each sample: its name and (n, H, W, 3) uint8, one after the other."""
    rows = expression.obs.index.get_indexer(samples)
    latents = model.latents(expression.values[rows], expression.genes, expression.units)
    with progress.bar(len(samples), "profile", "Painting") as bar:
        for latent, sample in zip(latents, samples, strict=True):
            yield sample, model.paint(latent, n, seed, sample)
            bar.update()


def read_tiles(shards: ShardSet, slides: list[str], n: int, resolution: int) -> list[NDArray[np.uint8]]:
    """The first `n` tiles of each slide (a uniform draw of its tiles), each (at most n, resolution, resolution, 3)."""
    counts = shards.slides.set_index("slide")["tiles"].loc[slides].clip(upper=n)
    return list(tiles_of_slides(shards, pd.DataFrame({"slide": slides, "tiles": counts.to_numpy()}), resolution))


def real_tiles(
    shards: ShardSet, rows: pd.DataFrame, n: int, resolution: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Each sample of the cohort rows (sample, slide) with up to `n` of its real tiles, taken evenly from its slides."""
    for sample, own in rows.groupby("sample"):
        each = -(-n // len(own))
        yield str(sample), np.concatenate(read_tiles(shards, own["slide"].tolist(), each, resolution))[:n]


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


def on_real_tiles(
    about: pd.DataFrame,
    painted: pd.DataFrame,
    real: pd.DataFrame,
    halves: tuple[pd.DataFrame, pd.DataFrame],
    seed: int = 0,
) -> dict[str, Any]:
    """`faithfulness` where no truth is known: expected is what the donors' own real tiles measure.

    `about`: index sample; columns donor, tissue, site. `halves`: the measures of each half of a sample's real tiles.
    The ceiling is what a model that knew each donor's true mean would reach: the root of the reliability of the real
    tiles' mean, from the correlation r of its halves (Spearman and Brown 1910: 2r / (1 + r)).
    """
    samples = painted.index.intersection(real.index)
    result = faithfulness(about.join(real, how="inner"), painted.loc[samples], real.iloc[:0], seed)
    for tissue, measures in result.items():
        rows = about.loc[samples][about.loc[samples, "tissue"] == tissue]
        first, second = (_by_donor(half, rows).to_numpy() for half in halves)
        told = ~np.isnan(first + second).any(axis=1)
        if told.sum() < FEWEST_DONORS:
            continue
        agreement = np.nan_to_num(pearson(first[told].T, second[told].T)).clip(0)
        ceiling = dict(zip(MEASURES, np.sqrt(2 * agreement / (1 + agreement)), strict=True))
        for name, found in measures.items():
            found |= {"ceiling": float(ceiling[name]), "ceiling_donors": int(told.sum())}
    return result


def _by_donor(measures: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean measures of each donor of `rows`, by donor."""
    return measures.loc[rows.index, list(MEASURES)].groupby(rows["donor"]).mean()
