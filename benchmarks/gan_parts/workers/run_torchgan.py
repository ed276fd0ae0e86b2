"""torchgan's trainer with the losses of the released RNA-GAN code: its arrangement of a step, in float32.

Two things of torchgan 0.1.0 are mended, since it doesn't run otherwise: it asks for a GPU, and torchvision's
`make_grid` has renamed an option. Its logger, which draws pictures, is left out of the loop.
"""

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torchgan.logging.visualize as visualize
import torchgan.trainer.trainer as trainer_module
from memory import peak_gb, start_counting
from serving import serve
from torch import Tensor, nn
from torchgan.losses import DiscriminatorLoss, GeneratorLoss
from torchgan.models import DCGANDiscriminator, DCGANGenerator

LATENT = 2048
_RUN: dict[str, Any] = {}


class Encoder(nn.Module):
    """The β-VAE of the released code, whole: its losses load encoder and decoder, and call the encoder."""

    def __init__(self, genes: int) -> None:
        super().__init__()
        self.encoder = _layers(genes, 6000, 4000)
        self.mu, self.logvar = nn.Linear(4000, LATENT), nn.Linear(4000, LATENT)
        self.decoder = nn.Sequential(_layers(LATENT, 4000, 6000), nn.Linear(6000, genes))

    def encode(self, profiles: Tensor) -> Tensor:
        h = self.encoder(profiles)
        self.logvar(h)
        return self.mu(h)


def _layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU()) for a, b in itertools.pairwise(widths))
    )


class _Published:
    """What the three losses share: the generator's input, encoded anew in each of them."""

    encoder: Encoder | None  # of its own in each loss, as published

    def code(self, real_inputs: dict[str, Tensor]) -> Tensor:
        given = real_inputs["rna_data"]
        z = given if self.encoder is None else self.encoder.encode(given)
        noise = torch.empty(len(z), LATENT).uniform_(-0.3, 0.3) + z
        return (noise - noise.mean(dim=0)) / noise.std(dim=0)


class GeneratorStep(_Published, GeneratorLoss):
    def train_ops(self, generator, discriminator, optimizer_generator, device, batch_size, real_inputs, labels=None):
        optimizer_generator.zero_grad()
        loss = -discriminator(generator(self.code(real_inputs))).mean()
        loss.backward()
        optimizer_generator.step()
        return loss.item()


class CriticStep(_Published, DiscriminatorLoss):
    def train_ops(self, generator, discriminator, optimizer_discriminator, real_inputs, device, labels=None):
        code = self.code(real_inputs)
        optimizer_discriminator.zero_grad()
        score_real = discriminator(real_inputs["image"])
        loss = (discriminator(generator(code).detach()) - score_real).mean()
        loss.backward()
        optimizer_discriminator.step()
        return loss.item()


class PenaltyStep(_Published, DiscriminatorLoss):
    def train_ops(self, generator, discriminator, optimizer_discriminator, real_inputs, device, labels=None):
        code = self.code(real_inputs).detach()
        optimizer_discriminator.zero_grad()
        epsilon = torch.rand(1).item()
        x_hat = epsilon * real_inputs["image"] + (1 - epsilon) * generator(code)
        score = discriminator(x_hat)
        (gradient,) = torch.autograd.grad(score, x_hat, torch.ones_like(score), create_graph=True, retain_graph=True)
        (10.0 * (gradient.norm(2) - 1) ** 2).backward()
        optimizer_discriminator.step()
        return 0.0


def run(request: dict[str, Any]) -> dict[str, Any]:
    if not _RUN:
        _set_up(request)
    trainer, n = _RUN["trainer"], request["batch_size"]
    for _ in range(request["steps"]):
        trainer.train_iter()
    return {"tiles": request["steps"] * n, "peak_gb": peak_gb()}


def _set_up(request: dict[str, Any]) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    start_counting()
    size, width = request["resolution"], request["width"]
    activation = nn.LeakyReLU(0.2)

    def network(kind: type, lr: float, **options: Any) -> dict[str, Any]:
        adam = {"name": torch.optim.Adam, "args": {"lr": lr, "betas": (0.5, 0.999)}}
        shared = {"step_channels": width, "nonlinearity": activation}
        return {"name": kind, "args": shared | options, "optimizer": adam}

    networks = {
        "generator": network(
            DCGANGenerator, 1e-4, encoding_dims=LATENT, out_channels=3, out_size=size, last_nonlinearity=nn.Tanh()
        ),
        "discriminator": network(DCGANDiscriminator, 4e-4, in_size=size, in_channels=3, last_nonlinearity=activation),
    }
    losses = [GeneratorStep(), CriticStep(), PenaltyStep()]
    for loss in losses:
        loss.encoder = Encoder(request["genes"]).eval() if request["encoder"] else None
    visualize.torchvision.utils.make_grid = lambda images, *_, **__: images[0]
    folder = tempfile.mkdtemp(dir=Path(request["out"]).parent)
    trainer = trainer_module.Trainer(
        networks, losses, device=torch.device("cpu"), sample_size=1, epochs=1, checkpoints=f"{folder}/", recon=folder
    )
    for name in ("generator", "discriminator"):
        getattr(trainer, name).train()
    n = request["batch_size"]
    profiles = torch.randn(n, request["genes"] if request["encoder"] else LATENT)
    trainer.real_inputs = {"image": torch.rand(n, 3, size, size) * 2 - 1, "rna_data": profiles}
    _RUN["trainer"] = trainer


if __name__ == "__main__":
    serve(run)
