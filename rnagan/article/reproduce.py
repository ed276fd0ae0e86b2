"""A whole reproduction: what it will cost, its experiments in order, and their report."""

from pathlib import Path
from typing import Any

import numpy as np

from rnagan.article.article_report import PAGE, write_report
from rnagan.article.cost import Sizes, Work, costs
from rnagan.article.earlier_runs import set_aside
from rnagan.article.experiments import SAVED, Cohort, experiments
from rnagan.article.stages import run_stages
from rnagan.cohort.table import read_cohort
from rnagan.config.reproduction import Settings
from rnagan.data.index import open_dataset
from rnagan.data.selection import select
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import sha256_of, sha256_of_file
from rnagan.reports.console import aligned


def reproduce(cohort: Cohort, settings: Settings, out: Path) -> Path:
    """Run every experiment that isn't done into `out`, and write its report, whose path is returned.

    What was done with other settings or inputs is done again; trainings of before are kept in `out/earlier` and
    `out/modes/earlier`. Raises `ValueError` or `FileNotFoundError` on inputs that are missing, and `StageFailed` where
    a command fails; started again it goes on there.
    """
    sizes = cohort_sizes(cohort, settings)
    settings.save(out / SAVED)
    each = -(-settings.evaluation.pretraining_tiles // sizes.profiles)
    set_aside(cohort, settings, out, each)
    stages = experiments(cohort, settings, out, each)
    records = run_stages(stages, out, _made_from(cohort, settings))
    write_report(out, cohort, settings, records)
    return out / PAGE


def cost_lines(cohort: Cohort, settings: Settings) -> list[str]:
    """What a reproduction would cost on this machine, as an aligned table; it takes about a minute to measure."""
    work = costs(settings, cohort_sizes(cohort, settings), cohort.external is not None)
    lines = aligned([_cost_row(each) for each in work])
    known = [each.hours for each in work if each.hours is not None]
    lines += ["", f"In all {sum(known):.1f} hours on this machine; pictures and small evaluations come on top."]
    return lines + [f"{each.experiment}: {each.why}" for each in work if each.rate is None]


def _cost_row(work: Work) -> dict[str, str]:
    return {
        "experiment": work.experiment,
        "goes through": f"{work.items:,}",
        "": work.unit,
        "steps": f"{work.steps:,}",
        "a second": "?" if work.rate is None else f"{work.rate:,.1f}",
        "hours": "?" if work.hours is None else f"{work.hours:,.2f}",
    }


def cohort_sizes(cohort: Cohort, settings: Settings) -> Sizes:
    """Counts of what there is; raises where something isn't."""
    others = (cohort.external, cohort.tissue_map, cohort.truth, cohort.launch, cohort.scores)
    for path in (cohort.cohort, cohort.expression, *others):
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"{path} does not exist.")
    shards, table = open_dataset(cohort.shards), read_cohort(cohort.cohort)
    profiles = open_profiles(cohort.expression)
    train = select(shards, table, "train", settings.gan.tiles_per_slide)
    test = select(shards, table, "test", 1_000_000)
    return Sizes(
        profiles=int((profiles.obs["split"] == "train").sum()),
        genes=profiles.n_vars,
        epoch_tiles=int(np.sum(train.counts)),
        classes=int(train.table["tissue"].nunique()),
        test_tiles=int(np.sum(test.counts)),
        tile_px=shards.tile_px,
    )


def _made_from(cohort: Cohort, settings: Settings) -> str:
    """Digest of all that the experiments read."""
    files = (cohort.cohort, cohort.expression, cohort.external, cohort.tissue_map, cohort.truth, cohort.scores)
    read: list[Any] = [None if path is None else sha256_of_file(path) for path in files]
    return sha256_of([open_dataset(cohort.shards).digest, *read, settings.to_dict()])
