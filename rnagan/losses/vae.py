"""The β-VAE's objective (article: equation 2), with the reductions of the released code, which decide what β means."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class VAELoss(NamedTuple):
    """Scalars: total = reconstruction + β · kl."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def vae_loss(x: Tensor, x_recon: Tensor, mu: Tensor, logvar: Tensor, beta: float) -> VAELoss:
    """Reconstruction: squared error, mean over genes and samples. KL: nats, sum over latents, mean over samples.

    x, x_recon: (samples, genes); mu, logvar: (samples, latent). Computed in float32 at least.
    """
    x, x_recon = _at_least_float32(x), _at_least_float32(x_recon)
    reconstruction = F.mse_loss(x_recon, x)
    kl = kl_per_unit(mu, logvar).sum()
    return VAELoss(reconstruction + beta * kl, reconstruction, kl)


def kl_per_unit(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) ‖ N(0, 1)) of each latent unit in nats, mean over samples, shape (latent,).

    Kingma & Welling 2014, appendix B.
    """
    mu, logvar = _at_least_float32(mu), _at_least_float32(logvar)
    return (-0.5 * (1 + logvar - mu**2 - logvar.exp())).mean(dim=0)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
