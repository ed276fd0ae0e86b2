"""Expression that depends on hidden programmes through gene modules, written as GTEx writes its own."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.config.simulation import SimulationConfig
from rnagan.io.files import atomic_path
from rnagan.runtime import rng
from rnagan.simulation.donors import ISCHAEMIA, PROGRAMMES, draw_subjects

NUISANCES = 3  # factors such as ischaemic time: in the RNA, not in the image
MODULE_SHARE = 0.08  # of all genes follow one programme or nuisance
MARKER_SHARE = 0.06  # of all genes mark one tissue
LOG_NOISE_SD = 0.25  # of each gene and sample, natural logarithm
ISCHAEMIC_SHARE = 0.04  # of all genes follow ischaemic time, in a confounded cohort
ISCHAEMIC_MINUTES = (720, 660)  # at ischaemia 0, and for one unit of it
DEPTH = 2e7  # reads a sample
SPOT_DEPTH_SD = 0.35  # of the counts of spots, natural logarithm
SECTION_SD = 0.3  # of a gene's offset in a section, natural logarithm


def simulate_tpm(config: SimulationConfig, truth: pd.DataFrame) -> NDArray[np.float32]:
    """TPM (samples, genes) of the samples of `truth`, in its order.

    Each programme and nuisance moves a module of genes up or down in log space; markers tell the tissues apart; noise
    is log-normal beside the Poisson noise of counting reads, so low genes have zeros.
    """
    random = rng.generator(config.seed, "simulation/expression")
    level = _levels(config, truth, random)
    reads = random.poisson(level / level.sum(axis=1, keepdims=True) * DEPTH * config.genes / 20_000)
    return (reads / np.maximum(reads.sum(axis=1, keepdims=True), 1) * 1e6).astype(np.float32)


def simulate_counts(config: SimulationConfig, truth: pd.DataFrame) -> NDArray[np.float32]:
    """Counts (spots, genes) of the spots of `truth`, in its order, as `simulate_tpm` has it, with these differences.

    A spot has a few thousand counts (`spot_counts`, log-normal with SD SPOT_DEPTH_SD), so most genes are often 0; and
    each section (`slide`) has an offset of its own for every gene (SD SECTION_SD, natural logarithm), as a batch has.
    """
    random = rng.generator(config.seed, "simulation/expression")
    level = _levels(config, truth, random)
    names, section = np.unique(truth["slide"].to_numpy(str), return_inverse=True)
    level *= np.exp(random.normal(0, SECTION_SD, (len(names), config.genes)))[section]
    depth = config.spot_counts * np.exp(random.normal(0, SPOT_DEPTH_SD, len(truth)))
    return random.poisson(level / level.sum(axis=1, keepdims=True) * depth[:, None]).astype(np.float32)


def _levels(config: SimulationConfig, truth: pd.DataFrame, random: np.random.Generator) -> NDArray[np.float64]:
    """Expression (samples, genes) before it is counted, in any unit."""
    factors, loadings = _factors_and_loadings(config, truth, random)
    log_mean = random.normal(2.5, 1.8, config.genes) + factors @ loadings
    for tissue in config.tissue_names:
        markers = random.choice(config.genes, max(2, round(MARKER_SHARE * config.genes)), replace=False)
        log_mean[np.ix_(np.flatnonzero(truth["tissue"] == tissue), markers)] += random.uniform(1, 3, len(markers))
    return np.exp(log_mean + random.normal(0, LOG_NOISE_SD, log_mean.shape))


def programme_loadings(config: SimulationConfig, truth: pd.DataFrame) -> pd.DataFrame:
    """What one unit of each programme and nuisance adds to the natural logarithm of a gene's level: columns gene,
    programme, loading, one row a gene that a programme moves. The genes of `simulate_tpm` of the same `truth`."""
    loadings = _factors_and_loadings(config, truth, rng.generator(config.seed, "simulation/expression"))[1]
    nuisances = [f"nuisance_{k + 1}" for k in range(NUISANCES)]
    names = np.array([*PROGRAMMES, *nuisances, *([ISCHAEMIA] if config.confounded else [])], dtype=object)
    programme, gene = np.nonzero(loadings)
    ids = np.array(gene_names(config)[0], dtype=object)
    return pd.DataFrame({"gene": ids[gene], "programme": names[programme], "loading": loadings[programme, gene]})


def _factors_and_loadings(
    config: SimulationConfig, truth: pd.DataFrame, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Programmes and nuisances of the samples (samples, factors), and the genes of each (factors, genes)."""
    factors = np.column_stack(
        [truth[list(PROGRAMMES)].fillna(0.0).to_numpy(), random.uniform(-1, 1, (len(truth), NUISANCES))]
    )
    loadings = np.zeros((factors.shape[1], config.genes))
    for row in loadings:
        module = random.choice(config.genes, max(4, round(MODULE_SHARE * config.genes)), replace=False)
        row[module] = random.normal(0, 0.6, len(module))
    if config.confounded:  # from a stream of its own, so all else is as in the same cohort without it
        own = rng.generator(config.seed, "simulation/ischaemic genes")
        module = own.choice(config.genes, max(4, round(ISCHAEMIC_SHARE * config.genes)), replace=False)
        row = np.zeros(config.genes)
        row[module] = own.normal(0, 0.6, len(module))
        factors, loadings = np.column_stack([factors, truth[ISCHAEMIA]]), np.vstack([loadings, row])
    return factors, loadings


def gene_names(config: SimulationConfig) -> tuple[list[str], list[str]]:
    """Versioned ids in the manner of Ensembl's, and symbols."""
    ids = [f"ENSG{90_000_000_000 + k:011d}.{k % 17 + 1}" for k in range(config.genes)]
    return ids, [f"SIM{k:04d}" for k in range(config.genes)]


def write_gct(path: Path, tpm: NDArray[np.float32], samples: list[str], ids: list[str], symbols: list[str]) -> None:
    """Write a GCT 1.2 table, gzipped, genes in rows."""
    with atomic_path(path) as temporary, gzip.GzipFile(temporary, "wb", compresslevel=3, mtime=0) as handle:
        handle.write(f"#1.2\n{len(ids)}\t{len(samples)}\n".encode())
        handle.write("\t".join(["Name", "Description", *samples]).encode() + b"\n")
        for k, (gene, symbol) in enumerate(zip(ids, symbols, strict=True)):
            values = "\t".join(map("{:.4g}".format, tpm[:, k].tolist()))
            handle.write(f"{gene}\t{symbol}\t{values}\n".encode())


def write_attributes(path: Path, truth: pd.DataFrame) -> None:
    """Write GTEx-like sample attributes: SAMPID, SMTS, SMTSD, SMCENTER."""
    table = truth[["sample", "tissue", "tissue", "site"]].set_axis(["SAMPID", "SMTS", "SMTSD", "SMCENTER"], axis=1)
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)


def write_subjects(path: Path, config: SimulationConfig, truth: pd.DataFrame) -> None:
    """Write who the donors are: donor, age in years, sex, ischaemic_min (ischaemic time in minutes)."""
    at_zero, per_unit = ISCHAEMIC_MINUTES
    subjects = draw_subjects(config)
    minutes = (at_zero + per_unit * subjects[ISCHAEMIA]).round().astype(int)
    table = subjects[["age", "sex"]].assign(ischaemic_min=minutes)
    table.insert(0, "donor", truth["donor"].unique())
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)
