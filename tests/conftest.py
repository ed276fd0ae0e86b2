"""A toy cohort on disk, a model trained on it for seconds, and silence from MLflow."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from accelerate.state import AcceleratorState

from rnagan.cohort.leakage import donor_digest
from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.expression.h5ad import Expression, write_expression
from rnagan.expression.imputation import GeneImputer
from rnagan.expression.transform import ExpressionTransform
from rnagan.models.latent_space import LatentSpace, relative_residuals
from rnagan.models.trained_vae import VAEModel, posterior, save_vae
from rnagan.models.vae import BetaVAE
from rnagan.tracking import evaluations
from rnagan.tracking.run_log import RunLog
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.vae.data import VAEInputs
from rnagan.training.vae.train import train_vae
from tests import programs
from tests.attacks import no_traceback_in_an_attack, note_attacks  # noqa: F401, found by pytest

programs.warm_the_server()
os.environ.setdefault("RNAGAN_MEET_SECONDS", "240")  # processes of a busy machine start far apart

SPLITS = ("train",) * 5 + ("validation",) * 2 + ("test",) * 5  # of the twelve donors
TISSUES = ("cortex", "lung")
SIDE = 32
MIRROR_EVALUATION = evaluations._mirror
GENES = [f"ENSG{i:011d}" for i in range(30)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attacks are noted; tests with longer limits of their own come first, so that no core is left alone with one."""
    note_attacks(items)
    items.sort(key=lambda item: -(limit.args[0] if (limit := item.get_closest_marker("timeout")) else 0))


@pytest.fixture(scope="session")
def small() -> GANConfig:
    """Twelve steps of the preset `faithful` in miniature; checkpoints after steps 5, 10 and 12."""
    return GANConfig(
        resolution=SIDE,
        images=96,
        batch_size=8,
        generator_width=4,
        critic_width=4,
        noise_units=8,
        critic_steps=2,
        penalty_every=2,
        ema_half_life=100,
        window_slides=4,
        precision="float32",
        threads=1,
        log_every=16,
        sample_every=48,
        checkpoint_every=40,
    )


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> TileInputs:
    """Twelve donors with a profile and a slide of each tissue, and one test profile without a slide.

    One programme a profile drives ten genes and the colour of its tiles.
    """
    folder = tmp_path_factory.mktemp("toy")
    draw = np.random.default_rng(0)
    rows = [
        (f"D{d}-{tissue}", f"D{d}", tissue, split, f"D{d}-{tissue}-slide", f"site{d % 2}")
        for d, split in enumerate(SPLITS)
        for tissue in TISSUES
    ]
    rows.append(("D11-lung2", "D11", "lung", "test", "", "site1"))
    cohort = pd.DataFrame(rows, columns=["sample", "donor", "tissue", "split", "slide", "site"])
    cohort["programme"] = draw.normal(size=len(cohort)).round(3)
    cohort.to_csv(folder / "cohort.csv", index=False)

    log_tpm = 3 + 0.3 * draw.normal(size=(len(cohort), len(GENES)))
    log_tpm[:, :10] += cohort[["programme"]].to_numpy()
    log_tpm[:, 10:15] += 2 * (cohort[["tissue"]] == "lung").to_numpy()
    values = np.exp(log_tpm).astype(np.float32)
    obs = cohort.set_index("sample")[["donor", "tissue", "split"]]
    write_expression(folder / "expression.h5ad", Expression(values, obs, GENES, GENES, "tpm"), "digest")

    pictured = cohort[cohort["slide"] != ""]
    for k, row in enumerate(pictured.itertuples()):
        with ShardWriter(folder / "shards", row.slide) as shard:
            for n in range(3 + k % 3):
                colour = [150 + 40 * np.tanh(row.programme), 120 + 100 * (row.tissue == "lung"), 180]
                tile = np.clip(colour + draw.normal(0, 15, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
                key = f"{row.slide}_x{n}_y{2 * n}"
                shard.add(key, simplejpeg.encode_jpeg(tile, 90, "RGB", "444"), {"slide": row.slide}, n, 2 * n)
            shard.commit("done", {}, {}, {"tile_px": SIDE, "mpp": 1.0}, {})
    write_digest(folder / "shards")
    trained_on = {"train_donors": [donor_digest(f"D{k}") for k, split in enumerate(SPLITS) if split == "train"]}
    train = (obs["split"] == "train").to_numpy()
    save_vae(folder / "vae", _untrained_vae(values[train], obs["tissue"][train].tolist(), trained_on))
    return TileInputs(folder / "shards", folder / "cohort.csv", folder / "expression.h5ad", folder / "vae")


def _untrained_vae(x_train: np.ndarray, tissues: list[str], record: dict[str, Any]) -> VAEModel:
    """Random weights make a fine encoder of few genes; four of its six units are declared active."""
    config = VAEConfig(hidden="16", latent=6, transform="zscore")
    transform = ExpressionTransform.fit(x_train, GENES, "tpm", "log1p")
    kl = np.array([0.1, 0.0, 0.4, 0.3, 0.001, 0.2], np.float32)
    torch.manual_seed(0)
    network = BetaVAE(len(GENES), config)
    z = transform.apply(x_train, GENES, "tpm")
    mu = posterior(network, torch.from_numpy(z))[0]
    mu, recon = mu.numpy(), network.decode(mu).detach().numpy()
    space = LatentSpace.fit(mu, kl, tissues, mu, relative_residuals(z, recon, np.ones_like(z, dtype=bool)))
    return VAEModel(config, transform, GeneImputer.fit(z, z), network, space, record)


@pytest.fixture(scope="session")
def truth(inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A truth table: nuclear density follows the programme, lung alone has air."""
    cohort = pd.read_csv(inputs.cohort)
    table = cohort[["sample", "donor", "tissue", "site"]].assign(
        nuclear_density=1000 + 300 * cohort["programme"],
        matrix_colour=cohort["programme"],
        air_fraction=(0.4 + 0.1 * cohort["programme"]).where(cohort["tissue"] == "lung"),
        site_stain=(cohort["site"] == "site1").astype(float),
    )
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def trained(small: GANConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `small` on the toy cohort; read it, never write into it."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    with pytest.MonkeyPatch.context() as patch:
        _silence_mlflow(patch)
        train_gan(small, inputs, run)
    return run


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs keep their folder and tell no tracking server."""
    _silence_mlflow(monkeypatch)


def _silence_mlflow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RunLog, "_start_mlflow", lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _evaluations_keep_to_their_folders() -> Iterator[None]:
    """Evaluations bother no tracking server, unless a test asks for `mirrored_evaluations`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluations, "_mirror", lambda _: None)
        yield


@pytest.fixture
def mirrored_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations reach MLflow, as a user's do."""
    monkeypatch.setattr(evaluations, "_mirror", MIRROR_EVALUATION)


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sqlite store of MLflow, whose migrations take seconds; copy it, never write into it."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_runs(mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for runs, with an MLflow store of their own that knows of none."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs").mkdir()
    shutil.copy(mlflow_store, tmp_path / "runs/mlflow.db")
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def _as_a_process_starts() -> Iterator[None]:
    """Accelerate remembers the precision of a process's first run, and PyTorch the threads of its last one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy_profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`profiles.h5ad`, 150 TPM profiles of three tissues with two programmes each, and `external.h5ad`: 40 others, with
    a batch effect, tissues by other names, and without the last 10 of the 30 genes."""
    folder, draw = tmp_path_factory.mktemp("profiles"), np.random.default_rng(1)
    names = ("Brain - Cortex", "Lung", "Liver")
    markers, loadings = 2 * draw.normal(size=(3, len(GENES))), draw.normal(size=(2, len(GENES)))

    def profiles(tissue: np.ndarray) -> np.ndarray:
        programmes = draw.normal(size=(len(tissue), 2))
        logged = 3 + markers[tissue] + 0.7 * programmes @ loadings + 0.3 * draw.normal(size=(len(tissue), len(GENES)))
        return np.expm1(np.maximum(logged, 0)).astype(np.float32)

    def table(name: str, tissue: np.ndarray, called: tuple[str, ...], splits: tuple[str, ...]) -> pd.DataFrame:
        samples = [f"{name}{k}" for k in range(len(tissue))]
        split = [splits[k // 3 % len(splits)] for k in range(len(tissue))]
        columns = {"donor": samples, "tissue": [called[k] for k in tissue], "split": split}
        return pd.DataFrame(columns, index=pd.Index(samples, name="sample"))

    tissue = np.arange(150) % 3
    symbols = [f"SYM{k}" for k in range(len(GENES))]
    obs = table("S", tissue, names, ("train", "train", "train", "validation", "test"))
    write_expression(folder / "profiles.h5ad", Expression(profiles(tissue), obs, GENES, symbols, "tpm"), "digest")
    tissue = np.arange(40) % 4 % 3
    obs = table("X", tissue, ("cerebral cortex", "lung", "kidney"), ("test",))
    values = 1.2 * profiles(tissue)[:, :20]
    write_expression(folder / "external.h5ad", Expression(values, obs, GENES[:20], symbols[:20], "tpm"), "digest")
    return folder


@pytest.fixture(scope="session")
def toy_vae(toy_profiles: Path) -> Path:
    """A β-VAE trained on `toy_profiles` for seconds; read it, never write into it."""
    config = VAEConfig(
        transform="zscore",
        hidden="32",
        latent=8,
        beta=0.002,
        lr=5e-3,
        epochs=60,
        patience_epochs=60,
        batch_size=16,
        threads=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        _silence_mlflow(patch)
        train_vae(config, VAEInputs(toy_profiles / "profiles.h5ad"), toy_profiles / "run")
    return toy_profiles / "run"


@pytest.fixture(scope="session")
def command_line() -> Callable[[GANConfig, TileInputs, Path], list[str]]:
    """command_line(config, inputs, out): the options of rnagan train-rnagan that say all of this."""
    return _command_line


def _command_line(config: GANConfig, inputs: TileInputs, out: Path) -> list[str]:
    settings = []
    for name, value in config.to_dict().items():
        name = name.replace("_", "-")
        settings.append(f"--{name}={value}" if not isinstance(value, bool) else f"--{'' if value else 'no-'}{name}")
    return [
        f"--shards={inputs.shards}",
        f"--cohort={inputs.cohort}",
        f"--expression={inputs.expression}",
        f"--vae={inputs.vae}",
        f"--out={out}",
        *settings,
    ]


@pytest.fixture
def short_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of steps are measured for a moment only."""
    from rnagan.training import step_rate

    monkeypatch.setattr(step_rate, "COUNTED_SECONDS", 0.2)
