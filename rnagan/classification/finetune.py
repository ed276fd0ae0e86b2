"""Does pretraining on generated tiles help to tell real ones apart? Starts compared in one cross-validation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import rnagan
from rnagan.classification import accuracy
from rnagan.classification.classifier import SIMCLR, Start, from_imagenet, from_scratch, from_simclr
from rnagan.classification.cross_validation import cross_validate, make_folds
from rnagan.classification.labelled_tiles import choose_slides, read_tiles
from rnagan.classification.paired_comparison import compare
from rnagan.cohort.filter import matching_rows
from rnagan.cohort.leakage import refuse_seen
from rnagan.cohort.table import read_cohort
from rnagan.config.classifier import ClassifierConfig
from rnagan.data.index import ShardSet, open_dataset
from rnagan.io.files import sha256_of, write_json
from rnagan.reports.figures import confusion_figure, fold_figure
from rnagan.reports.pages import embedded, write_template
from rnagan.runtime import progress


@dataclasses.dataclass(frozen=True)
class FinetuneInputs:
    """Paths; `shards` may be a URL. `pretrained`: a run of SimCLR; `imagenet`: torchvision's weights."""

    shards: Path | str
    cohort: Path
    pretrained: Path | None = None
    imagenet: Path | None = None


def finetune(config: ClassifierConfig, inputs: FinetuneInputs, out: Path, dry_run: bool = False) -> list[str]:
    """Train from every start in every fold; writes `out/result.json`, `report.html`, `confusion.png` and `folds.png`,
    and returns what to tell the user, line by line.

    Finished folds of the same inputs and settings, in `out/folds`, are used again.
    """
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    cohort = cohort[matching_rows(cohort, config.where)]
    rows = choose_slides(shards, cohort, config.label, config.per_class, config.seed)
    starts = _starts(config, inputs, shards, rows)
    classes = sorted(rows["label"].unique())
    if dry_run:
        return _describe(rows, classes, starts)
    if config.threads:
        torch.set_num_threads(config.threads)
    data = read_tiles(shards, rows, classes, config.resolution or shards.tile_px)
    folds = make_folds(data.labels, data.donors, config.folds, classes, config.seed)
    made_from = sha256_of([shards.digest, rows.to_dict("list")])
    passes = len(starts) * config.epochs * sum(len(train) for train, _ in folds)
    found = {}
    with progress.bar(passes, "img", "Folds") as bar:
        for start in starts:
            found[start.name] = cross_validate(
                data, folds, classes, start, config, made_from, Path(out) / "folds", bar.update
            )
    result = compare(data, folds, classes, found, config.seed) | {
        "classes": classes,
        "tiles": rows.groupby("label")["tiles"].sum().to_dict(),
        "donors": rows.groupby("label")["donor"].nunique().to_dict(),
        "donors_by_split": rows.groupby("split")["donor"].nunique().to_dict(),
        "weights": {start.name: start.digest for start in starts},
        "settings": config.to_dict(),
        "notes": _notes(config, rows, starts),
        "rnagan": rnagan.__version__,
    }
    confusion_figure(
        Path(out) / "confusion.png", {n: np.array(s["confusion"]) for n, s in result["starts"].items()}, classes
    )
    fold_figure(
        Path(out) / "folds.png", {n: {m: s[m]["folds"] for m in accuracy.MEASURES} for n, s in result["starts"].items()}
    )
    write_template(Path(out) / "report.html", "finetune.html", result=result, pictures=embedded(_pictures(Path(out))))
    write_json(Path(out) / "result.json", result)
    return [*_describe(rows, classes, starts), *_told(result, Path(out))]


def _starts(config: ClassifierConfig, inputs: FinetuneInputs, shards: ShardSet, rows: pd.DataFrame) -> list[Start]:
    starts = [from_scratch()]
    if inputs.pretrained is not None:
        start, pretrained = from_simclr(inputs.pretrained, config)
        seen = pretrained.record["donors"]
        if seen is None and pretrained.record["made_from"]["shards"] == shards.digest:
            raise ValueError(
                f"{inputs.pretrained} was pretrained on these very tiles, test donors' among them; pretrain on "
                "generated tiles, or with --cohort, and choose other donors here: --where split=test."
            )
        refuse_seen(rows["donor"], seen or (), "any fold", str(inputs.pretrained), "--where split=test")
        starts.append(start)
    if inputs.imagenet is not None:
        starts.append(from_imagenet(inputs.imagenet))
    return starts


def _notes(config: ClassifierConfig, rows: pd.DataFrame, starts: list[Start]) -> list[str]:
    notes = [
        f"{name} has {count:,} tiles, fewer than the {config.per_class:,} asked for."
        for name, count in rows.groupby("label")["tiles"].sum().items()
        if count < config.per_class
    ]
    trained_on = rows.loc[rows["split"] == "train", "donor"].nunique()
    if trained_on and any(start.name == SIMCLR for start in starts):
        notes.append(
            f"{trained_on} donors here are of the training split: a generator trained with this cohort table has seen "
            "their tiles, and what was generated by it may know them. Donors it hasn't seen: --where split=test."
        )
    return notes


def _describe(rows: pd.DataFrame, classes: list[str], starts: list[Start]) -> list[str]:
    told = [
        f"{rows.loc[rows['label'] == name, 'tiles'].sum():,} tiles of {name} "
        f"({rows.loc[rows['label'] == name, 'donor'].nunique():,} donors)"
        for name in classes
    ]
    return [f"{', '.join(told)}; starts: {', '.join(start.name for start in starts)}."]


def _told(result: dict[str, Any], out: Path) -> list[str]:
    lines = list(result["notes"])
    for name, found in result["starts"].items():
        parts = [
            f"{measure} {found[measure]['mean']:.2%} ± {found[measure]['sd']:.2%}" for measure in accuracy.MEASURES
        ]
        lines.append(f"{name}: {', '.join(parts)}")
    for row in result["comparisons"]:
        if row["measure"] == "accuracy":
            p = row["corrected_t_test"]["p"]
            lines.append(
                f"{row['second']} less {row['first']}: accuracy {row['difference']:+.2%}, corrected t-test "
                f"p {'–' if p is None else format(p, '.3f')}, donors permuted p {row['donor_permutation']['p']:.3f}"
            )
    return [*lines, f"{out / 'report.html'}"]


def _pictures(out: Path) -> list[tuple[Path, str]]:
    return [
        (out / "folds.png", "Accuracy and F1 of each fold; lines join the same fold."),
        (out / "confusion.png", "Confusion matrices, summed over the test folds (article: figure S4)."),
    ]
