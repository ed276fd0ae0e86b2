"""The article's figure 4D on real tiles: tiles generated from another cohort's profiles, called by a classifier."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shared.commands import run_command, train_for

from rnagan.article.demos import SCALES, unpaired
from rnagan.classification.external_tiles import ExternalInputs, evaluate_external
from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.commands.config_options import read_config
from rnagan.config.classifier import ClassifierConfig
from rnagan.expression.build_h5ad import build_expression
from rnagan.io.files import read_json

from .prepared import SOURCES, training

SIDE = 64  # px
GAN = f"--preset wgan_gp --resolution {SIDE} --generator-width 24 --critic-width 24 --diffaugment none --batch-size 16"
ENDS = "--validate-every 0 --checkpoint-every 100000000 --threads 1"
TISSUES = ("lung=Lung", "colon=Colon")


def figure_4d(folder: Path, run: SimpleNamespace) -> dict[str, Any]:
    """Train β-VAE and GAN on GTEx and real tiles, and classify the tiles of the Atlas's lung and colon profiles.

    `figure_4d`: accuracy; `figure_4d_picture`: a grid of the tiles.
    """
    data, runs = run.data.resolve(), folder / "runs"
    stages = {stage.name: stage.command for stage in unpaired(runs, folder / "data", data, SCALES["full"])}
    for name in ("tiles", "splits", "expression"):
        run_command(stages[name])
    expression, cohort = folder / "data/expression.h5ad", folder / "data/cohort.csv"
    run_command(training(expression, runs / "vae", run.epochs))
    words = shlex.split(stages["rnagan"])
    own = f"--images {run.images} {GAN} {ENDS}"
    train_for(shlex.join([*words[: words.index("--out")], "--out", str(runs / "rnagan"), *own.split()]), run.seconds)
    atlas, out = _atlas(folder, data), folder / "external"
    settings = {"epochs": run.classifier_epochs, "per_class": run.classifier_tiles, "threads": 1}
    config = read_config(ClassifierConfig, None, settings, "paper_external")
    inputs = ExternalInputs(runs / "rnagan", atlas, folder / "data/tiles", cohort, TISSUES)
    evaluate_external(config, inputs, out, run.tiles, "cpu")
    result = read_json(out / "result.json")
    generated, held_out = (result["found"][name] for name in ("generated", "real"))
    return {
        "figure_4d": generated["accuracy"]["value"],
        "figure_4d_interval": [generated["accuracy"]["low"], generated["accuracy"]["high"]],
        "figure_4d_auc": generated["auc"]["value"],
        "figure_4d_confusion": generated["confusion"],
        "figure_4d_real_tiles": held_out["accuracy"]["value"],
        "figure_4d_flagged": result["profiles"]["all"]["far"],
        "figure_4d_images": read_json(runs / "rnagan/model/model.json")["images"],
        "figure_4d_picture": str(out / "generated.png"),
    }


def _atlas(folder: Path, data: Path) -> Path:
    """The Atlas in the genes of the demonstration, by Entrez id."""
    file, units, _ = SOURCES["atlas"]
    table, cohort, out = data / "expression" / file, folder / "atlas.csv", folder / "atlas.h5ad"
    make_cohort_table(table, None, cohort, CohortOptions(all_in="test"))
    build_expression(table, cohort, out, units=units)
    return out
