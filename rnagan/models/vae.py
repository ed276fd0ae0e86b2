"""The β-VAE of expression profiles (article: STAR Methods, βVAE architecture)."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rnagan.config.vae import VAEConfig
from rnagan.expression.principal_components import PrincipalComponents

LEAST_SHARE = 1e-4  # of the variance: a component with less starts as an inactive unit
_LEAST_LOGVAR = -20.0  # with β 0 the best posterior is a point


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
        if self.bias is None:
            return (self.weight @ x.T).T
        return torch.addmm(self.bias[:, None], self.weight, x.T).T


class BetaVAE(nn.Module):
    """Two multilayer perceptrons around a normal latent; input and output are transformed values of `genes` genes.

    `pca_skip` adds a linear path beside each: mu = A x + MLP(x), x_recon = B z + MLP(z). `start_at_pca` says where A
    and B begin; they are trained as all weights are.
    """

    def __init__(self, genes: int, config: VAEConfig) -> None:
        super().__init__()
        encoder, decoder = config.encoder_widths, config.decoder_widths
        self.encoder = _hidden_layers((genes, *encoder), config.norm)
        self.to_mu = Linear(encoder[-1], config.latent)
        self.to_logvar = Linear(encoder[-1], config.latent)
        self.decoder = _hidden_layers((config.latent, *decoder), config.norm)
        last = Linear(decoder[-1], genes)
        self.to_genes = nn.Sequential(last, nn.Tanh()) if config.output == "tanh" else last
        self.has_skip = config.architecture == "pca_skip"
        if self.has_skip:
            self.skip_to_mu = Linear(genes, config.latent, bias=False)  # A
            self.skip_to_genes = Linear(config.latent, genes, bias=False)  # B

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, (samples, latent) each."""
        features = self.encoder(x)
        mu = self.to_mu(features)
        return mu + self.skip_to_mu(x) if self.has_skip else mu, self.to_logvar(features)

    def decode(self, z: Tensor) -> Tensor:
        """Transformed values (samples, genes) of latents (samples, latent)."""
        x = self.to_genes(self.decoder(z))
        return x + self.skip_to_genes(z) if self.has_skip else x

    def forward(self, x: Tensor, eps: Tensor, keep: Tensor | None = None) -> VAEOutput:
        """Reconstruct `x` from mu + eps · sd. `eps`: standard normal, (samples, latent), drawn by the caller, as is
        `keep`, the dropout mask of the input: 0 or 1 / (1 - share), (samples, genes)."""
        mu, logvar = self.encode(x if keep is None else x * keep)
        return VAEOutput(self.decode(mu + eps * (0.5 * logvar).exp()), mu, logvar)

    @torch.no_grad()
    def start_at_pca(self, pca: PrincipalComponents, beta: float) -> None:
        """Make an untrained `pca_skip` rebuild profiles from mu as `pca` does, with the least loss at this `beta`.

        Unit k is component k, of variance λ, over its scale b: mu = v·(x − mean) / b, x_recon = mean + Σ b v mu. Both
        perceptrons end in 0. With s² = β · genes / 2, which is the variance of the noise that `vae_loss` assumes of a
        gene, its minimum over the posterior's variance is s² / (s² + b²) = 1 / (1 + 2 b² / (β · genes)), and then over
        b it is b² = (λ + √(λ² + 4 λ s²)) / 2, a little above λ. There mu's variance and the posterior's sum to 1, that
        of the prior. Components beyond the latent, or with less than LEAST_SHARE of all variance, are left out; the
        other units start inactive: mu 0, variance 1, unread.
        """
        genes, latent = self.skip_to_genes.weight.shape
        share = pca.variances / max(pca.variances.sum(), np.finfo(np.float64).tiny)
        k = min(latent, pca.directions.shape[1], int((share >= LEAST_SHARE).sum()))
        noise, variances = beta * genes / 2, pca.variances[:k]
        squares = (variances + np.sqrt(variances**2 + 4 * variances * noise)) / 2
        logvar = np.log(np.maximum(noise / (noise + squares), np.exp(_LEAST_LOGVAR)))
        into, out_of = np.zeros((latent, genes)), np.zeros((genes, latent))
        into[:k] = (pca.directions[:, :k] / np.sqrt(squares)).T
        out_of[:, :k] = pca.directions[:, :k] * np.sqrt(squares)
        biases = -into @ pca.mean, np.append(logvar, np.zeros(latent - k)), pca.mean
        for layer, bias in zip((self.to_mu, self.to_logvar, self.to_genes), biases, strict=True):
            assert isinstance(layer, Linear), "pca_skip has no tanh"
            layer.weight.zero_()
            layer.bias.copy_(torch.from_numpy(np.asarray(bias)))
        self.skip_to_mu.weight.copy_(torch.from_numpy(into))
        self.skip_to_genes.weight.copy_(torch.from_numpy(out_of))


def _hidden_layers(widths: tuple[int, ...], norm: str) -> nn.Sequential:
    normalise = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}[norm]
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [Linear(width_in, width_out), normalise(width_out), nn.LeakyReLU()]
    return nn.Sequential(*layers)
