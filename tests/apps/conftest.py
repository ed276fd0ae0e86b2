"""A browser, and models for the tests of the explorer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.expression.h5ad import read_expression
from rnagan.expression.imputation import GeneImputer
from rnagan.expression.transform import ExpressionTransform
from rnagan.models.latent_space import LatentSpace, relative_residuals
from rnagan.models.trained_vae import VAEModel, posterior, save_vae
from rnagan.models.vae import BetaVAE
from rnagan.tracking.run_log import RunLog
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from tests.apps.browsing import CHROMIUM
from tests.apps.made_explorer import write_programmes
from tests.evaluation.conftest import section_run, section_set  # noqa: F401, fixtures


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def section_gene_run(
    section_set: TileInputs,  # noqa: F811
    small: GANConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run on the section set whose encoder is a β-VAE of genes (random weights); read it, never write into it."""
    import torch

    folder = tmp_path_factory.mktemp("section genes")
    expression = read_expression(section_set.expression)
    values, genes = expression.split("train"), expression.genes
    transform = ExpressionTransform.fit(values, genes, "counts", "log1p", "lognorm")
    torch.manual_seed(0)
    config = VAEConfig(hidden="16", latent=6, transform="lognorm")
    network = BetaVAE(len(genes), config)
    z = transform.apply(values, genes, "counts")
    mu = posterior(network, torch.from_numpy(z))[0]
    recon = network.decode(mu).detach().numpy()
    kl = torch.tensor([0.1, 0.2, 0.4, 0.3, 0.1, 0.2]).numpy()
    residual = relative_residuals(z, recon, z == z)
    space = LatentSpace.fit(mu.numpy(), kl, ["breast"] * len(z), mu.numpy(), residual)
    record = {"split_by": "section", "train_donors": []}
    save_vae(folder / "vae", VAEModel(config, transform, GeneImputer.fit(z, z), network, space, record))
    inputs = TileInputs(section_set.shards, section_set.cohort, section_set.expression, folder / "vae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        train_gan(small.replace(condition_units=4), inputs, folder / "run")
    return folder / "run"


@pytest.fixture(scope="session")
def programmes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two programmes of the toy cohort's genes."""
    return write_programmes(tmp_path_factory.mktemp("programmes") / "programmes.csv")
