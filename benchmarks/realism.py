"""Do tiles look like tissue: preset `two_critics` against `wgan_gp`, as long on one core each, on real lung and colon.

Both train the same generator at 64 px on the same tiles and profiles, stopped by a signal after so many seconds of
computing. Then 1,200 tiles of held-out profiles are compared with the training tiles: by the network whose maps the
second critic works on, by one that took no part, and by statistics made by hand; beside them the held-out real
tiles. Pictures of all are left in the cache. The last line printed is one JSON object.
"""

import shlex
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from shared.commands import run_command, train_for
from shared.options import benchmark, takes_data
from shared.others import own_cores
from shared.report import Report, rounded

from rnagan.api import RNAGAN
from rnagan.article.demos import SCALES, unpaired
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet, open_dataset
from rnagan.evaluation.features import FeatureExtractor, comparable, make_extractor
from rnagan.evaluation.memorization import copy_test
from rnagan.evaluation.real_tiles import read_tiles
from rnagan.evaluation.tile_measurements import train_classifier
from rnagan.evaluation.tile_scores import FeatureStatistics, frechet_distance, precision_recall
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json
from rnagan.io.images import grid, save_png, synthetic_texts

PRESETS = ("wgan_gp", "two_critics")
EXTRACTORS = {"": "efficientnet_lite0", "_second": "efficientnet_lite2", "_hand": "handmade"}
SIDE, MOST_TILES = 64, 1000  # px; tiles of a slide
GAN = f"--resolution {SIDE} --generator-width 24 --critic-width 24 --diffaugment none --batch-size 16 --threads 1"
ENDS = "--validate-every 0 --checkpoint-every 100000000"
SHOWN = 8  # tiles a row of a picture


class Tiles(NamedTuple):
    """uint8 (n, SIDE, SIDE, 3), and the tissue of each."""

    images: NDArray[np.uint8]
    tissues: NDArray[np.str_]


class Measure(NamedTuple):
    """An extractor, the end of its figures' names, and its features of the real tiles."""

    suffix: str
    extract: FeatureExtractor
    train: NDArray[np.float32]
    held_out: NDArray[np.float32]


@benchmark(
    takes_data,
    seconds=(900, 300, "Seconds of computing that each training has, its start with them."),
    seeds=(2, 1, "Trainings of each preset."),
    tiles=(1200, 48, "Generated tiles that are measured."),
    images=(100_000_000, 32, "Images at which a training ends at the latest."),
)
def main(run: SimpleNamespace) -> None:
    report = Report()
    report.end(report.attempt(realism, report, (run.cache / "realism").resolve(), run))


def realism(report: Report, folder: Path, run: SimpleNamespace) -> dict[str, Any]:
    """Prepare the data, train each preset on each seed, and compare what they generate."""
    scale = SCALES["toy" if run.quick else "full"]
    stages = {
        stage.name: stage.command for stage in unpaired(folder / "runs", folder / "data", run.data.resolve(), scale)
    }
    for name in ("tiles", "splits", "expression", "vae"):
        report.begin(name)
        run_command(stages[name])
    report.begin("training")
    runs = [(preset, seed) for seed in range(run.seeds) for preset in PRESETS]
    with ThreadPoolExecutor(len(own_cores(run.quick))) as pool:
        images = list(pool.map(lambda one: _train(folder, stages["rnagan"], *one, run), runs))
    report.begin("measuring")
    shards, cohort = open_dataset(folder / "data/tiles"), read_cohort(folder / "data/cohort.csv")
    pictured = cohort[cohort["slide"] != ""]
    train, held_out = (
        _real(shards, pictured[pictured["split"].isin(own)]) for own in (["train"], ["validation", "test"])
    )
    classifier = train_classifier(shards, pictured[pictured["split"] == "train"], SIDE, seed=0, device="cpu")
    measures = []
    for suffix, name in EXTRACTORS.items():
        extract = make_extractor(name, device="cpu")
        measures.append(Measure(suffix, extract, extract(train.images), extract(held_out.images)))
    found: dict[str, list[dict[str, Any]]] = {preset: [] for preset in PRESETS}
    for (preset, seed), shown in zip(runs, images, strict=True):
        own = _generated(folder, preset, seed, run.tiles)
        right = np.array(classifier.predict(own.images)) == own.tissues
        features = [measure.extract(own.images) for measure in measures]
        scores = _scores(measures, features, own.tissues, train.tissues) | _copies(measures[0], features[0])
        scores |= {"tissue": float(right.mean()), "images": shown}
        found[preset].append(scores | {"edge": _edge(own.images)})
        _draw(folder / f"{preset}-{seed}.png", own, f"{preset}, seed {seed}")
    of_held_out = [measure.held_out for measure in measures]
    of_real = _scores(measures, of_held_out, held_out.tissues, train.tissues) | {"edge": _edge(train.images)}
    return _summary(found) | {"of_each": found, "held_out": of_real}


def _train(folder: Path, command: str, preset: str, seed: int, run: SimpleNamespace) -> int:
    """Train for `run.seconds` of computing; the images that were shown."""
    words = shlex.split(command)
    inputs = words[: words.index("--out")]
    out = folder / f"runs/{preset}-{seed}"
    own = f"--preset {preset} --seed {seed} --images {run.images} {GAN} {ENDS}"
    train_for(shlex.join([*inputs, "--out", str(out), *own.split()]), run.seconds)
    return read_json(out / "model/model.json")["images"]


def _real(shards: ShardSet, rows: pd.DataFrame) -> Tiles:
    """All tiles of the slides in rows of the cohort table."""
    rows = rows.drop_duplicates("slide")
    of_rows = read_tiles(shards, rows, MOST_TILES, SIDE)
    return Tiles(np.concatenate(of_rows), np.repeat(rows["tissue"].to_numpy(str), [len(own) for own in of_rows]))


def _generated(folder: Path, preset: str, seed: int, count: int) -> Tiles:
    """As many tiles of each tissue, of the test profiles, in turns."""
    model = RNAGAN.from_pretrained(folder / f"runs/{preset}-{seed}", device="cpu")
    profiles = open_profiles(folder / "data/expression.h5ad")
    held_out = (profiles.obs["split"] == "test") & profiles.obs["tissue"].isin(model.tissues)
    own = profiles[held_out.to_numpy()].to_memory()
    each = count // own.obs["tissue"].nunique()
    images, tissues = [], []
    for tissue in sorted(own.obs["tissue"].unique()):
        of_tissue = own[(own.obs["tissue"] == tissue).to_numpy()]
        tiles = model.generate(of_tissue, -(-each // of_tissue.n_obs), seed=0)
        images.append(np.swapaxes(tiles, 0, 1).reshape(-1, *tiles.shape[2:])[:each])
        tissues += [str(tissue)] * each
    return Tiles(np.concatenate(images), np.array(tissues))


def _scores(
    measures: list[Measure], features: list[NDArray[np.float32]], tissues: NDArray, of_train: NDArray
) -> dict[str, float]:
    """Against the training tiles, by each extractor: Fréchet distance of all and by tissue, precision and recall.

    `features`: of the compared tiles, by each extractor; `tissues`: theirs; `of_train`: those of the training tiles.
    """
    scores: dict[str, float] = {}
    for (suffix, extract, train, _), own in zip(measures, features, strict=True):
        theirs, mine = (comparable(extract, each, train) for each in (train, own))
        for tissue in ["", *np.unique(of_train)]:
            sides = [
                FeatureStatistics.of(each[(their_tissues == tissue) | (tissue == "")])
                for each, their_tissues in ((mine, tissues), (theirs, of_train))
            ]
            scores[f"frechet{suffix}{tissue and '/'}{tissue}"] = frechet_distance(*sides)
        scores[f"precision{suffix}"], scores[f"recall{suffix}"] = precision_recall(mine, theirs)
    return {name: round(score, 3) for name, score in scores.items()}


def _copies(measure: Measure, features: NDArray[np.float32]) -> dict[str, float]:
    """The share of tiles that lie nearer to a training tile than all but a hundredth of the held-out ones do."""
    apart = [cdist(each, measure.train).min(axis=1) for each in (features, measure.held_out)]
    return {"copies": round(copy_test(*apart).share, 3)}


def _edge(tiles: NDArray[np.uint8]) -> float:
    """How much brighter or darker the outermost pixels are than the rest, the largest of four sides, grey levels."""
    grey = tiles.mean((0, 3))
    sides = (grey[0], grey[-1], grey[:, 0], grey[:, -1])
    return round(float(max(abs(side.mean() - grey[2:-2, 2:-2].mean()) for side in sides)), 2)


def _draw(path: Path, own: Tiles, title: str) -> None:
    """Two rows of tiles of each tissue."""
    rows = [
        own.images[own.tissues == tissue][k * SHOWN : (k + 1) * SHOWN]
        for tissue in np.unique(own.tissues)
        for k in range(2)
    ]
    save_png(path, grid(np.stack(rows)), synthetic_texts(title, "held-out donors", 0, None))


def _summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Ratios of means over seeds, those of two critics over those of WGAN-GP, and the own figures of the former."""
    old, new = (
        {name: statistics.mean(each[name] for each in found[preset]) for name in found[preset][0]} for preset in PRESETS
    )
    names = [f"frechet{suffix}" for suffix in EXTRACTORS]
    ratios = {f"ratio_{name}": rounded(new[name] / old[name]) for name in names}
    own = {name: rounded(new[name]) for name in ("recall", "recall_second", "tissue", "copies")}
    return ratios | own | {"copies_wgan_gp": rounded(old["copies"])}


if __name__ == "__main__":
    main()
