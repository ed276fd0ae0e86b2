"""The β-VAE as the article describes it, as the released code trains it: plain PyTorch in float32."""

import os
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from serving import serve
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

_RUN: dict[str, Any] = {}


class PublishedVAE(nn.Module):
    """Two hidden layers with BatchNorm and LeakyReLU on either side."""

    def __init__(self, genes: int, first: int, second: int, latent: int) -> None:
        super().__init__()
        self.encoder = _layers(genes, first, second)
        self.z_mu, self.z_logvar = nn.Linear(second, latent), nn.Linear(second, latent)
        self.decoder = nn.Sequential(_layers(latent, second, first), nn.Linear(first, genes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.encoder(x)
        mu, logvar = self.z_mu(features), self.z_logvar(features)
        std = torch.exp(0.5 * logvar)
        return self.decoder(mu + torch.randn_like(std) * std), mu, logvar


def _layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU()) for a, b in pairwise(widths))
    )


def run(request: dict[str, Any]) -> dict[str, Any]:
    if not _RUN:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        model = PublishedVAE(request["genes"], *request["hidden"], request["latent"])
        profiles = TensorDataset(torch.randn(request["profiles"], request["genes"]))
        loader = DataLoader(profiles, batch_size=128, shuffle=True, drop_last=True)
        _RUN.update(model=model, loader=loader, optimizer=torch.optim.Adam(model.parameters(), lr=5e-5))
    model, optimizer, done = _RUN["model"].train(), _RUN["optimizer"], 0
    while True:
        for (x,) in _RUN["loader"]:
            optimizer.zero_grad(set_to_none=True)
            x_recon, mu, logvar = model(x)
            kl = torch.mean(-0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1), dim=0)
            loss = F.mse_loss(x_recon, x) + 0.005 * kl
            loss.backward()
            optimizer.step()
            loss.item()
            done += 1
            if done == request["steps"]:
                return {"tiles": done * 128}


if __name__ == "__main__":
    serve(run)
