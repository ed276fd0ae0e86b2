import pytest
import torch
from torch import nn

from rnagan.config.base import preset_names, read_preset, resolve
from rnagan.config.vae import VAEConfig
from rnagan.models.vae import BetaVAE, Linear

SMALL = VAEConfig(hidden="12,8", latent=3)


def test_shapes_and_layers() -> None:
    network = BetaVAE(17, SMALL)
    out = network(torch.randn(5, 17), torch.zeros(5, 3))
    assert [tuple(part.shape) for part in out] == [(5, 17), (5, 3), (5, 3)]
    widths = [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert widths == [(17, 12), (12, 8), (8, 3), (8, 3), (3, 8), (8, 12), (12, 17)]
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in network.modules())


def test_linear_equals_that_of_torch() -> None:
    ours, theirs, x = Linear(7, 5).double(), nn.Linear(7, 5).double(), torch.randn(3, 7, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    torch.testing.assert_close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


def test_reparameterisation() -> None:
    network = BetaVAE(17, SMALL)
    x, eps = torch.randn(5, 17), torch.randn(5, 3)
    mu, logvar = network.encode(x)
    torch.testing.assert_close(network(x, eps).x_recon, network.decode(mu + eps * torch.sqrt(torch.exp(logvar))))
    with pytest.raises(AssertionError):  # known wrong: exp(logvar) is the variance
        torch.testing.assert_close(network(x, eps).x_recon, network.decode(mu + eps * torch.exp(logvar)))


def test_keep_masks_the_input_of_the_encoder() -> None:
    network, x, keep = BetaVAE(17, SMALL), torch.randn(5, 17), 2.0 * torch.randint(0, 2, (5, 17))
    torch.testing.assert_close(network(x, torch.zeros(5, 3), keep).mu, network.encode(x * keep)[0])


def test_layer_norm_makes_profiles_independent() -> None:
    network, x = BetaVAE(17, SMALL).double(), torch.randn(6, 17, dtype=torch.float64)
    torch.testing.assert_close(network.encode(x)[0][:2], network.encode(x[:2])[0])
    batch = BetaVAE(17, SMALL.replace(norm="batch")).double()
    assert not torch.allclose(batch.encode(x)[0][:2], batch.encode(x[:2])[0])


def test_presets() -> None:
    names = ["faithful", "paper", "paper_five_tissues", "paper_lung_cortex", "released"]
    assert preset_names(VAEConfig) == names
    presets = [resolve(VAEConfig, read_preset(VAEConfig, name)) for name in names]
    faithful, paper, five, two, released = presets
    assert five.replace(where="") == paper == two.replace(where="")
    assert five.where.count(",") == 4 and two.where == "tissue=Lung,Brain - Cortex"
    assert faithful == VAEConfig()
    assert (paper.norm, paper.logarithm, paper.beta, paper.output) == ("batch", "paper", 0.005, "linear")
    assert (released.norm, released.beta, released.output) == ("batch", 0.0005, "tanh")
    network = BetaVAE(17, released.replace(hidden="12,8,6", decoder_hidden="8,12", latent=4))
    assert network.decode(100 * torch.randn(5, 4)).abs().max() <= 1


@pytest.mark.parametrize("hidden", ["", "12,x", "12,-8", "0"])
def test_bad_widths_are_refused(hidden: str) -> None:
    with pytest.raises(ValueError, match="hidden must list widths, like 6000,4096"):
        VAEConfig(hidden=hidden)
