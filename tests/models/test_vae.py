from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from rnagan.config.base import load_config, preset_names, read_preset, resolve
from rnagan.config.vae import VAEConfig
from rnagan.expression.principal_components import principal_components
from rnagan.losses.beta_vae import kl_per_unit, vae_loss
from rnagan.models.vae import LEAST_SHARE, BetaVAE, Linear

SMALL = VAEConfig(hidden="12,8", latent=3, architecture="mlp")
SKIP = VAEConfig(hidden="12,8", latent=4, architecture="pca_skip", beta=0.02)


def test_shapes_and_layers() -> None:
    network = BetaVAE(17, SMALL)
    out = network(torch.randn(5, 17), torch.zeros(5, 3))
    assert [tuple(part.shape) for part in out] == [(5, 17), (5, 3), (5, 3)]
    widths = [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert widths == [(17, 12), (12, 8), (8, 3), (8, 3), (3, 8), (8, 12), (12, 17)]
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in network.modules())


@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_that_of_torch(bias: bool) -> None:
    ours, theirs = Linear(7, 5, bias=bias).double(), nn.Linear(7, 5, bias=bias).double()
    x = torch.randn(3, 7, dtype=torch.float64)
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
    names = ["faithful", "paper", "paper_five_tissues", "paper_lung_cortex", "released", "spots", "zscore"]
    assert preset_names(VAEConfig) == names
    presets = [resolve(VAEConfig, read_preset(VAEConfig, name)) for name in names]
    faithful, paper, five, two, released, spots, zscore = presets
    assert five.replace(where="") == paper == two.replace(where="")
    assert five.where.count(",") == 4 and two.where == "tissue=Lung,Brain - Cortex"
    assert faithful == VAEConfig()
    assert spots == faithful.replace(transform="lognorm")
    assert zscore == faithful.replace(architecture="mlp", transform="zscore", beta=0.005, gene_dropout=0.5)
    assert (paper.norm, paper.logarithm, paper.beta, paper.output) == ("batch", "paper", 0.005, "linear")
    assert (released.norm, released.beta, released.output) == ("batch", 0.0005, "tanh")
    network = BetaVAE(17, released.replace(hidden="12,8,6", decoder_hidden="8,12", latent=4))
    assert network.decode(100 * torch.randn(5, 4)).abs().max() <= 1


def profiles(programmes: int = 6, noise: float = 0.1) -> np.ndarray:
    """50 profiles of 17 genes, not centred."""
    draw = np.random.default_rng(0)
    own = draw.normal(size=(50, programmes)) @ draw.normal(size=(programmes, 17))
    return (3 + own + noise * draw.normal(size=(50, 17))).astype(np.float32)


def started(config: VAEConfig, x: np.ndarray) -> tuple[BetaVAE, torch.Tensor]:
    network = BetaVAE(x.shape[1], config).double()
    network.start_at_pca(principal_components(x, config.latent), config.beta)
    return network, torch.from_numpy(x).double()


def test_the_untrained_pca_skip_is_pca() -> None:
    network, x = started(SKIP, profiles())
    mu, _ = network.encode(x)
    other = torch.from_numpy(profiles()[::-1] * 1.3).double()  # not only the profiles that it was fitted on
    pca = PCA(SKIP.latent).fit(x.numpy())
    for rows in (x, other):
        expected = pca.inverse_transform(pca.transform(rows.numpy()))
        np.testing.assert_allclose(network.decode(network.encode(rows)[0]).detach(), expected, atol=1e-5)
    np.testing.assert_allclose(np.corrcoef(mu.detach().T), np.eye(4), atol=1e-5)
    assert not torch.allclose(BetaVAE(17, SKIP).double().encode(x)[0], mu, atol=1e-2)


def test_the_untrained_pca_skip_has_the_least_loss_that_pca_can_have() -> None:
    """Neither the posteriors' variances nor the scales of the units can be changed for a lower loss, and the posteriors
    of all profiles together have the prior's mean and variance."""
    network, x = started(SKIP, profiles())
    signs = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64)
    eps = torch.cat([signs, -signs]).repeat_interleave(len(x), dim=0)  # mean 0 and covariance I, exactly

    def gradients() -> tuple[torch.Tensor, torch.Tensor]:
        network.zero_grad()
        out = network(x.repeat(8, 1), eps)
        vae_loss(x.repeat(8, 1), *out, SKIP.beta).total.backward()
        of_scale = [(w.weight.grad * w.weight).T for w in (network.skip_to_mu, network.skip_to_genes)]
        bias = network.to_mu.bias.grad * network.to_mu.bias
        return network.to_logvar.bias.grad, of_scale[1].sum(dim=1) - of_scale[0].sum(dim=0) - bias

    for gradient in gradients():
        assert gradient.abs().max() < 1e-8
    mu, logvar = network.encode(x)
    np.testing.assert_allclose(mu.detach().mean(dim=0), 0, atol=1e-6)
    np.testing.assert_allclose((mu.var(dim=0, correction=0) + logvar.exp().mean(dim=0)).detach(), 1, rtol=1e-6)
    with torch.no_grad():
        network.to_logvar.bias += np.log(17)  # known wrong: as if the error were summed over genes, or not
    assert gradients()[0].abs().min() > 1e-4


def test_units_without_a_component_start_inactive() -> None:
    network, x = started(SKIP.replace(latent=8), profiles(programmes=2, noise=1e-3))
    pca = principal_components(profiles(programmes=2, noise=1e-3), 8)
    assert pca.variances[2] < LEAST_SHARE * pca.variances.sum() < pca.variances[1]
    mu, logvar = network.encode(x)
    kl = kl_per_unit(mu, logvar)
    assert (kl[:2] > 1).all() and (kl[2:] == 0).all() and (mu[:, 2:] == 0).all()
    z = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(network.decode(z), network.decode(torch.cat([z[:, :2], 0 * z[:, 2:]], dim=1)))


@pytest.mark.parametrize("x", [np.ones((5, 17), np.float32), profiles()[:3]])
def test_few_or_equal_profiles_start_too(x: np.ndarray) -> None:
    network, rows = started(SKIP.replace(beta=0.0), x)
    mu, logvar = network.encode(rows)
    np.testing.assert_allclose(network.decode(mu).detach(), x, atol=1e-5)
    assert torch.isfinite(logvar).all() and (logvar >= -20.001).all()


def test_pca_skip_is_linear_beside_the_perceptrons() -> None:
    network, x = started(SKIP, profiles())
    with torch.no_grad():
        for layer in (network.to_mu, network.to_genes):
            nn.init.normal_(layer.weight)
    mlp = BetaVAE(17, SKIP.replace(architecture="mlp")).double()
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("skip")}
    mlp.load_state_dict(own)  # the same names, so models of earlier versions load
    mu, z = network.encode(x)[0], torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(mu, mlp.encode(x)[0] + x @ network.skip_to_mu.weight.T)
    torch.testing.assert_close(network.decode(z), mlp.decode(z) + z @ network.skip_to_genes.weight.T)


def test_what_a_config_without_an_architecture_means(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("hidden: '12,8'\n")
    assert load_config(VAEConfig, tmp_path / "config.yaml").architecture == "mlp" != VAEConfig().architecture
    with pytest.raises(ValueError, match="pca_skip rebuilds profiles linearly: choose output linear"):
        VAEConfig(output="tanh")


@pytest.mark.parametrize("hidden", ["", "12,x", "12,-8", "0"])
def test_bad_widths_are_refused(hidden: str) -> None:
    with pytest.raises(ValueError, match="hidden must list widths, like 6000,4096"):
        VAEConfig(hidden=hidden)
