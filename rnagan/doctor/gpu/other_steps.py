"""Steps of the other trainings, and of feature extraction."""

from collections.abc import Callable
from typing import Any

import torch

from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.doctor.gpu.catalogue import Place
from rnagan.evaluation.features import make_extractor
from rnagan.runtime.devices import set_arithmetic
from rnagan.training.simclr.step import SimCLRNetwork, contrastive_loss
from rnagan.training.step_rate import items_a_second, plain_step, vae_step


def rates(place: Place) -> tuple[str, dict[str, Any]]:
    """Profiles, views and tiles a second of a β-VAE's step, a SimCLR step and an extractor without downloads."""
    device, seconds = torch.device(place.device), 0.2 if place.quick else 4.0
    set_arithmetic(device)
    torch.manual_seed(0)
    vae = VAEConfig(hidden="32", latent=8, batch_size=8) if place.quick else VAEConfig()
    found = {
        "vae_profiles_per_second": items_a_second(vae_step(vae, 100 if place.quick else 19_198, device), seconds),
        "simclr_views_per_second": items_a_second(_simclr_step(place, device), seconds),
    }
    extract = make_extractor("efficientnet_lite0", device=device)
    side, count = (32, 4) if place.quick else (256, 64)
    tiles = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8).numpy()
    found["extractor_tiles_per_second"] = items_a_second(lambda: len(extract(tiles)), seconds)
    shown = (f"{name.removesuffix('_per_second').replace('_', ' ')} {rate:,.0f}/s" for name, rate in found.items())
    return ", ".join(shown), found


def _simclr_step(place: Place, device: torch.device) -> Callable[[], int]:
    """A SimCLR step on a batch of noise; it returns how many views went through it."""
    config = SimCLRConfig()
    side, count = (32, 4) if place.quick else (128, 64)
    network = SimCLRNetwork(config).to(device).to(memory_format=torch.channels_last)
    x = torch.randn(2 * count, 3, side, side, device=device).to(memory_format=torch.channels_last)
    return plain_step(network, lambda: contrastive_loss(network(x), config.temperature, 1).loss, 2 * count)
