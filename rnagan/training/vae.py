"""Training of the β-VAE: set up, train, evaluate, save, close.

Profile number n of the run (batch b holds numbers b·B … b·B + B − 1) addresses its place in an endless sequence of
permutations of the training split, and its noise. So every batch is full, nothing is dropped, and the result does not
depend on the number of processes.
"""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan import rng
from rnagan.config import VAEConfig
from rnagan.expression.store import Expression, read_expression
from rnagan.expression.transform import ExpressionTransform
from rnagan.files import read_json, sha256_of_file
from rnagan.latent.space import LatentSpace
from rnagan.losses.vae import VAELoss, kl_per_unit, vae_loss
from rnagan.models.vae import BetaVAE
from rnagan.progress import bar, say
from rnagan.training.checkpoint import checkpoint_path, keep_newest, latest_checkpoint, load_checkpoint, save_checkpoint
from rnagan.training.launch import end_together, start
from rnagan.training.tracking import RunLog
from rnagan.vae import VAEModel, posterior, save_vae

_BATCH = 1024  # profiles that are evaluated at a time


def train_vae(config: VAEConfig, expression: Path, run: Path) -> None:
    """Train a β-VAE on an .h5ad of profiles; `run`/model is the product.

    A finished run is left as it is, an interrupted one goes on from its last checkpoint; both refuse other settings or
    another expression file than they were started with.
    """
    data, digest = read_expression(expression), sha256_of_file(expression)
    told = run / "model" / "model.json"
    if told.is_file():
        _refuse_other_run(read_json(told), config, digest, run)
        say(f"{run / 'model'} is up to date.")
        return
    trainer = VAETrainer(config, data, digest, run)
    finished = False
    try:
        trainer.train()
        trainer.finish()
        finished = True
    finally:
        trainer.close(finished)


def describe(config: VAEConfig, expression: Path) -> list[str]:
    """What a run would do, line by line, without starting it."""
    data = read_expression(expression)
    x_train, _, _ = _split(data)
    steps = total_steps(config, len(x_train))
    return [
        *(f"{name}: {value}" for name, value in config.to_dict().items()),
        f"profiles: {', '.join(f'{count:,} {name}' for name, count in data.obs['split'].value_counts().items())}",
        f"genes: {len(data.genes):,} in {data.units}",
        f"steps: {steps:,} of {config.batch_size} profiles over all processes, {steps * config.batch_size:,} in all",
    ]


class VAETrainer:
    """One run. `step` is the clock; the weights of the lowest validation loss are kept beside those in training."""

    def __init__(self, config: VAEConfig, data: Expression, digest: str, run: Path) -> None:
        self.config, self.data, self.digest, self.run = config, data, digest, run
        x_train, x_validation, _ = _split(data)
        self.transform = ExpressionTransform.fit(x_train, data.genes, data.units, config.logarithm)
        self.accelerator = start(config.precision, config.seed, config.threads)
        self.dtype = torch.float64 if config.precision == "float64" else torch.float32
        self._check_processes()
        self.x_train, self.x_validation = self._standardised(x_train), self._standardised(x_validation)
        self.validation_eps = self._tensor(
            rng.normal(config.seed, "vae validation noise", 0, len(x_validation), config.latent)
        )
        self.steps_an_epoch = math.ceil(len(x_train) / config.batch_size)
        self.total_steps = total_steps(config, len(x_train))
        self.step, self.best_step, self.best_loss = 0, 0, math.inf

        torch.manual_seed(config.seed)
        self.network = BetaVAE(len(self.transform.genes), config).to(self.accelerator.device, self.dtype)
        self.best = copy.deepcopy(self.network)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=config.lr, fused=True)
        resumed = self._resume(optimizer)
        network: nn.Module = self.network
        if config.norm == "batch" and self.accelerator.num_processes > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.model, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.sums = torch.zeros(3, device=self.accelerator.device, dtype=self.dtype)
        self.log = RunLog(
            run,
            config,
            "rnagan-vae",
            main=self.accelerator.is_main_process,
            resumed_at=self.images if resumed else None,
            run_id=resumed.get("mlflow_run"),
        )

    @property
    def images(self) -> int:
        """Profiles seen so far, over all processes."""
        return self.step * self.config.batch_size

    def train(self) -> None:
        """Train until the last step, or until validation has not improved for `patience_epochs`."""
        patience_steps = self.config.patience_epochs * self.steps_an_epoch
        with bar(self.total_steps, "step", "β-VAE", initial=self.step) as progress:
            while self.step < self.total_steps and self.step - self.best_step < patience_steps:
                self._train_step()
                progress.update()
                if self.step % self.steps_an_epoch == 0 or self.step == self.total_steps:
                    self._evaluate()
                if self.step % (self.steps_an_epoch * self.config.checkpoint_epochs) == 0:
                    self.save()

    def save(self) -> None:
        """Write a checkpoint and delete the one before."""
        if self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "best_step": self.best_step,
                "best_loss": self.best_loss,
                "config": self.config.to_dict(),
                "expression_sha256": self.digest,
                "mlflow_run": self.log.run_id,
            }
            save_checkpoint(
                checkpoint_path(self.run, self.images),
                {"vae": self.network, "best": self.best},
                {"adam": self.optimizer},
                state,
            )
            keep_newest(self.run, 1)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Write the model folder with the best weights, and report what they reach."""
        if self.accelerator.is_main_process:
            model = self._product()
            save_vae(self.run / "model", model)
            metrics = model.record["metrics"]
            self.log.metrics(self.images, metrics)
            say(
                f"{self.run / 'model'}: best after {self.best_step:,} of {self.step:,} steps; "
                + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            )
        self.accelerator.wait_for_everyone()

    def close(self, finished: bool) -> None:
        self.log.close(finished)
        end_together(self.accelerator, wait=finished)

    def _train_step(self) -> None:
        config, processes = self.config, self.accelerator.num_processes
        count = config.batch_size // processes
        first = self.images + self.accelerator.process_index * count
        x = self.x_train[profile_order(config.seed, len(self.x_train), first, count)]
        eps = self._tensor(rng.normal(config.seed, "vae noise", first, count, config.latent))
        keep = None
        if config.input_dropout:
            kept = rng.uniform(config.seed, "vae dropout", first, count, x.shape[1]) >= config.input_dropout
            keep = self._tensor(kept / (1 - config.input_dropout))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step, self.total_steps)
        self.model.train()
        out = self.model(x, eps, keep)
        loss = vae_loss(x, out.x_recon, out.mu, out.logvar, config.beta)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss.total)
        self.optimizer.step()
        self.sums += torch.stack(loss).detach()
        self.step += 1

    def _evaluate(self) -> None:
        steps = (self.step - 1) % self.steps_an_epoch + 1
        training = VAELoss(*(self.accelerator.reduce(self.sums, "mean") / steps))
        self.sums.zero_()
        # Every process evaluates all of the few validation profiles; the main one's result decides for all.
        validation = VAELoss(*broadcast(torch.stack(self._validate())))
        if not math.isfinite(training.total) or not math.isfinite(validation.total):
            raise ValueError(f"The loss is not finite at step {self.step:,}; lower lr. The last checkpoint is kept.")
        if validation.total < self.best_loss:
            self.best_loss, self.best_step = float(validation.total), self.step
            self.best.load_state_dict(self.network.state_dict())
        row = {f"train_{name}": float(value) for name, value in training._asdict().items()}
        row |= {f"validation_{name}": float(value) for name, value in validation._asdict().items()}
        self.log.metrics(self.images, row | {"lr": learning_rate(self.config, self.step - 1, self.total_steps)})

    @torch.no_grad()
    def _validate(self) -> VAELoss:
        self.network.eval()
        total = torch.zeros(3, device=self.accelerator.device, dtype=self.dtype)
        for x, eps in zip(self.x_validation.split(_BATCH), self.validation_eps.split(_BATCH), strict=True):
            out = self.network(x, eps)
            total += torch.stack(vae_loss(x, out.x_recon, out.mu, out.logvar, self.config.beta)) * len(x)
        return VAELoss(*(total / len(self.x_validation)))

    def _product(self) -> VAEModel:
        mu, logvar = posterior(self.best, self.x_train)
        kl = kl_per_unit(mu, logvar)
        splits = {"validation": self.x_validation, "test": self._standardised(self.data.split("test"))}
        metrics = {f"{name}_rmse": _rmse(self.best, x) for name, x in splits.items() if len(x)}
        splits_of = self.data.obs["split"]
        tissues = self.data.obs["tissue"][splits_of == "train"].tolist()
        held_out = posterior(self.best, self.x_validation)[0]
        space = LatentSpace.fit(_float32(mu), _float32(kl), tissues, _float32(held_out))
        metrics |= {"validation_total": self.best_loss, "active_units": len(space.active)}
        record: dict[str, Any] = {
            "config": self.config.to_dict(),
            "expression_sha256": self.digest,
            "units": self.data.units,
            "splits": self.data.obs["split"].value_counts().to_dict(),
            "processes": self.accelerator.num_processes,
            "steps": self.step,
            "best_step": self.best_step,
            "metrics": metrics,
        }
        return VAEModel(self.config, self.transform, self.best.float(), space, record)

    def _resume(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        newest = latest_checkpoint(self.run)
        if newest is None:
            return {}
        checkpoint = load_checkpoint(newest)
        _refuse_other_run(checkpoint.state, self.config, self.digest, self.run)
        checkpoint.load_module("vae", self.network)
        checkpoint.load_module("best", self.best)
        checkpoint.load_optimizer("adam", optimizer)
        self.step, self.best_step = checkpoint.state["step"], checkpoint.state["best_step"]
        self.best_loss = checkpoint.state["best_loss"]
        if self.accelerator.is_main_process:
            say(f"{self.run} goes on from step {self.step:,} of {self.total_steps:,}.")
        return checkpoint.state

    def _check_processes(self) -> None:
        processes = self.accelerator.num_processes
        if self.config.batch_size % processes:
            raise ValueError(f"batch_size {self.config.batch_size} is no multiple of {processes} processes.")
        if self.config.norm == "batch" and processes > 1 and self.accelerator.device.type == "cpu":
            raise ValueError("norm batch can't share its statistics on CPUs; start one process, or choose norm layer.")

    def _standardised(self, x: NDArray[np.float32]) -> Tensor:
        return self._tensor(self.transform.apply(x, self.data.genes, self.data.units))

    def _tensor(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values).to(self.accelerator.device, self.dtype)


def profile_order(seed: int, profiles: int, first: int, count: int) -> NDArray[np.intp]:
    """Rows of profile numbers `first` … `first + count - 1` in the endless sequence of permutations, one an epoch."""
    epochs, places = np.divmod(np.arange(first, first + count), profiles)
    rows = np.empty(count, dtype=np.intp)
    for epoch in np.unique(epochs):
        now = epochs == epoch
        rows[now] = rng.generator(seed, "vae order", int(epoch)).permutation(profiles)[places[now]]
    return rows


def total_steps(config: VAEConfig, profiles: int) -> int:
    """Steps that show every training profile `epochs` times, the last batch filled."""
    return math.ceil(config.epochs * profiles / config.batch_size)


def learning_rate(config: VAEConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0."""
    warmup = round(config.warmup_share * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _split(data: Expression) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    train, validation, test = (data.split(name) for name in ("train", "validation", "test"))
    for name, x in (("training", train), ("validation", validation)):
        if len(x) == 0:
            raise ValueError(f"The expression file holds no {name} profiles; check the splits of the cohort table.")
    return train, validation, test


def _refuse_other_run(told: dict[str, Any], config: VAEConfig, digest: str, run: Path) -> None:
    if "expression_sha256" not in told:
        raise ValueError(f"{run} holds a run of another kind; choose another --out.")
    for name, value in config.to_dict().items():
        before = told["config"].get(name)
        if before != value and name != "threads":
            raise ValueError(f"{run} was started with {name} {before}, not {value}; give that, or another --out.")
    if told["expression_sha256"] != digest:
        raise ValueError(f"{run} was started with another expression file; give that one, or another --out.")


@torch.no_grad()
def _rmse(network: BetaVAE, x: Tensor) -> float:
    """Root mean squared error over genes and samples in Z scores, reconstructed from mu."""
    network.eval()
    squares = sum(((network.decode(network.encode(part)[0]) - part) ** 2).sum() for part in x.split(_BATCH))
    return float(torch.as_tensor(squares / x.numel()).sqrt())


def _float32(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.float().cpu().numpy()
