"""One VAE run from paths: open the profiles, train, and leave a model folder."""

from collections.abc import Mapping
from pathlib import Path

from rnagan.cohort.table import claim_of
from rnagan.config.vae import VAEConfig
from rnagan.expression.units import CENTRED
from rnagan.runtime.distributed import processes
from rnagan.runtime.progress import say
from rnagan.training.launch import start
from rnagan.training.run import TrainingRun, total_steps
from rnagan.training.same_run import is_made
from rnagan.training.vae.data import VAEData, VAEInputs, open_vae_data
from rnagan.training.vae.trainer import VAETrainer

_SPARSE = 0.6  # share of zeros; protein-coding genes of a bulk profile have about 0.2


def train_vae(config: VAEConfig, inputs: VAEInputs, run: Path, tags: Mapping[str, str] | None = None) -> bool:
    """Train a β-VAE; `run`/model is the product. False if a signal stopped it before its end.

    A finished run is left as it is, an interrupted one goes on from its last checkpoint; both refuse other settings or
    inputs than they were started with. `tags`: what MLflow shall say of the run beside its own tags; `sweep` makes it a
    child of that sweep's run.
    """
    accelerator = start(config.precision, config.seed, config.threads, wait_minutes=config.wait_minutes)
    data, model = open_vae_data(inputs, config.where, processes()), run / "model"
    if is_made(config, data.made_from, run, model / "model.json", model, accelerator):
        return True
    for line in advice(config, data):
        say(line)
    trainer = VAETrainer(config, TrainingRun(run, config, accelerator, data.made_from, "profiles"), data, tags)
    with trainer.run as opened:
        opened.finished = trainer.train()
        if opened.finished:
            trainer.finish()
        else:
            say(f"Stopped at step {trainer.step:,} of {trainer.total_steps:,}; start again to go on.")
    return opened.finished


def describe(config: VAEConfig, inputs: VAEInputs) -> list[str]:
    """Profiles, genes and steps of a run, line by line, without starting it."""
    data = open_vae_data(inputs, config.where)
    counts = data.obs["split"].value_counts()
    steps = total_steps(config, int(counts["train"]))
    return [
        f"profiles: {', '.join(f'{count:,} {name}' for name, count in counts.items())}",
        f"tissues: {', '.join(f'{count:,} {name}' for name, count in data.obs['tissue'].value_counts().items())}",
        f"genes: {len(data.genes):,} in {data.units}",
        f"steps: {steps:,} of {config.batch_size} profiles over all processes, {steps * config.batch_size:,} in all",
        *advice(config, data),
    ]


def advice(config: VAEConfig, data: VAEData) -> list[str]:
    """What was held out, where that isn't donors; and a warning where ranks are asked for of profiles whose values are
    mostly 0, by the first of the training split."""
    train, claim = data.split("train"), claim_of(data.split_by)
    lines = [] if claim is None else [claim.sentence]
    if config.transform != "normal_scores" or train is None or data.units == CENTRED:
        return lines
    zeros = float((next(data.blocks(train)) == 0).mean())
    if zeros < _SPARSE:
        return lines
    return [
        *lines,
        f"Warning: {zeros:.0%} of the training values are 0, and their ranks are ties; for counts of spots take "
        "--preset spots (transform lognorm).",
    ]
