"""Validation of a generator in training: Fréchet distance to, and faithfulness to, the validation donors' real tiles.

There is no truth in training: morphology of generated tiles is correlated, within a tissue and over donors, with the
same measure on the same donors' real tiles, which any cohort has. How high that can get depends on how reliable the
real measure is (rnagan/evaluation/stats.py). Nothing here draws from a generator that training draws from.

Processes share the rows: training waits while their tiles are generated and described. What is made of the
descriptions, the main process's part, can be done beside the next steps.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnagan.config.families import TileConfig
from rnagan.data.index import ShardSet
from rnagan.evaluation.features import FeatureExtractor, comparable, make_extractor, took_part, witness_of
from rnagan.evaluation.morphology import MEASURES, measure
from rnagan.evaluation.real_tiles import row_names, tiles_of_slides
from rnagan.evaluation.stats import FEWEST_DONORS, pearson, reliability
from rnagan.evaluation.tile_scores import FeatureStatistics, frechet_distance, frechet_name
from rnagan.io.provenance import asked
from rnagan.io.weights import read_arrays, write_arrays
from rnagan.models.sampling import generate
from rnagan.models.tile_generator import TileGenerator
from rnagan.reports.labels import network_label
from rnagan.runtime.devices import rounding
from rnagan.runtime.distributed import processes

LEAST_RELIABLE = 0.5  # a measure whose differences between donors' real tiles are half chance is left out
CONTROL = "site_stain"  # reported, but the profile shouldn't make it
STORED = "validation.safetensors"
ROWS_AHEAD = 2  # of each thread: so many rows' tiles wait to be measured


@dataclasses.dataclass(frozen=True)
class Described:
    """What is known of tiles in the order of the rows: features (tiles, width) and measures (tiles, measures)."""

    features: NDArray[np.float32]
    measures: NDArray[np.float64]


class TileValidation:
    """Compares what a generator generates with real tiles of `rows` (slide, sample, donor, tissue, tiles).

    `conditions` (rows, condition_width): those of the rows' profiles, None in the modes without profiles, where only
    the Fréchet distance is measured. `out`: the run folder, where what is known of the real tiles is kept. `extractor`:
    where None, an offline one whose network isn't the critic's: what chooses the best model took no part in training.
    """

    def __init__(
        self,
        config: TileConfig,
        shards: ShardSet,
        rows: pd.DataFrame,
        conditions: Tensor | None,
        out: Path,
        device: str | torch.device = "cpu",
        extractor: FeatureExtractor | None = None,
    ) -> None:
        self.config, self.shards, self.rows, self.conditions, self.out = config, shards, rows, conditions, Path(out)
        self.mpp = shards.mpp_at(config.resolution)
        counts = rows["tiles"].to_numpy()
        self.tissues, self.donors = (np.repeat(rows[name].to_numpy(str), counts) for name in ("tissue", "donor"))
        self.device, self._extractor = torch.device(device), extractor
        self._real: Described | None = None  # of the main process
        self._of_real: dict[str, FeatureStatistics] = {}

    def describe(self, generator: TileGenerator) -> Described:
        """What is known of the tiles that a generator generates for the rows. Every process must call it."""
        self._describe_real()
        return self._described(lambda share: (self._generated(generator, k) for k in share))

    def compare(self, generated: Described) -> dict[str, float]:
        """Metrics of described tiles; names hold the extractor and the count of tiles, which decide a distance's value.
        It is for the main process, which knows the real tiles once `describe` was called."""
        real = self._real
        assert real is not None
        if not self._of_real:
            self._of_real = self._statistics(comparable(self._extract, real.features, real.features))
        of_generated = self._statistics(comparable(self._extract, generated.features, real.features))
        with ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="distance") as pool:
            distances = pool.map(
                frechet_distance, of_generated.values(), [self._of_real[part] for part in of_generated]
            )
        row = {
            frechet_name(self._extract, of.count, metric_part(part)): distance
            for (part, of), distance in zip(of_generated.items(), distances, strict=True)
        }
        if self.conditions is not None and self.mpp is not None:
            row |= faithfulness(generated.measures, real.measures, self.tissues, self.donors)
        return row

    def score(self, row: Mapping[str, float]) -> tuple[str, float] | None:
        """The metric that `best_by` means and its value, lower being better; None where the row hasn't it."""
        if self.config.best_by == "none":
            return None
        if self.config.best_by == "faithfulness":
            return ("faithfulness/mean", -row["faithfulness/mean"]) if "faithfulness/mean" in row else None
        name = frechet_name(self._extract, len(self.donors))
        return name, row[name]

    @property
    def extractor_label(self) -> str:
        """The extractor's name, and whether its network was the critic's: "efficientnet_lite2, a witness"."""
        name = witness_of(self.config.backbone) if self._extractor is None else self._extractor.name
        return f"{name}, {network_label(took_part(name, self.config.backbone))}"

    @property
    def _extract(self) -> FeatureExtractor:
        if self._extractor is None:
            self._extractor = make_extractor(witness_of(self.config.backbone), device=self.device)
        return self._extractor

    def _statistics(self, features: NDArray[np.float32]) -> dict[str, FeatureStatistics]:
        """Of all tiles and, where the generator has profiles, of each tissue with two tiles or more."""
        parts = {"all": np.ones(len(features), bool)}
        if self.conditions is not None:
            parts |= {tissue: self.tissues == tissue for tissue in np.unique(self.tissues)}
        return {part: FeatureStatistics.of(features[own]) for part, own in parts.items() if own.sum() > 1}

    def _describe_real(self) -> None:
        """Of the real tiles, read and described once a run."""
        here = processes()

        def find() -> bool:
            self._real = self._real or self._stored()
            return self._real is not None

        if here.from_main(find):
            return
        resolution, skip = self.config.resolution, self.config.on_corrupt == "skip"
        real = self._described(lambda share: tiles_of_slides(self.shards, self.rows, resolution, skip, share))

        def keep() -> None:
            write_arrays(self.out / STORED, dataclasses.asdict(real) | {"made_from": self._made_from()})
            self._real = real

        here.from_main(keep)

    def _stored(self) -> Described | None:
        try:
            stored = read_arrays(self.out / STORED)
        except (OSError, ValueError):
            return None
        made_from = stored.pop("made_from", np.empty(0))
        return Described(**stored) if np.array_equal(made_from, self._made_from()) else None

    def _made_from(self) -> NDArray[np.uint8]:
        digest = asked(
            shards=self.shards.digest,
            rows=self.rows[
                ["slide", "tiles", *(["sample"] if self.shards.profiles is not None else [])]
            ].values.tolist(),
            resolution=self.config.resolution,
            extractor=self._extract.name,
            mpp=self.mpp,
            rounding=rounding(self.device),
        )
        return np.frombuffer(bytes.fromhex(digest), np.uint8).copy()

    def _described(self, tiles_of: Callable[[range], Iterable[NDArray[np.uint8]]]) -> Described:
        """Of the tiles of all rows; `tiles_of` gives those of a share of them. Every process must call it."""
        here = processes()
        parts = here.each(lambda: self._describe(tiles_of(here.share(len(self.rows)))))
        features, measures = ([getattr(part, name) for part in parts] for name in ("features", "measures"))
        return Described(np.concatenate(features), np.concatenate(measures))

    def _describe(self, tiles_of_rows: Iterable[NDArray[np.uint8]]) -> Described:
        """Features are made where the networks are, while threads measure."""
        features = [np.empty((0, self._extract.width), np.float32)]
        measures = [np.empty((0, len(MEASURES)))]
        threads = torch.get_num_threads()
        measuring: collections.deque[Future[NDArray[np.float64]]] = collections.deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="measure") as pool:
            for tiles in tiles_of_rows:
                measuring.append(pool.submit(self._measures, tiles))
                features.append(self._extract(tiles))
                if len(measuring) > ROWS_AHEAD * threads:
                    measures.append(measuring.popleft().result())
            measures += [each.result() for each in measuring]
        return Described(np.concatenate(features), np.concatenate(measures))

    def _measures(self, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = {} if self.mpp is None else measure(tiles, self.mpp)
        return np.stack([found.get(name, np.full(len(tiles), np.nan)) for name in MEASURES], axis=1)

    def _generated(self, generator: TileGenerator, row: int) -> NDArray[np.uint8]:
        """As many tiles, for the row's own profile; the noise is the same in every validation."""
        count, name = self.rows["tiles"].iloc[row], row_names(self.shards, self.rows.iloc[row : row + 1])[0]
        c = None if self.conditions is None else self.conditions[row : row + 1].to(generator.device, generator.dtype)
        return generate(generator, c, count, self.config.seed, f"validation/{name}")


def faithfulness(
    generated: NDArray[np.float64], real: NDArray[np.float64], tissues: NDArray, donors: NDArray
) -> dict[str, float]:
    """Correlation over donors of each measure's mean on generated with that on real tiles, by tissue; and their mean.

    `generated`, `real` (tiles, measures) of the same rows. `faithfulness/TISSUE/MEASURE` is there where at least
    FEWEST_DONORS donors differ in their real tiles by more than chance (LEAST_RELIABLE); `faithfulness/mean` is over
    all of these but the site's stain. A measure that generated tiles don't vary in counts as 0.
    """
    row: dict[str, float] = {}
    for tissue in np.unique(tissues):
        own = tissues == tissue
        names, code = np.unique(donors[own], return_inverse=True)
        if len(names) < FEWEST_DONORS:
            continue
        for k, name in enumerate(MEASURES):
            if not reliability(real[own, k], code) >= LEAST_RELIABLE:
                continue
            on_generated, on_real = (
                np.bincount(code, values[own, k]) / np.bincount(code) for values in (generated, real)
            )
            varies = np.ptp(on_generated) > 1e-9 * np.abs(on_generated).max()  # by more than rounding
            r = float(pearson(on_generated, on_real)) if varies else 0.0
            row[f"faithfulness/{metric_part(str(tissue))}/{name}"] = r
    counted = [r for name, r in row.items() if not name.endswith(f"/{CONTROL}")]
    return row | ({"faithfulness/mean": float(np.mean(counted))} if counted else {})


def metric_part(name: str) -> str:
    """A tissue's name as part of a metric's: MLflow takes letters, digits, `_`, `-`, `.` and spaces."""
    return re.sub(r"[^A-Za-z0-9_\-. ]", "_", name).strip(". ") or "_"
