"""Profiles from anywhere: does a β-VAE of GTEx find the tissues of another cohort, and rebuild profiles as PCA does?

Trained on GTEx (26 tissues, 444 genes) in three splits by donor; the Human Protein Atlas, GTEx's raw counts and tumours
of TCGA are called by their 5 nearest training profiles, in the latent, each cohort in its own units. Beside it:
reconstruction over PCA's, also on brain, heart and liver; unlike profiles flagged; missing genes, with a model on Z
scores; and figure 4D, tiles generated from the Atlas's lung and colon profiles. The last line printed is one JSON
object.
"""

import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cohorts_parts.figure_4d import figure_4d
from cohorts_parts.measured import measure
from cohorts_parts.prepared import prepare
from shared.options import benchmark, takes_data
from shared.others import own_cores
from shared.report import Report, rounded

TISSUE_MAP = Path(__file__).parents[1] / "docs/hpa_tissues.csv"


@benchmark(
    takes_data,
    splits=(3, 1, "Splits by donor, of seeds 0, 1, …; each trains four models."),
    epochs=(400, 2, "Epochs of each β-VAE, at most."),
    repeats=(5, 1, "Draws of missing genes, of each share."),
    seconds=(400, 120, "Seconds of computing that the GAN has, its start with them; 0: no figure 4D."),
    images=(100_000_000, 32, "Images at which the GAN ends at the latest."),
    tiles=(100, 4, "Generated tiles a tissue that are classified."),
    classifier_epochs=(10, 1, "Epochs of the classifier of real tiles."),
    classifier_tiles=(1000, 40, "Real tiles a tissue that it is trained on, at most."),
)
def main(run: SimpleNamespace) -> None:
    report, folder = Report(), (run.cache / "across_cohorts").resolve()
    found = report.attempt(across_cohorts, report, folder, run)
    if run.seconds:
        report.begin("figure 4D")
        found |= report.attempt(figure_4d, folder / "figure-4d", run)
    report.end({name: rounded(value) if isinstance(value, float) else value for name, value in found.items()})


def across_cohorts(report: Report, folder: Path, run: SimpleNamespace) -> dict[str, Any]:
    """Means over splits, and what each split gave."""
    report.begin("training")
    prepared = prepare(folder, run.data.resolve(), run.splits, run.epochs, len(own_cores(run.quick)))
    splits = []
    for each in prepared:
        report.begin(f"split {each.seed}")
        splits.append(measure(each, TISSUE_MAP, run.repeats))
    return _means(splits) | {"splits": [_rounded(split) for split in splits]}


def _means(splits: list[Any]) -> Any:
    """The mean over splits of each figure, in the same tree of names; lists and texts are left to the splits."""
    if isinstance(splits[0], dict):
        means = {name: _means([split[name] for split in splits]) for name in splits[0] if _in_all(name, splits)}
        return {name: value for name, value in means.items() if value is not None}
    return rounded(statistics.mean(splits)) if isinstance(splits[0], int | float) else None


def _in_all(name: str, splits: list[dict[str, Any]]) -> bool:
    return all(name in split for split in splits)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return rounded(value) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
