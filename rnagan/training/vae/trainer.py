"""Training of the β-VAE: set up, train, evaluate, save. Its data are in data.py, its paths in train.py."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.cohort.leakage import donor_digest
from rnagan.cohort.table import claim_of
from rnagan.config.vae import VAEConfig
from rnagan.expression.h5ad import POOLED
from rnagan.expression.imputation import GeneImputer
from rnagan.expression.principal_components import principal_components
from rnagan.expression.transform import ExpressionTransform
from rnagan.losses.beta_vae import VAELoss, kl_per_unit, vae_loss
from rnagan.models.latent_space import LatentSpace, relative_residuals
from rnagan.models.trained_vae import VAEModel, posterior, save_vae
from rnagan.models.vae import BetaVAE
from rnagan.runtime import rng
from rnagan.runtime.progress import say
from rnagan.training import deepspeed
from rnagan.training.checkpoint import VAEState, host_copy
from rnagan.training.launch import dtype_of
from rnagan.training.run import Optimizers, StepMeans, TrainingRun, total_steps
from rnagan.training.vae.data import TrainingBatch, VAEData, standardised, standardised_blocks, training_batches

_BATCH = 1024  # profiles that are evaluated at a time
_FITTED_ON = 2048  # training profiles, the first in stored order, which is random: for PCA and for the imputer


class VAETrainer:
    """One run in the folder `run`, opened. `step` is the clock; the main process keeps the weights of the lowest
    validation loss beside it. `tags`: what MLflow shall say of the run beside its own tags."""

    def __init__(
        self, config: VAEConfig, run: TrainingRun, data: VAEData, tags: Mapping[str, str] | None = None
    ) -> None:
        self.config, self.run, self.accelerator, self.data = config, run, run.accelerator, data
        check_processes(config, self.accelerator)
        train = data.split("train")
        assert train is not None, "open_vae_data refuses data without training profiles"
        self.selection = train
        self.transform = ExpressionTransform.fit_blocks(
            data.blocks(train), data.genes, data.units, config.logarithm, config.transform
        )
        self.dtype = dtype_of(config.precision)
        self.x_validation = self._tensor(standardised(data, data.split("validation"), self.transform))
        self.validation_eps = self._tensor(
            rng.normal(config.seed, "vae validation noise", 0, len(self.x_validation), config.latent)
        )
        profiles = int(train.counts.sum())
        self.steps_an_epoch = math.ceil(profiles / config.batch_size)
        self.total_steps = total_steps(config, profiles)
        self.step, self.best_step, self.best_loss = 0, 0, math.inf
        self.best: dict[str, Tensor] = {}
        self.means = StepMeans(VAELoss._fields, self.accelerator, self.dtype)
        self._set_up()
        own_tags = {
            "latent": str(config.latent),
            "tissues": ", ".join(sorted(set(data.tissues(train)))),
            "dataset_digest": data.made_from["expression"],
            **({"split_by": data.split_by} if claim_of(data.split_by) else {}),
        }
        run.begin(self.images, self.total_steps * config.batch_size, own_tags | dict(tags or {}))

    @property
    def images(self) -> int:
        """Profiles seen so far, over all processes."""
        return self.step * self.config.batch_size

    def train(self) -> bool:
        """Train until the last step, or until validation has not improved for `patience_epochs`; False if a signal
        stopped it before, with a checkpoint of where it was."""
        batches = training_batches(
            self.data,
            self.selection,
            self.transform,
            self.config,
            self.images,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        steps = self.run.steps(self.total_steps, "step", "β-VAE", self.step)
        with contextlib.closing(batches), steps as (stop, bar):
            if self.network.has_skip and math.isinf(self.best_loss):
                self._evaluate()  # PCA, which training must beat
            while not self._is_over():
                if stop.is_set(self.step):
                    self.save(last=True)
                    return False
                self.train_step(next(batches))
                bar.update()
                if self.step % self.steps_an_epoch == 0 or self.step == self.total_steps:
                    self._evaluate()
                if self.step % (self.steps_an_epoch * self.config.checkpoint_epochs) == 0:
                    self.save()
        return True

    def save(self, last: bool = False) -> None:
        """Write a checkpoint and delete the one before; only of a state that is finite."""
        sums = self.means.state()
        self._check_finite(dict(zip(VAELoss._fields, sums, strict=True)))
        state = {
            "kind": "vae",
            "step": self.step,
            "best_step": self.best_step,
            "best_loss": self.best_loss if self.best else None,
            "sums": sums,
            "config": self.config.to_dict(),
        }
        weights = {"vae": self.network} | ({"best": self.best} if self.best else {})
        self.run.save(self.images, weights, self._optimizers(), state, last=last)

    def finish(self) -> None:
        """Write the model folder with the best weights, and report what they reach."""
        if self.run.is_main:
            model, folder = self._product(), self.run.folder / "model"
            save_vae(folder, model)
            metrics = model.record["metrics"]
            self.run.row(self.images, metrics)
            say(
                f"{folder}: best after {self.best_step:,} of {self.step:,} steps; "
                + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            )
            if constant := self.transform.constant_genes:
                say(f"{len(constant):,} genes don't vary in the training split and say nothing: {constant[0]} …")
        self.accelerator.wait_for_everyone()

    def _set_up(self) -> None:
        """Network, optimiser and clock, as they begin or as the checkpoint has them."""
        config, accelerator, stored = self.config, self.accelerator, self.run.checkpoint
        torch.manual_seed(config.seed)
        self.network = BetaVAE(len(self.transform.genes), config).to(accelerator.device, self.dtype)
        if stored is None and self.network.has_skip:
            self.network.start_at_pca(principal_components(self._first_profiles(), config.latent), config.beta)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=config.lr, fused=True)
        if stored is not None:
            stored.load_module("vae", self.network)
        network: nn.Module = self.network
        if config.norm == "batch" and accelerator.num_processes > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        deepspeed.expect_batches_of(accelerator, config.batch_size // accelerator.num_processes)
        self.model, self.optimizer = accelerator.prepare(network, optimizer)
        if stored is None:
            return
        self.run.load_optimizers(self._optimizers(), self._empty_step)
        state = stored.state_of(VAEState)
        self.step, self.best_step = state["step"], state["best_step"]
        self.means.load_state(state["sums"], self.step % self.steps_an_epoch)
        if state["best_loss"] is not None:
            self.best_loss = state["best_loss"]
            self.best = stored.tensors("best") if self.run.is_main else {}
        if self.run.is_main:
            say(f"{self.run.folder} goes on from step {self.step:,} of {self.total_steps:,}.")

    def _optimizers(self) -> Optimizers:
        return {"adam": (self.network, self.optimizer)}

    def _is_over(self) -> bool:
        patience_steps = self.config.patience_epochs * self.steps_an_epoch
        return self.step >= self.total_steps or self.step - self.best_step >= patience_steps

    def train_step(self, batch: TrainingBatch) -> None:
        """One step on a batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.total_steps)
        self.optimizer.zero_grad()
        self.means.add(self.descend(batch))
        self.optimizer.step()
        self.step += 1

    def descend(self, batch: TrainingBatch) -> VAELoss:
        """Forward and backward on a batch; its loss, on the device."""
        self.model.train()
        batch = batch.to(self.accelerator.device)
        out = self._forward(self.model, batch.seen, batch.eps, batch.keep)
        loss = vae_loss(
            batch.x,
            out.x_recon,
            out.mu,
            out.logvar,
            beta_of_step(self.config, self.step, self.total_steps),
            self.config.free_bits,
            self._kl_of_batch(out.mu, out.logvar) if self.config.free_bits else None,
        )
        self.accelerator.backward(loss.total)
        return loss

    def _empty_step(self) -> None:
        count = self.config.batch_size // self.accelerator.num_processes
        batch = TrainingBatch.empty(self.config, count, len(self.transform.genes))
        batch.packed.memory.zero_()
        self.descend(batch)

    def _forward(self, model: nn.Module, x: Tensor, eps: Tensor, keep: Tensor | None = None) -> Any:
        if deepspeed.uses_deepspeed(self.accelerator):  # it keeps weights in bf16, and casts no input
            dtype = next(self.network.parameters()).dtype
            x, eps, keep = x.to(dtype), eps.to(dtype), None if keep is None else keep.to(dtype)
        return model(x, eps, keep)

    def _kl_of_batch(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return self.accelerator.reduce(kl_per_unit(mu, logvar).detach(), "mean")

    def _evaluate(self) -> None:
        row = {f"train_{name}": value for name, value in self.means.reduce().items()}
        # Every process evaluates all of the few validation profiles; the main one's result decides for all.
        validation = VAELoss(*broadcast(torch.stack(self._validate())))
        row |= {f"validation_{name}": float(value) for name, value in validation._asdict().items()}
        self._check_finite(row)
        if validation.total < self.best_loss:
            self.best_loss, self.best_step = float(validation.total), self.step
            weights = deepspeed.whole_weights(self.network)
            if self.run.is_main:
                self.best = host_copy(weights)
        lr = {"lr": learning_rate(self.config, max(0, self.step - 1), self.total_steps)}
        self.run.row(self.images, row | lr)

    def _check_finite(self, row: Mapping[str, float]) -> None:
        self.run.check_finite(self.images, row, [self.network], "Lower lr.")

    @torch.no_grad()
    def _validate(self) -> VAELoss:
        model = self.model if deepspeed.uses_deepspeed(self.accelerator) else self.network
        model.eval()
        total = torch.zeros(3, device=self.accelerator.device, dtype=self.dtype)
        for x, eps in zip(self.x_validation.split(_BATCH), self.validation_eps.split(_BATCH), strict=True):
            out = self._forward(model, x, eps)
            total += torch.stack(vae_loss(x, out.x_recon, out.mu, out.logvar, self.config.beta)) * len(x)
        return VAELoss(*(total / len(self.x_validation)))

    def _product(self) -> VAEModel:
        network = BetaVAE(len(self.transform.genes), self.config).to(self.accelerator.device, self.dtype)
        network.load_state_dict(self.best)
        mu, kl, posterior_sd = self._training_latents(network)
        tissues = self.data.tissues(self.selection)
        space = LatentSpace.fit(mu, kl, tissues, *self._held_out(network), posterior_sd)
        x_test = self._tensor(standardised(self.data, self.data.split("test"), self.transform))
        splits = {"validation": self.x_validation, "test": x_test}
        metrics = {f"{name}_rmse": _rmse(network, x) for name, x in splits.items() if len(x)}
        metrics |= {"validation_total": self.best_loss, "active_units": len(space.active)}
        donors = self.data.obs["donor"][self.data.obs["split"] == "train"].unique()
        record: dict[str, Any] = {
            "config": self.config.to_dict(),
            "made_from": self.data.made_from,
            "units": self.data.units,
            "split_by": self.data.split_by,
            **({POOLED: self.data.pooled} if self.data.pooled else {}),
            "splits": self.data.obs["split"].value_counts().to_dict(),
            "train_donors": sorted(map(donor_digest, donors)),
            "processes": self.accelerator.num_processes,
            "steps": self.step,
            "best_step": self.best_step,
            "metrics": metrics,
        }
        return VAEModel(self.config, self.transform, self._imputer(), network.float().cpu(), space, record)

    @torch.no_grad()
    def _held_out(self, network: BetaVAE) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Latent means (profiles, latent) and relative residuals (profiles,) of the validation split."""
        mu = posterior(network, self.x_validation)[0]
        x, x_recon = (_float32(tensor) for tensor in (self.x_validation, network.decode(mu)))
        return _float32(mu), relative_residuals(x, x_recon, np.ones_like(x, dtype=bool))

    def _training_latents(self, network: BetaVAE) -> tuple[NDArray[np.float32], ...]:
        """Means (profiles, latent) of the training split in stored order; the mean KL of each unit and the mean SD of
        its posterior, (latent,) each."""
        parts, sums = [], torch.zeros(2, self.config.latent, dtype=torch.float64)
        for block in standardised_blocks(self.data, self.selection, self.transform):
            x = self._tensor(block)
            mu, logvar = posterior(network, x)
            parts.append(_float32(mu))
            means = torch.stack([kl_per_unit(mu, logvar), (0.5 * logvar).exp().mean(dim=0)])
            sums += means.double().cpu() * len(x)
        latents = np.concatenate(parts)
        return latents, *(sums / len(latents)).float().numpy()

    def _imputer(self) -> GeneImputer:
        return GeneImputer.fit(self._first_profiles(), _float32(self.x_validation))

    def _first_profiles(self) -> NDArray[np.float32]:
        """Up to _FITTED_ON training profiles, transformed."""
        seen: list[NDArray[np.float32]] = []
        for block in standardised_blocks(self.data, self.selection, self.transform):
            seen.append(block)
            if sum(map(len, seen)) >= _FITTED_ON:
                break
        return np.concatenate(seen)[:_FITTED_ON]

    def _tensor(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values).to(self.accelerator.device, self.dtype)


def check_processes(config: VAEConfig, accelerator: Accelerator) -> None:
    """Refuse a config that this number of processes, or DeepSpeed, can't serve."""
    processes = accelerator.num_processes
    if config.batch_size % processes:
        raise ValueError(f"batch_size {config.batch_size} is no multiple of {processes} processes.")
    if config.norm == "batch" and processes > 1 and accelerator.device.type == "cpu":
        raise ValueError("norm batch can't share its statistics on CPUs; start one process, or choose norm layer.")
    if config.precision == "float64" and deepspeed.uses_deepspeed(accelerator):
        raise ValueError("DeepSpeed keeps its weights in float32: choose precision float32 or bf16, or another launch.")


def learning_rate(config: VAEConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0."""
    warmup = round(config.warmup_share * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def beta_of_step(config: VAEConfig, step: int, steps: int) -> float:
    """β, which rises linearly from 0 during the KL warm-up."""
    return config.beta * min(1.0, (step + 1) / max(1.0, config.kl_warmup_share * steps))


@torch.no_grad()
def _rmse(network: BetaVAE, x: Tensor) -> float:
    """Root mean squared error over genes and samples in Z scores, reconstructed from mu."""
    network.eval()
    squares = sum(((network.decode(network.encode(part)[0]) - part) ** 2).sum() for part in x.split(_BATCH))
    return float(torch.as_tensor(squares / x.numel()).sqrt())


def _float32(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.float().cpu().numpy()
