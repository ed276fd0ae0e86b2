"""Does pretraining on generated tiles help a classifier of real tiles? Starts compared in one cross-validation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import rnagan
from rnagan.classification import accuracy
from rnagan.classification.classifier import SIMCLR, Start, from_imagenet, from_scratch, from_simclr
from rnagan.classification.cross_validation import OutOfFold, cross_validate, make_folds, result_settings
from rnagan.classification.labelled_tiles import ChosenTiles, choose_tiles, read_tiles
from rnagan.classification.paired_comparison import compare, recorded_differences
from rnagan.config.classifier import ClassifierConfig
from rnagan.io.files import sha256_of, write_json
from rnagan.models.resnet import Pretrained
from rnagan.reports.figures import confusion_figure, fold_figure
from rnagan.reports.pages import embedded, write_template
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

PICTURES = {
    "folds.png": "Accuracy and F1 of each fold; lines join the same fold.",
    "confusion.png": "Confusion matrices, summed over the test folds (article: figure S4).",
}


@dataclasses.dataclass(frozen=True)
class FinetuneInputs:
    """Paths; `shards` may be a URL. `pretrained`: a SimCLR run; `imagenet`: torchvision's weights as safetensors."""

    shards: Path | str
    cohort: Path
    pretrained: Path | None = None
    imagenet: Path | None = None


def finetune(
    config: ClassifierConfig,
    inputs: FinetuneInputs,
    out: Path,
    dry_run: bool = False,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Train and test from every start in every fold; returns the result as lines for the terminal.

    Writes `result.json`, `report.html`, `confusion.png` and `folds.png` into `out`. Finished folds are kept in
    `out/folds` and read again where inputs and settings are the same. `dry_run` only reports tiles, donors and starts.
    """
    chosen = choose_tiles(inputs.shards, inputs.cohort, config)
    shards, rows, classes, data_digest = chosen.shards, chosen.rows, chosen.classes, chosen.digest
    starts, pretrained = _starts(config, inputs, chosen)
    if dry_run:
        return [_inputs_line(rows, classes, starts)]
    if config.threads:
        torch.set_num_threads(config.threads)
    data = read_tiles(shards, rows, classes, config.resolution or shards.tile_px)
    folds = make_folds(data.labels, data.donors, config.folds, classes, config.seed)
    found: dict[str, OutOfFold] = {}
    with progress.bar(len(starts) * config.epochs * sum(len(train) for train, _ in folds), "img", "Folds") as bar:
        for start in starts:
            found[start.name] = cross_validate(
                data, folds, classes, start, config, data_digest, out / "folds", bar.update, device
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
    _write_report(result, out)
    write_json(out / "result.json", result)
    protocol = {
        "settings": result_settings(config),
        "data": data_digest,
        "weights": result["weights"],
        "tiles": result["tiles"],
        "donors": result["donors"],
    }
    record_evaluation(
        out,
        "classifier_folds",
        _evaluated_model(inputs, pretrained, protocol),
        _fold_scores(result),
        protocol,
        out / "report.html",
        [out / name for name in PICTURES],
    )
    return [_inputs_line(rows, classes, starts), *_result_lines(result), f"{out / 'report.html'}"]


def _starts(
    config: ClassifierConfig, inputs: FinetuneInputs, chosen: ChosenTiles
) -> tuple[list[Start], Pretrained | None]:
    """Scratch and the weights that were given, and the SimCLR run among them."""
    starts, pretrained = [from_scratch()], None
    if inputs.pretrained is not None:
        start, pretrained = from_simclr(inputs.pretrained, config, chosen.shards.digest, chosen.people)
        starts.append(start)
    if inputs.imagenet is not None:
        starts.append(from_imagenet(inputs.imagenet))
    return starts, pretrained


def _evaluated_model(inputs: FinetuneInputs, pretrained: Pretrained | None, protocol: dict[str, Any]) -> Path | str:
    """What the folds are an evaluation of: the generator of the tiles of pretraining, or else the SimCLR run.

    Without pretraining they evaluate no trained model; they stand alone under the digest of their protocol.
    """
    if pretrained is None or inputs.pretrained is None:
        return sha256_of(protocol)
    return pretrained.record.get("generator") or inputs.pretrained


def _fold_scores(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """START/MEASURE: mean over folds with its interval; START/MEASURE/fold_K of each fold; differences of starts."""
    scores: dict[str, dict[str, float]] = {}
    for start, found in result["starts"].items():
        for measure in accuracy.MEASURES:
            of, name = found[measure], accuracy.RECORDED[measure]
            scores[f"{start}/{name}"] = {"value": of["mean"], "low": of["low"], "high": of["high"]}
            scores |= {f"{start}/{name}/fold_{k}": {"value": value} for k, value in enumerate(of["folds"], start=1)}
    return scores | recorded_differences(result["comparisons"])


def _notes(config: ClassifierConfig, rows: pd.DataFrame, starts: list[Start]) -> list[str]:
    """What a reader of the scores must know: classes with few tiles, and donors that a generator may have seen."""
    notes = [
        f"{name} has {count:,} tiles, fewer than the {config.per_class:,} asked for."
        for name, count in rows.groupby("label")["tiles"].sum().items()
        if count < config.per_class
    ]
    training_donors = rows.loc[rows["split"] == "train", "donor"].nunique()
    if training_donors and any(start.name == SIMCLR for start in starts):
        notes.append(
            f"{training_donors} donors here are of the training split: a generator trained with this cohort table has "
            "seen their tiles, and its own tiles may resemble them. Donors that it hasn't seen: --where split=test."
        )
    return notes


def _inputs_line(rows: pd.DataFrame, classes: list[str], starts: list[Start]) -> str:
    counts = [
        f"{rows.loc[rows['label'] == name, 'tiles'].sum():,} tiles of {name} "
        f"({rows.loc[rows['label'] == name, 'donor'].nunique():,} donors)"
        for name in classes
    ]
    return f"{', '.join(counts)}; starts: {', '.join(start.name for start in starts)}."


def _result_lines(result: dict[str, Any]) -> list[str]:
    lines = list(result["notes"])
    for name, scores in result["starts"].items():
        parts = [
            f"{measure} {scores[measure]['mean']:.2%} ± {scores[measure]['sd']:.2%}" for measure in accuracy.MEASURES
        ]
        lines.append(f"{name}: {', '.join(parts)}")
    for row in result["comparisons"]:
        if row["measure"] == "accuracy":
            p = row["corrected_t_test"]["p"]
            lines.append(
                f"{row['second']} less {row['first']}: accuracy {row['difference']:+.2%}, corrected t-test "
                f"p {'–' if p is None else format(p, '.3f')}, donors permuted p {row['donor_permutation']['p']:.3f}"
            )
    return lines


def _write_report(result: dict[str, Any], out: Path) -> None:
    """Draw both pictures and write the page."""
    starts = result["starts"]
    matrices = {name: np.array(scores["confusion"]) for name, scores in starts.items()}
    by_fold = {name: {m: scores[m]["folds"] for m in accuracy.MEASURES} for name, scores in starts.items()}
    confusion_figure(out / "confusion.png", matrices, result["classes"])
    fold_figure(out / "folds.png", by_fold)
    pictures = embedded([(out / name, caption) for name, caption in PICTURES.items()])
    write_template(out / "report.html", "finetune.html", result=result, pictures=pictures)
