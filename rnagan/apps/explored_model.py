"""What the explorer shows of a trained model: its profiles, what a slider moves in them, and the tiles that answer."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.evaluation.morphology import measure
from rnagan.evaluation.perturbation import Move
from rnagan.evaluation.programmes import genes_of_model, read_programmes
from rnagan.expression.h5ad import embedding_of
from rnagan.expression.transform import LOGGED
from rnagan.expression.units import CENTRED
from rnagan.io.files import sha256_of_file
from rnagan.latent.profiles import (
    OBS,
    Choice,
    Profiles,
    choose_profiles,
    columns_of_names,
    profiles_of_model,
)
from rnagan.models.embedding import EmbeddingModel
from rnagan.models.trained_vae import VAEModel
from rnagan.runtime.devices import AUTO

TILES = 8  # that answer
MAX_PROFILES = 20_000
REACH_SD, REACH_FOLD = 3.0, 1.0  # as far as rnagan perturb goes by default
CURVE_STEPS = 7
MAX_NAME = 60  # characters of a gene
STRONGEST = 8
MAX_SEED = 9999

Measures = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float64]]]


class ExploredProfile(NamedTuple):
    """A profile on the page: its name and what is known of it, its `values` (genes,), NaN where unmeasured, and whether
    a visitor uploaded it."""

    name: str
    donor: str
    tissue: str
    split: str
    values: NDArray[np.float32]
    uploaded: bool = False


class Slider(NamedTuple):
    """What is moved, by at most `reach` of `unit` either way. `key`: p, g or d (programme, gene, dimension of an
    embedding) and its number. `columns`: of a profile, which move."""

    key: str
    name: str
    unit: str
    reach: float
    columns: NDArray[np.intp]
    move: Callable[[NDArray[np.float32], float], NDArray[np.float32]]

    @property
    def genes(self) -> int:
        """How many move, at most."""
        return len(self.columns)

    @property
    def grain(self) -> float:
        """The least that it moves by on the page."""
        return 0.05 if self.reach <= 1 else 0.25

    @property
    def steps(self) -> list[float]:
        """Where the curve is measured."""
        return np.linspace(-self.reach, self.reach, CURVE_STEPS).tolist()


class Answer(NamedTuple):
    """Tiles (n, S, S, 3) of a profile, the mean of each measure, and how far to trust them."""

    tiles: NDArray[np.uint8]
    measures: dict[str, float]
    far: bool
    distance: float
    residual: float
    missing: float


@dataclasses.dataclass(frozen=True)
class ExploredModel:
    """A model with the profiles that are shown. `programmes`: moves of a table, by name. `measures` of its tiles, None
    where it doesn't say the µm per px of its tiles. `dimensions`: names of an embedding's, where it has one."""

    model: RNAGAN
    profiles: Profiles
    programmes: tuple[Move, ...]
    measures: Measures | None
    dimensions: tuple[str, ...] = ()

    @property
    def vae(self) -> VAEModel | None:
        return self.model.vae

    @property
    def takes_tables(self) -> bool:
        """Whether a visitor's table can be encoded: not for an embedding, nor where profiles are centred by group."""
        return self.vae is not None and self.vae.transform.accepts != (CENTRED,)

    def shown(self, number: int) -> ExploredProfile:
        """Profile `number`; `ValueError` where there is none."""
        if not 0 <= number < len(self.profiles.obs):
            raise ValueError(f"There is no profile {number}; choose one of the list.")
        obs = self.profiles.obs.iloc[number]
        donor, tissue, split = (str(obs[name]) for name in OBS)
        return ExploredProfile(str(obs.name), donor, tissue, split, self.profiles.values[number])

    @property
    def first_key(self) -> str:
        """The key of the first of `sliders`, "" where there is none."""
        return "p0" if self.programmes else "d0" if self.dimensions else ""

    @functools.cached_property
    def spreads(self) -> NDArray[np.float64]:
        """The SD of each column over all profiles."""
        return self.profiles.values.std(axis=0, dtype=np.float64)

    def sliders(self) -> list[Slider]:
        """Those that the page lists: programmes, or the dimensions of an embedding."""
        names = self.programmes or self.dimensions
        return [self.slider(f"{'p' if self.programmes else 'd'}{number}") for number in range(len(names))]

    def slider(self, key: str) -> Slider:
        """The slider of a key; `ValueError` where there is none."""
        kind, number = key[:1], int(key[1:]) if key[1:].isascii() and key[1:].isdigit() and len(key) < 9 else -1
        vae = self.vae
        there = {"p": len(self.programmes), "d": len(self.dimensions), "g": len(vae.transform.genes) if vae else 0}
        if not 0 <= number < there.get(kind, 0):
            raise ValueError("There is nothing like that to move; choose from the list, or write a gene's name.")
        if kind == "d":
            return Slider(
                key, self.dimensions[number], "SD", REACH_SD, np.array([number]), self._move_dimension(number)
            )
        assert vae is not None
        if kind == "p":
            own = self.programmes[number]
            return Slider(key, own.name, "units (ln)", REACH_FOLD, own.moved, _moved_by(vae, own))
        name, column = self.gene_name(number), np.array([number])
        move = Move(name, column, np.ones(1), "sd")
        return Slider(key, name, "SD", REACH_SD, column, _moved_by(vae, move))

    def gene_key(self, name: str) -> str:
        """The key of a gene by its id or symbol; `ValueError` where the model has none."""
        if self.vae is None:
            raise ValueError("This model takes no genes; choose what to move from the list.")
        if len(name) > MAX_NAME:
            raise ValueError(f"A gene's name has at most {MAX_NAME} characters.")
        columns, _ = columns_of_names([name], self.vae, self.profiles.symbols)
        return f"g{columns[0]}"

    def gene_name(self, column: int) -> str:
        """Its symbol where one is known, else its id."""
        assert self.vae is not None
        gene = self.vae.transform.genes[column]
        return self.profiles.symbols.get(gene) or gene

    def strongest(self, values: NDArray[np.float32]) -> list[tuple[str, str, float]]:
        """Genes that stand out in a profile (genes,): key, name, and SDs of the training split above its mean."""
        if self.vae is None:
            return []
        transform = self.vae.transform
        z = transform.apply(values[None], transform.genes, transform.units)[0] / transform.spread
        z = np.where(transform.constant | np.isnan(values), -np.inf, z)
        order = np.argsort(-z, kind="stable")[:STRONGEST]
        return [(f"g{k}", self.gene_name(int(k)), float(z[k])) for k in order if z[k] > 0]

    def answer(
        self, shown: ExploredProfile, slider: Slider | None = None, step: float = 0.0, seed: int = 0, n: int = TILES
    ) -> Answer:
        """Tiles of a profile of which a slider was moved by `step`; the noise of its name and `seed`, whatever the
        step. `ValueError` where what is moved wasn't measured in it."""
        latents, trust = self.encoded(shown.values[None], slider, step)
        tiles = self.model.generate_tiles(latents[0], n, seed, shown.name)
        return Answer(tiles, self.measured(tiles), *trust[0])

    def answer_spots(
        self, numbers: list[int], slider: Slider | None, step: float, seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The first tile of each of several profiles, (n, S, S, 3), all moved alike, and which of them are far."""
        values = self.profiles.values[numbers]
        latents, trust = self.encoded(values, slider, step)
        names = [self.shown(number).name for number in numbers]
        tiles = self.model.generate_numbered(latents, names, [0] * len(names), seed)
        return tiles, np.array([far for far, *_ in trust])

    def levels(self, numbers: NDArray[np.intp], slider: Slider) -> NDArray[np.float64]:
        """How high what a slider moves is in profiles, (n,): the mean logarithm of its genes, weighted as it moves
        them."""
        kind, number = slider.key[0], int(slider.key[1:])
        values = self.profiles.values[numbers].astype(np.float64)
        if kind == "d" or self.vae is None:
            return values[:, number]
        if self.vae.transform.units not in LOGGED:
            values = np.log1p(1e4 * values / np.maximum(np.nansum(values, axis=1, keepdims=True), 1e-12))
        if kind == "g":
            return np.nan_to_num(values[:, number])
        own = self.programmes[number]
        return np.nan_to_num(values[:, own.moved]) @ own.by / max(np.abs(own.by).sum(), 1e-12)

    def encoded(
        self, values: NDArray[np.float32], slider: Slider | None, step: float
    ) -> tuple[NDArray[np.float32], list[tuple[bool, float, float, float]]]:
        """Latents of profiles (n, genes) that were moved, and far, distance, residual and missing share of each."""
        moved = values if slider is None or step == 0 else slider.move(values, step)
        encoder = self.model.encoder
        assert encoder is not None
        with warnings.catch_warnings():  # the page says it
            warnings.simplefilter("ignore", UserWarning)
            if isinstance(encoder, VAEModel):
                encoding = encoder.encode(moved, encoder.transform.genes, encoder.transform.units)
            else:
                encoding = encoder.encode(moved, list(self.dimensions), encoder.units)
        trust = zip(encoding.far, encoding.distance, encoding.residual, encoding.missing, strict=True)
        return encoding.latents, [(bool(far), float(d), float(r), float(m)) for far, d, r, m in trust]

    def measured(self, tiles: NDArray[np.uint8]) -> dict[str, float]:
        """The mean of each measure over tiles (n, S, S, 3)."""
        if self.measures is None:
            return {}
        return {name: float(values.mean()) for name, values in self.measures(tiles).items()}

    def nearest_tissue(self, values: NDArray[np.float32]) -> str:
        """The tissue of the training split that a profile (genes,) is most like in the latent."""
        latents, _ = self.encoded(values[None], None, 0.0)
        assert self.model.encoder is not None
        space = self.model.encoder.space
        rows = np.linalg.norm(space.standardised(space.centroids) - space.standardised(latents), axis=1)
        return space.tissues[int(rows.argmin())]

    def _move_dimension(self, number: int) -> Callable[[NDArray[np.float32], float], NDArray[np.float32]]:
        spread = float(self.spreads[number])

        def move(values: NDArray[np.float32], step: float) -> NDArray[np.float32]:
            moved = values.copy()
            moved[:, number] += np.float32(step * spread)
            return moved

        return move


def _moved_by(vae: VAEModel, move: Move) -> Callable[[NDArray[np.float32], float], NDArray[np.float32]]:
    def moved(values: NDArray[np.float32], step: float) -> NDArray[np.float32]:
        measured = ~np.isnan(values[:, move.moved]).any(axis=0)
        if not measured.any():
            raise ValueError(f"{move.name} wasn't measured in this profile, so it can't be moved; choose another.")
        own = dataclasses.replace(move, moved=move.moved[measured], by=move.by[measured])
        return own.apply(vae, values, step)

    return moved


def open_explored(
    model_folder: Path, choice: Choice, programme: Path | None = None, device: str | torch.device = AUTO
) -> ExploredModel:
    """Open a model with the profiles of a choice, and the programmes of a table (gene, loading, programme).

    Raises `FileNotFoundError` or `ValueError` where there is no model, where it takes no profiles, or where there are
    more than MAX_PROFILES.
    """
    model = RNAGAN.from_pretrained(model_folder, device)
    if model.encoder is None:
        raise ValueError(
            f"{model_folder} was trained in mode {model.config.mode} and takes no profiles: nothing in it can be moved."
        )
    if not choice.path.is_file():
        raise FileNotFoundError(f"The profiles {choice.path} don't exist; make them with rnagan build-expression.")
    dimensions: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    if isinstance(model.encoder, EmbeddingModel):
        if programme is not None:
            raise ValueError(f"{model_folder} was trained on an embedding: it takes no --programme of genes.")
        profiles, dimensions = _embedded(choice, model.encoder)
    else:
        assert model.vae is not None
        profiles = profiles_of_model(choice, model.vae)
        tables = {} if programme is None else read_programmes(programme)
        moves = tuple(
            Move(name, *genes_of_model(table, name, model.vae, programme or Path()), "fold")
            for name, table in sorted(tables.items())
        )
    if len(profiles.obs) > MAX_PROFILES:
        raise ValueError(
            f"{choice.path} has {len(profiles.obs):,} profiles, and {MAX_PROFILES:,} are shown; choose some with "
            "--split, --tissue or --sample."
        )
    mpp = model.mpp
    return ExploredModel(model, profiles, moves, None if mpp is None else lambda tiles: measure(tiles, mpp), dimensions)


def _embedded(choice: Choice, encoder: EmbeddingModel) -> tuple[Profiles, tuple[str, ...]]:
    """The embeddings of a choice as profiles, and the names of their dimensions."""
    adata, _ = choose_profiles(choice, ())
    values = embedding_of(adata, encoder.key, str(choice.path))
    names = adata.uns.get(f"{encoder.key}_names")
    named = names is not None and len(names) == values.shape[1]
    dimensions = [str(names[k]) if named else f"{encoder.key} {k + 1}" for k in range(values.shape[1])]
    columns = {name: adata.obs[name].astype(str) if name in adata.obs else "" for name in OBS}
    obs = pd.DataFrame(columns, adata.obs_names)
    return Profiles(values, obs, {}, sha256_of_file(choice.path)), tuple(dimensions)
