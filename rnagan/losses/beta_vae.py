"""The β-VAE's objective (article: equation 2), with the reductions of the released code, which decide what β means."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class VAELoss(NamedTuple):
    """Scalars: total = reconstruction + β · kl."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def vae_loss(
    x: Tensor,
    x_recon: Tensor,
    mu: Tensor,
    logvar: Tensor,
    beta: float,
    free_bits: float = 0.0,
    kl_of_batch: Tensor | None = None,
) -> VAELoss:
    """Reconstruction: squared error, mean over genes and samples. KL: nats, sum over latents, mean over samples.

    x, x_recon: (samples, genes); mu, logvar: (samples, latent). Computed in float32 at least. With `free_bits` the
    total counts a unit as max(free_bits, its KL) (Kingma et al. 2016, equation 15), so that its first nats are free and
    fewer units collapse; `kl` stays what it is. There a unit's KL is the mean over the batch: where processes share a
    batch, `kl_of_batch` (latent,) is that mean, which none of them knows by itself.
    """
    x, x_recon = _at_least_float32(x), _at_least_float32(x_recon)
    reconstruction = F.mse_loss(x_recon, x)
    units = kl_per_unit(mu, logvar)
    decides = units.detach() if kl_of_batch is None else kl_of_batch
    counted = units if not free_bits else units.where(decides > free_bits, free_bits)
    return VAELoss(reconstruction + beta * counted.sum(), reconstruction, units.sum())


def kl_per_unit(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) ‖ N(0, 1)) of each latent unit in nats, mean over samples, shape (latent,).

    Kingma & Welling 2014, appendix B.
    """
    mu, logvar = _at_least_float32(mu), _at_least_float32(logvar)
    return (-0.5 * (1 + logvar - mu**2 - logvar.exp())).mean(dim=0)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
