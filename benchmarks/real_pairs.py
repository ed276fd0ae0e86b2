"""Does a held-out spot's generated tile follow its own RNA: real spots of her2st, section by section.

A training ends after so many seconds of computing. Then the mean of a few generated tiles of each spot of a section
that was held out is compared with the spot's own real tile, beside a ridge regression of the same condition, real tiles
of other spots, and nulls that keep the structure of maps. Sections are drawn from their expression in the cache. The
last line printed is one JSON object; its figures are the worst over the folds and seeds that ran.
"""

import dataclasses
import shlex
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import click
import numpy as np
import pandas as pd
from real_pairs_parts.folds import CONSECUTIVE, FIRST, FOLDS, KEY, Fold, fewest_units, write_fold
from shared.commands import run_command, train_for
from shared.options import benchmark, takes_data
from shared.report import Report, rounded

from rnagan.data.index import open_dataset
from rnagan.evaluation.features import make_extractor
from rnagan.evaluation.real_tiles import tiles_of_slides
from rnagan.evaluation.section_mosaic import draw_sections
from rnagan.evaluation.spatial_evidence import spatial_evidence
from rnagan.evaluation.spatial_measures import measure_spots, nuclear_level
from rnagan.evaluation.test_set import EvaluationInputs, open_evaluation_set
from rnagan.io.files import read_json, write_json

SIDE, MPP, SPOT_PX = 64, 1.569, 146  # px of a tile, µm per px, px of the source's tiles that are the spot's 100 µm
MARGIN = 6  # px that tiles are stored wider on each side, in which training shifts them: nearly all that the source has
GAN = (
    f"--resolution {SIDE} --generator-width 24 --critic-width 24 --diffaugment none --batch-size 16 "
    "--threads 1 --loader-threads 1"
)
ENDS = "--validate-every 0 --checkpoint-every 100000000 --sample-every 100000000"
EXTRACTOR = "efficientnet_lite2"  # is no critic's network
MEASURE = "haematoxylin"


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """Shards, cohort table and expression of all sections."""

    shards: Path
    cohort: Path
    expression: Path


@benchmark(
    takes_data,
    click.option("--all", "every", is_flag=True, help="All five sections of patient C, and patient B from C."),
    click.option("--fold", "only", multiple=True, type=click.Choice(list(FOLDS)), help="This section, instead."),
    click.option("--first-seed", default=0, show_default=True, help="Of the trainings of each fold."),
    click.option("--preset", type=click.Choice(["wgan_gp", "two_critics"]), default="two_critics", show_default=True),
    seconds=(900, 300, "Seconds of computing that each training has, its start with them."),
    seeds=(1, 1, "Trainings of each fold."),
    tiles=(32, 1, "Generated tiles of each spot."),
    images=(100_000_000, 32, "Images at which a training ends at the latest."),
)
def main(run: SimpleNamespace) -> None:
    report = Report()
    report.end(report.attempt(real_pairs, report, (run.cache / "real_pairs").resolve(), run))


def real_pairs(report: Report, folder: Path, run: SimpleNamespace) -> dict[str, Any]:
    """Prepare the data; train and evaluate each fold on each seed."""
    source = (run.data / "spatial/her2st").resolve()
    if not (source / "tiles.csv").is_file():
        raise FileNotFoundError(f"{source} holds no spots (tiles.csv).")
    report.begin("data")
    data = _prepare(source, folder / "data")
    found = []
    for seed in range(run.first_seed, run.first_seed + run.seeds):
        for name in run.only or (FOLDS if run.every else [FIRST]):
            report.begin(f"{name}, seed {seed}")
            found.append(_fold(FOLDS[name], seed, data, folder, run))
            write_json(folder / f"figures/{run.preset}-{name}-{seed}.json", found[-1])  # if it is stopped
    return _summary(found) | {"preset": run.preset, "of_each": found}


def _prepare(source: Path, work: Path) -> _Prepared:
    tiles, table = shlex.quote(str(source / "tiles.csv")), shlex.quote(str(source / "expression.csv.gz"))
    data = _Prepared(work / "tiles", work / "cohort.csv", work / "expression.h5ad")
    shards, cohort, expression = (shlex.quote(str(path)) for path in dataclasses.astuple(data))
    spots = "--section-column sample --profile-column spot"
    run_command(
        f"rnagan build-tiles --tiles {tiles} {spots} --crop-px {SPOT_PX} --tile-px {SIDE} --margin-px {MARGIN} "
        f"--mpp {MPP} --out {shards} --processes 1"
    )
    run_command(
        f"rnagan build-cohort --samples {tiles} {spots} --split-by section --x-column array_x --y-column array_y "
        f"--out {cohort}"
    )
    run_command(
        f"rnagan build-expression --table {table} --cohort {cohort} --sample-column spot --units counts "
        f"--out {expression}"
    )
    return data


def _fold(fold: Fold, seed: int, data: _Prepared, folder: Path, run: SimpleNamespace) -> dict[str, Any]:
    """Train, evaluate and draw one fold."""
    cohort, expression = write_fold(fold, data.cohort, data.expression, folder / f"data/{fold.test}")
    units = _condition_units(data.shards, cohort, expression)
    out = folder / f"runs/{run.preset}-{fold.test}-{seed}"
    paths = {"shards": data.shards, "cohort": cohort, "expression": expression, "out": out}
    given = " ".join(f"--{name} {shlex.quote(str(path))}" for name, path in paths.items())
    train_for(
        f"rnagan train-rnagan {given} --embedding obsm:{KEY} --condition-units {units} --preset {run.preset} "
        f"--seed {seed} --images {run.images} {GAN} {ENDS}",
        run.seconds,
    )
    inputs = EvaluationInputs(out, data.shards, cohort, expression)
    held_out = open_evaluation_set(inputs, "test", need="profiles", device="cpu")
    consecutive = CONSECUTIVE if fold.validation is not None else ()
    evidence = spatial_evidence(held_out, run.tiles, 0, make_extractor(EXTRACTOR, device="cpu"), consecutive)
    pictures = folder / f"pictures/{run.preset}-{fold.test}-{seed}"
    draw_sections(
        out, expression, cohort, pictures, shards=data.shards, n=run.tiles, seed=0, split="test", device="cpu"
    )
    images = read_json(out / "model/model.json")["images"]
    own = {"fold": fold.test, "level": held_out.split_by, "seed": seed, "units": units, "images": images}
    own["picture"] = str(pictures)
    return own | evidence.scores["sections"][fold.test] | {"notes": evidence.scores["notes"]}


def _condition_units(shards: Path, cohort: Path, expression: Path) -> int:
    """How many components the condition of a fold has: `fewest_units` by the measures of its training tiles."""
    rows = pd.read_csv(cohort, dtype=str).query("split == 'train'").assign(tiles=1)
    opened = open_dataset(shards)
    tiles = np.concatenate(list(tiles_of_slides(opened, rows, SIDE)))
    measures = np.stack(list(measure_spots(tiles, opened.mpp, nuclear_level(tiles)).values()), axis=1)
    c = anndata.read_h5ad(expression)[rows["sample"].to_numpy()].obsm[KEY].astype(np.float64)
    return fewest_units(c / c.std(axis=0), measures / measures.std(axis=0), rows["slide"].to_numpy(str))


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst of each figure, and the mean of haematoxylin over the ridge's."""
    stain = [each["measures"][MEASURE] for each in found]
    over = [own["r"] / own["ridge"]["r"] for own in stain]
    return {
        "haematoxylin_r": rounded(min(own["r"] for own in stain)),
        "haematoxylin_over_ridge": rounded(min(over)),
        "haematoxylin_over_ridge_mean": rounded(statistics.mean(over)),
        "slope": rounded(min(own["slope"] for own in stain)),
        "place": rounded(max(each["place"]["generated"]["value"] for each in found)),
        "place_of_ridge": rounded(max(each["place"]["ridge"]["value"] for each in found)),
        "place_behind_ridge": rounded(
            max(each["place"]["generated"]["value"] - each["place"]["ridge"]["value"] for each in found)
        ),
        "nulls_tried": min(own["nulls"] for own in stain),
        "nulls_beaten": min(own["beaten"] for own in stain),
        "nulls_not_beaten": max(own["nulls"] - own["beaten"] for own in stain),
    }


if __name__ == "__main__":
    main()
