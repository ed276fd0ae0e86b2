"""The β-VAE of expression profiles (article: STAR Methods, βVAE architecture)."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnagan.config.vae import VAEConfig


class VAEOutput(NamedTuple):
    """`x_recon` (samples, genes); `mu` and `logvar` (samples, latent) of the approximate posterior."""

    x_recon: Tensor
    mu: Tensor
    logvar: Tensor


class Linear(nn.Linear):
    """As nn.Linear; on a CPU as W xᵀ: with a batch much smaller than the widths, a fifth faster there than x Wᵀ."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        return torch.addmm(self.bias[:, None], self.weight, x.T).T


class BetaVAE(nn.Module):
    """Two multilayer perceptrons around a normal latent; input and output are Z scores of `genes` genes."""

    def __init__(self, genes: int, config: VAEConfig) -> None:
        super().__init__()
        encoder, decoder = config.encoder_widths, config.decoder_widths
        self.encoder = _hidden_layers((genes, *encoder), config.norm)
        self.to_mu = Linear(encoder[-1], config.latent)
        self.to_logvar = Linear(encoder[-1], config.latent)
        self.decoder = _hidden_layers((config.latent, *decoder), config.norm)
        last = Linear(decoder[-1], genes)
        self.to_genes = nn.Sequential(last, nn.Tanh()) if config.output == "tanh" else last

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, (samples, latent) each."""
        features = self.encoder(x)
        return self.to_mu(features), self.to_logvar(features)

    def decode(self, z: Tensor) -> Tensor:
        """Z scores (samples, genes) of latents (samples, latent)."""
        return self.to_genes(self.decoder(z))

    def forward(self, x: Tensor, eps: Tensor, keep: Tensor | None = None) -> VAEOutput:
        """Reconstruct `x` from mu + eps · sd. `eps`: standard normal, (samples, latent), drawn by the caller, as is
        `keep`, the dropout mask of the input: 0 or 1 / (1 - share), (samples, genes)."""
        mu, logvar = self.encode(x if keep is None else x * keep)
        return VAEOutput(self.decode(mu + eps * (0.5 * logvar).exp()), mu, logvar)


def _hidden_layers(widths: tuple[int, ...], norm: str) -> nn.Sequential:
    normalise = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}[norm]
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [Linear(width_in, width_out), normalise(width_out), nn.LeakyReLU()]
    return nn.Sequential(*layers)
