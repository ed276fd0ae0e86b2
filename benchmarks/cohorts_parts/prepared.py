"""Cohort tables and expression files of the cohorts that are compared, and the models trained on them."""

import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from shared.commands import run_command

from rnagan.cohort.build import CohortOptions, make_cohort_table
from rnagan.expression.build_h5ad import build_expression
from rnagan.expression.h5ad import open_profiles

SOURCES = {  # file of --data, units, tissue where it has no such column
    "gtex": ("gtex_26tissues_520x467_sepira.csv.gz", "log2", ""),
    "atlas": ("hpa_32tissues_200x467_sepira.csv.gz", "log2", ""),
    "three": ("gtex_brain_heart_liver_tpm_180x2379.csv.gz", "tpm", ""),
    "counts": ("gtex_heart_muscle_counts_20x58037_erssa.csv.gz", "counts", ""),
    "tcga": ("tcga_stad_counts_10x60483_iobr.csv.gz", "counts", "Stomach"),
}
GENE_MAP = "sepira_467_entrez_to_ensembl_symbol.csv"
OTHERS = ("atlas", "counts", "tcga")  # everybody in test
# Of each split, tissues that a further model isn't trained on: organs of another kind than those that stay.
UNKNOWN = (
    ("Brain", "Liver", "Testis", "Spleen", "Skin"),
    ("Blood", "Heart", "Lung", "Pancreas", "Pituitary"),
    ("Adrenal Gland", "Muscle", "Nerve", "Stomach", "Thyroid"),
)
OURS = "--hidden 512 --latent 64 --beta 0.0001 --gene-dropout 0 --lr 1e-4 --batch-size 32 --patience-epochs 25"
# As it was before ranks and the linear path.
ZSCORE = "--transform zscore --architecture mlp --beta 0.0005 --gene-dropout 0.5 --lr 1e-3 --patience-epochs 60"
WIDER = "--hidden 1024"  # for brain, heart and liver, of 2,379 genes


class Prepared(NamedTuple):
    """Of a split: its seed, .h5ad files by cohort, and models: `ours`, `zscore`, `unknown` (trained without some
    tissues) and `three` (brain, heart and liver)."""

    seed: int
    expression: dict[str, Path]
    models: dict[str, Path]


def prepare(folder: Path, data: Path, splits: int, epochs: int, workers: int) -> list[Prepared]:
    """Build all files and train all models; what is there from an earlier run is kept."""
    others = {name: _expression(folder, data, name) for name in OTHERS}
    prepared = []
    for seed in range(splits):
        own = folder / f"split-{seed}"
        files = {name: _expression(own, data, name, seed) for name in SOURCES if name not in OTHERS}
        names = ("ours", "zscore", "unknown", "three")
        prepared.append(Prepared(seed, files | others, {name: own / name for name in names}))
    commands = [command for each in prepared for command in _trainings(each, epochs)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run_command, commands))
    return prepared


def training(expression: Path, out: Path, epochs: int, *options: str) -> str:
    """Command line that trains a β-VAE at the size of this benchmark."""
    own = f"{OURS} --epochs {epochs} --threads 1".split()
    return shlex.join(["rnagan", "train-vae", "--expression", str(expression), "--out", str(out), *own, *options])


def _trainings(each: Prepared, epochs: int) -> list[str]:
    tissues = set(open_profiles(each.expression["gtex"]).obs["tissue"])
    known = ",".join(sorted(tissues - {*UNKNOWN[each.seed % len(UNKNOWN)]}))
    seed = ("--seed", str(each.seed))
    options = {
        "ours": (),
        "zscore": tuple(ZSCORE.split()),
        "unknown": ("--where", f"tissue={known}"),
        "three": tuple(WIDER.split()),
    }
    files = {name: each.expression["three" if name == "three" else "gtex"] for name in options}
    return [training(files[name], each.models[name], epochs, *seed, *own) for name, own in options.items()]


def _expression(folder: Path, data: Path, name: str, seed: int = 0) -> Path:
    """The .h5ad of a cohort, in genes by Ensembl id."""
    file, units, tissue = SOURCES[name]
    table, cohort, out = data / "expression" / file, folder / f"{name}.csv", folder / f"{name}.h5ad"
    folder.mkdir(parents=True, exist_ok=True)
    options = CohortOptions(seed=seed, tissue=tissue, all_in="test" if name in OTHERS else None)
    make_cohort_table(table, None, cohort, options)
    by_entrez = name in ("gtex", "atlas")
    build_expression(table, cohort, out, units=units, gene_map=data / "expression" / GENE_MAP if by_entrez else None)
    return out
