"""Steps of our trainer, in the precision asked for at the first request; also what this machine can do at best."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peak import bytes_per_second, flops_per_second
from serving import serve

from rnagan.config.vae import VAEConfig
from rnagan.data.profile_layout import Arrangement
from rnagan.runtime.memory import keep_freed_memory
from rnagan.tracking.run_log import RunLog
from rnagan.training.launch import start
from rnagan.training.run import TrainingRun
from rnagan.training.vae.data import VAEData, training_batches
from rnagan.training.vae.trainer import VAETrainer

_RUN: dict[str, Any] = {}


def run(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "limits":
        side = request["matrix"]  # the memory that is read is of their size too
        return {"peak": flops_per_second(side), "bandwidth": bytes_per_second(6 * side**2)}
    if not _RUN:
        _set_up(request)
    trainer, batches = _RUN["trainer"], _RUN["batches"]
    parts = np.zeros(3)
    for _ in range(request["steps"]):
        clock = [time.perf_counter()]
        batch = next(batches)
        clock.append(time.perf_counter())
        trainer.optimizer.zero_grad()
        trainer.means.add(trainer.descend(batch))
        clock.append(time.perf_counter())
        trainer.optimizer.step()
        clock.append(time.perf_counter())
        trainer.step += 1
        parts += np.diff(clock)
    names = ("waiting", "forward_backward", "optimiser")
    return {
        "seconds": float(parts.sum()),
        "tiles": request["steps"] * trainer.config.batch_size,
        "weights": sum(weight.numel() for weight in trainer.network.parameters()),
        **dict(zip(names, (parts / request["steps"]).tolist(), strict=True)),
    }


def _set_up(request: dict[str, Any]) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    keep_freed_memory()  # as train_vae does
    widths = {"hidden": ",".join(map(str, request["hidden"])), "latent": request["latent"]}
    widths["architecture"] = "mlp"  # the network of the plain loop
    config = VAEConfig(**widths, precision=request["precision"], threads=len(os.sched_getaffinity(0)))
    RunLog._start_mlflow = lambda *_: None  # type: ignore[method-assign]
    draw, profiles, genes = np.random.default_rng(0), request["profiles"], request["genes"]
    samples = [f"S{k}" for k in range(profiles + 8)]
    split = ["train"] * profiles + ["validation"] * 8
    obs = pd.DataFrame({"donor": samples, "tissue": "x", "split": split}, index=samples)
    values = draw.gamma(1.0, 20.0, (len(samples), genes)).astype(np.float32)
    names = [f"ENSG{k:011d}" for k in range(genes)]
    arrangement = Arrangement.dealt(samples)
    made_from = {"expression": "made up"}
    data = VAEData(obs.loc[arrangement.samples], names, "tpm", "donor", made_from, arrangement, values)
    folder = Path(request["out"]).parent / f"run_{os.getpid()}"
    accelerator = start(config.precision, config.seed, config.threads)
    trainer = VAETrainer(config, TrainingRun(folder, config, accelerator, made_from, "profiles"), data)
    batches = training_batches(data, trainer.selection, trainer.transform, config, 0)
    for group in trainer.optimizer.param_groups:
        group["lr"] = config.lr
    _RUN.update(trainer=trainer, batches=batches)


if __name__ == "__main__":
    serve(run)
