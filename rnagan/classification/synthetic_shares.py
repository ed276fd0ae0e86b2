"""What generated tiles are good for: a classifier trained on real ones, with generated ones added, and on these alone.

The same folds, first weights and test tiles for all; at several numbers of real donors. Figure S4's classifier.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rnagan
from rnagan.classification import accuracy
from rnagan.classification.classifier import Start, check_batch, from_imagenet, from_scratch, from_simclr
from rnagan.classification.cross_validation import (
    OutOfFold,
    Rows,
    TrainingSets,
    cross_validate,
    make_folds,
    result_settings,
)
from rnagan.classification.labelled_tiles import ChosenTiles, Labelled, choose_tiles, read_tiles
from rnagan.classification.paired_comparison import compare, recorded_differences
from rnagan.classification.synthetic_tiles import Synthetic, few_donors, generate_labelled, mixed, need_of
from rnagan.config.classifier import ClassifierConfig
from rnagan.io.files import sha256_of, write_json
from rnagan.reports.figures import curves
from rnagan.reports.pages import embedded, write_template
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

MOST_BESIDE_REAL = 0.95  # of generated tiles in a training set that has real ones: 19 for each
RESULT, PAGE, PICTURE = "synthetic.json", "synthetic.html", "synthetic.png"


@dataclasses.dataclass(frozen=True)
class SyntheticInputs:
    """Paths; `shards` may be a URL. `generator`: a run of a generator that has seen none of the donors. `pretrained` or
    `imagenet`: the weights from which every training starts, else none.

    `shares`: of generated tiles in a training set, 0 to 1; `real_donors`: of each class, 0 for all of a fold.
    """

    shards: Path | str
    cohort: Path
    generator: Path
    expression: Path
    shares: tuple[float, ...]
    real_donors: tuple[int, ...]
    pretrained: Path | None = None
    imagenet: Path | None = None


def named(share: float) -> str:
    """A share of generated tiles in words."""
    return {0.0: "real alone", 1.0: "generated alone"}.get(share, f"{100 * share:.10g}% generated")


def check_shares(shares: Sequence[float], config: ClassifierConfig) -> None:
    """Raise `ValueError` where two shares are the same, or one is too near to 1, or training would stop early."""
    if len({named(share) for share in shares}) < len(shares):
        raise ValueError("Two values of --synthetic-share are the same; give each once.")
    if steep := [share for share in shares if MOST_BESIDE_REAL < share < 1]:
        raise ValueError(
            f"--synthetic-share {steep[0]:g} would need {steep[0] / (1 - steep[0]):,.0f} generated tiles for each real "
            f"one; give at most {MOST_BESIDE_REAL:g}, or 1 for generated tiles alone."
        )
    if config.validation_share:
        raise ValueError(
            "With --synthetic-share real and generated tiles together would decide when a training stops early; leave "
            "out --validation-share."
        )


def synthetic_shares(
    config: ClassifierConfig,
    inputs: SyntheticInputs,
    out: Path,
    dry_run: bool = False,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Train and test with every share at every number of real donors; returns the result as lines for a terminal.

    Writes `synthetic.json`, `synthetic.html` and `synthetic.png` into `out`; finished folds are kept in `out/folds`.
    Every two shares of a number of donors are compared by the tests of `compare`. Raises `ValueError` where the
    generator has seen a donor of any fold, by its own record, and what `check_shares` refuses.
    """
    check_shares(inputs.shares, config)
    chosen = choose_tiles(inputs.shards, inputs.cohort, config)
    shards, rows, classes, data_digest = chosen.shards, chosen.rows, chosen.classes, chosen.digest
    start = _start(config, inputs, chosen)
    data = read_tiles(shards, rows, classes, config.resolution or shards.tile_px)
    folds = make_folds(data.labels, data.donors, config.folds, classes, config.seed)
    few = {
        count: [
            (few_donors(data, train, count, classes, config.seed, number), test)
            for number, (train, test) in enumerate(folds)
        ]
        for count in inputs.real_donors
    }
    needs = []
    for own in few.values():
        for train, test in own:
            for share in inputs.shares:
                need = need_of(data, train, test, share, classes)
                check_batch(sum(need.tiles) + (0 if share == 1 else len(train)), config)
                needs += [need] if share else []
    if dry_run:
        counts = ", ".join(f"{(rows['label'] == name).sum()} slides of {name}" for name in classes)
        return [f"{counts}; start: {start.name}; {len(few) * len(inputs.shares) * len(folds)} trainings."]
    synthetic = generate_labelled(
        inputs.generator,
        inputs.expression,
        chosen.cohort,
        inputs.cohort,
        rows,
        data.tiles.shape[1],
        classes,
        config.label,
        needs,
        config.seed,
        device,
    )
    if config.threads:
        torch.set_num_threads(config.threads)
    found: dict[int, dict[str, OutOfFold]] = {count: {} for count in few}
    trainings = len(few) * len(inputs.shares) * len(folds)
    with progress.bar(trainings, "training", "Folds") as bar:
        for count, own in few.items():
            for share in inputs.shares:
                digest = sha256_of([count, share, *([synthetic.model, synthetic.source] if share else [])])
                sets = TrainingSets(
                    f"{count}-donors-{share:.12g}",
                    digest,
                    functools.partial(_set, data, own, share, synthetic, classes),
                )
                found[count][named(share)] = cross_validate(
                    data, own, classes, start, config, data_digest, out / "folds", device=device, training=sets
                )
                bar.update(len(folds))
    result = {
        "classes": classes,
        "tiles": rows.groupby("label")["tiles"].sum().to_dict(),
        "donors": rows.groupby("label")["donor"].nunique().to_dict(),
        "profiles": synthetic.profiles,
        "generator": synthetic.model,
        "start": start.name,
        "shares": list(inputs.shares),
        "settings": config.to_dict(),
        "real_donors": [
            {"count": count, "tiles": [len(train) for train, _ in few[count]]}
            | compare(data, few[count], classes, own, config.seed)
            for count, own in found.items()
        ],
        "rnagan": rnagan.__version__,
    }
    _write(result, out)
    protocol = {
        "settings": result_settings(config),
        "data": data_digest,
        "profiles": synthetic.source,
        "start": start.digest,
        "shares": list(inputs.shares),
        "real_donors": list(inputs.real_donors),
    }
    pictures = [out / PICTURE]
    record_evaluation(out, "synthetic_shares", inputs.generator, _scores(result), protocol, out / PAGE, pictures)
    return [*_lines(result), f"{out / PAGE}"]


def _start(config: ClassifierConfig, inputs: SyntheticInputs, chosen: ChosenTiles) -> Start:
    """The weights that all trainings start from."""
    if inputs.pretrained is not None and inputs.imagenet is not None:
        raise ValueError("With --synthetic-share all trainings start alike: give --pretrained or --imagenet, not both.")
    if inputs.imagenet is not None:
        return from_imagenet(inputs.imagenet)
    if inputs.pretrained is None:
        return from_scratch()
    return from_simclr(inputs.pretrained, config, chosen.shards.digest, chosen.people)[0]


def _set(
    data: Labelled,
    folds: Sequence[tuple[Rows, Rows]],
    share: float,
    synthetic: Synthetic,
    classes: list[str],
    fold: int,
) -> Labelled:
    return mixed(data, *folds[fold], share, synthetic, classes)


def _donors_in_words(count: int) -> str:
    return f"{count} real donor{'s' if count > 1 else ''} of each class" if count else "all real donors"


def _scores(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """DONORS/TRAINING SET/MEASURE, and the differences of every two sets."""
    scores = {}
    for own in result["real_donors"]:
        for name, found in own["starts"].items():
            for measure in accuracy.MEASURES:
                of = found[measure]
                at = f"{own['count'] or 'all'}/{name}/{accuracy.RECORDED[measure]}"
                scores[at] = {"value": of["mean"], "low": of["low"], "high": of["high"]}
        scores |= recorded_differences(own["comparisons"], f"{own['count'] or 'all'}/")
    return scores


def _lines(result: dict[str, Any]) -> list[str]:
    lines = []
    for own in result["real_donors"]:
        lines.append(f"{_donors_in_words(own['count']).capitalize()} ({np.mean(own['tiles']):,.0f} real tiles a fold):")
        for name, found in own["starts"].items():
            lines.append(f"  {name}: accuracy {found['accuracy']['mean']:.2%} ± {found['accuracy']['sd']:.2%}")
        for row in own["comparisons"]:
            if row["measure"] == "accuracy":
                p = row["corrected_t_test"]["p"]
                lines.append(
                    f"  {row['second']} less {row['first']}: {row['difference']:+.2%} ({row['low']:+.2%} to "
                    f"{row['high']:+.2%}), corrected t-test p {'–' if p is None else format(p, '.3f')}, "
                    f"donors permuted p {row['donor_permutation']['p']:.3f}"
                )
    return lines


def _write(result: dict[str, Any], out: Path) -> None:
    """The picture, the page, and the result last."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for own in sorted(result["real_donors"], key=lambda own: np.mean(own["tiles"])):
        for name, found in own["starts"].items():
            point = {"tiles": float(np.mean(own["tiles"]))}
            rows.setdefault(name, []).append(point | {m: found[m]["mean"] for m in accuracy.MEASURES})
    panels = {"accuracy": "accuracy", "f1": "F1 (macro)"}
    curves(out / PICTURE, rows, panels, "real tiles of a fold's donors", "tiles")
    pictures = embedded([(out / PICTURE, "Against the real tiles of a fold's donors; a line a training set.")])
    words = [_donors_in_words(own["count"]) for own in result["real_donors"]]
    write_template(out / PAGE, PAGE, result=result, words=words, pictures=pictures)
    write_json(out / RESULT, result)
