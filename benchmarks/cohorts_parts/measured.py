"""What is measured of a split: tissues that neighbours call, errors beside PCA's, unlike profiles, missing genes."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.evaluation.external_profiles import match_tissues
from rnagan.evaluation.missing_genes import Gap, cost_of_gaps, random_gaps, real_gap
from rnagan.evaluation.reconstruction import PCAModel, errors, fit_pca, nearest_tissues, r2_within
from rnagan.expression.h5ad import open_profiles
from rnagan.io.matrix_parquet_h5ad import dense
from rnagan.latent.profiles import gene_names, load_any_vae
from rnagan.models.trained_vae import Encoding, VAEModel
from rnagan.runtime import rng

from .prepared import UNKNOWN, Prepared


class Cohort(NamedTuple):
    """Profiles `x` (samples, genes) in `units`, NaN where a gene is missing; `tissues` (samples,)."""

    x: NDArray[np.float32]
    genes: list[str]
    units: str
    tissues: NDArray[np.str_]

    @classmethod
    def read(cls, path: Path, split: str | None = None) -> "Cohort":
        data = open_profiles(path)
        own = data if split is None else data[(data.obs["split"] == split).to_numpy()]
        return cls(dense(own.X), list(own.var_names), data.uns["units"], own.obs["tissue"].to_numpy(str))

    def of(self, rows: NDArray) -> "Cohort":
        """Some of the profiles."""
        return self._replace(x=self.x[rows], tissues=self.tissues[rows])

    def seen_by(self, model: VAEModel) -> NDArray[np.float32]:
        """What the model's encoder sees, missing genes apart."""
        return model.transform.apply(self.x, self.genes, self.units)

    def encode(self, model: VAEModel) -> Encoding:
        with warnings.catch_warnings():  # that profiles are far or lack genes is counted
            warnings.simplefilter("ignore", UserWarning)
            return model.encode(self.x, self.genes, self.units)


class Space(NamedTuple):
    """The latent of a model with its training profiles in it, what its encoder sees of them, `z`, and PCA of that."""

    model: VAEModel
    train: Cohort
    latents: NDArray[np.float32]
    z: NDArray[np.float32]
    pca: PCAModel

    @classmethod
    def of(cls, folder: Path, expression: Path) -> "Space":
        model, train = load_any_vae(folder, "cpu"), Cohort.read(expression, "train")
        z = train.seen_by(model)
        return cls(model, train, train.encode(model).latents, z, fit_pca(z, len(model.space.active)))

    def right(self, latents: NDArray[np.float32], tissues: NDArray[np.str_]) -> float:
        """Share of latents whose 5 nearest training profiles are mostly of their tissue."""
        known, points = (self.model.space.neighbour_units(each) for each in (self.latents, latents))
        return float((nearest_tissues(known, self.train.tissues, points) == tissues).mean())


def measure(each: Prepared, tissue_map: Path, repeats: int) -> dict[str, Any]:
    """All figures of a split. `repeats`: draws of missing genes a share."""
    ours, files = Space.of(each.models["ours"], each.expression["gtex"]), each.expression
    test, atlas = Cohort.read(files["gtex"], "test"), Cohort.read(files["atlas"])
    shared = match_tissues(atlas.tissues.tolist(), sorted(set(ours.train.tissues)), tissue_map)
    is_known = np.isin(atlas.tissues, list(shared))
    known, truth = atlas.of(is_known), np.array([shared[name] for name in atlas.tissues[is_known]])
    of_test, of_known = test.encode(ours.model), known.encode(ours.model)
    _assert_equal_alone(known, ours.model, of_known)
    found: dict[str, Any] = {
        "atlas": ours.right(of_known.latents, truth),
        "gtex_test": ours.right(of_test.latents, test.tissues),
        "flagged_known": float(of_known.far.mean()),
        "flagged_gtex_test": float(of_test.far.mean()),
        "flagged_shuffled": float(_shuffled(test, each.seed).encode(ours.model).far.mean()),
    }
    counts, tumours = Cohort.read(files["counts"]), Cohort.read(files["tcga"])
    names = match_tissues(counts.tissues.tolist(), sorted(set(ours.train.tissues)))
    of_counts, of_tumours = (one.encode(ours.model) for one in (counts, tumours))
    found |= {
        "gtex_counts": ours.right(of_counts.latents, np.array([names[name] for name in counts.tissues])),
        "gtex_counts_profiles": len(counts.x),
        "flagged_gtex_counts": float(of_counts.far.mean()),
        "tcga_stomach": ours.right(of_tumours.latents, tumours.tissues),
        "flagged_tcga": float(of_tumours.far.mean()),
        **_unknown(each, atlas.of(~is_known), ours.model),
        **_beside_pca(ours, test, of_test),
        **_without_model(ours, test, known, truth),
    }
    three = Space.of(each.models["three"], files["three"])
    test_of_three = Cohort.read(files["three"], "test")
    of_three = _beside_pca(three, test_of_three, test_of_three.encode(three.model))
    found |= {f"three_{name}": value for name, value in of_three.items()}
    zscore = Space.of(each.models["zscore"], files["gtex"])
    by_zscore = {
        "atlas": zscore.right(known.encode(zscore.model).latents, truth),
        "gtex_test": zscore.right(test.encode(zscore.model).latents, test.tissues),
    }
    gaps = {name: _missing(space, test, files["three"], repeats) for name, space in _named(ours, zscore)}
    return found | {"zscore": by_zscore, "missing_genes": gaps}


def _named(ours: Space, zscore: Space) -> Iterable[tuple[str, Space]]:
    return ("ours", ours), ("zscore", zscore)


def _assert_equal_alone(cohort: Cohort, model: VAEModel, together: Encoding) -> None:
    """A profile's latent doesn't depend on those beside it."""
    for row, latent in enumerate(together.latents):
        if not np.array_equal(cohort.of(np.array([row])).encode(model).latents[0], latent):
            raise ValueError(f"Profile {row} has another latent alone than among {len(together.latents)}.")


def _shuffled(cohort: Cohort, seed: int) -> Cohort:
    """The values of each profile, given to its genes at random."""
    random = rng.generator(seed, "shuffled genes")
    return cohort._replace(x=random.permuted(cohort.x, axis=1))


def _unknown(each: Prepared, atlas: Cohort, ours: VAEModel) -> dict[str, Any]:
    """Flagged of tissues that a model wasn't trained on: of GTEx by a model without some, of the Atlas's own by it."""
    left_out = UNKNOWN[each.seed % len(UNKNOWN)]
    model = load_any_vae(each.models["unknown"], "cpu")
    gtex = Cohort.read(each.expression["gtex"])
    of_left_out = gtex.of(np.isin(gtex.tissues, left_out))
    far = of_left_out.encode(model).far
    return {
        "flagged_unknown": float(far.mean()),
        "flagged_unknown_by_tissue": {name: float(far[of_left_out.tissues == name].mean()) for name in left_out},
        "flagged_atlas_alone": float(atlas.encode(ours).far.mean()),
    }


def _beside_pca(space: Space, test: Cohort, encoding: Encoding) -> dict[str, float]:
    """RMSE and the part of R² within tissues over those of PCA with as many components as units are active."""
    model, pca, z = space.model, space.pca, test.seen_by(space.model)
    rebuilt = {"ours": model.decode(encoding.latents), "pca": pca.reconstruct(z)}
    off = {name: errors(z, each, model.transform) for name, each in rebuilt.items()}
    within = {name: r2_within(z, each, test.tissues) or 0.0 for name, each in rebuilt.items()}
    return {
        "components": len(pca.components),
        "rmse": off["ours"]["rmse_z"],
        "rmse_log": off["ours"]["rmse_log"],
        "r2_within": within["ours"],
        "rmse_over_pca": off["ours"]["rmse_z"] / off["pca"]["rmse_z"],
        "rmse_over_pca_log": off["ours"]["rmse_log"] / off["pca"]["rmse_log"],
        "r2_within_over_pca": within["ours"] / within["pca"],
    }


def _without_model(space: Space, test: Cohort, known: Cohort, truth: NDArray[np.str_]) -> dict[str, float]:
    """Called right by neighbours in what the encoder sees, and in PCA of it."""
    pca, tissues_of_train, found = space.pca, space.train.tissues, {}
    for name, cohort, tissues in (("gtex_test", test, test.tissues), ("atlas", known, truth)):
        z = cohort.seen_by(space.model)
        raw = nearest_tissues(space.z, tissues_of_train, z)
        by_pca = nearest_tissues(pca.scores(space.z), tissues_of_train, pca.scores(z))
        found |= {f"{name}_input": float((raw == tissues).mean()), f"{name}_pca": float((by_pca == tissues).mean())}
    return found


def _missing(space: Space, test: Cohort, other: Path, repeats: int) -> dict[str, dict[str, float]]:
    """What missing genes cost, means over draws: shares at random, the half of lowest mean, all that `other` lacks."""
    model = space.model
    place = model.transform.columns(test.genes)
    x, genes = test.x[:, place], list(model.transform.genes)
    ranks = np.argsort(np.argsort(space.train.x[:, place].mean(axis=0), kind="stable"))
    gaps = [
        *random_gaps(len(genes), repeats=repeats),
        Gap("lower half", np.nan, 0, ranks < len(genes) // 2),
        real_gap("not in brain, heart, liver", genes, gene_names(other)),
    ]
    costs = cost_of_gaps(model, x, test.tissues, space.latents, space.train.tissues, genes, gaps)
    means: pd.DataFrame = costs.groupby("gap", sort=False)[["share", "rmse", "tissue_knn", "moved_sd"]].mean()
    return {str(name): {key: round(float(value), 3) for key, value in row.items()} for name, row in means.iterrows()}
