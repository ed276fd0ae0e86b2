"""A gene or a programme of genes up and down: the strip of tiles, and what happens to their morphology.

The article generates from profiles as they are; this asks the model what a change of expression would look like.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.cohort.table import claim_of
from rnagan.evaluation.dose_response import against_truth, mean_with_interval, slopes
from rnagan.evaluation.morphology import MEASURES, measure
from rnagan.evaluation.programmes import genes_of_model, read_programmes
from rnagan.evaluation.stats import by_donor
from rnagan.evaluation.test_set import read_truth
from rnagan.io.cells import safe_table
from rnagan.io.claim import stating, with_claim
from rnagan.io.files import atomic_path, sha256_of_file, write_json
from rnagan.io.images import picture_name, synthetic_texts
from rnagan.io.tables import column_names
from rnagan.latent.edits import fold_genes, leading_direction, move_genes, refuse_unmeasured
from rnagan.latent.profiles import Choice, Profiles, gene_columns, profiles_of_model
from rnagan.models.trained_vae import VAEModel
from rnagan.reports.figures import response_curves, tile_strip
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

ROWS_SHOWN = 4  # profiles of a strip, a tissue
NOISES_SHOWN = 2  # rows of each
PRODUCTS = ("perturbation.json", "curves.csv", "curves.png")


@dataclasses.dataclass(frozen=True)
class Move:
    """What a step of 1 does: to the genes at columns `moved` of the model's, by `by` (moved,), in SDs of the training
    split (`scale` sd) or to the natural logarithm of their level (`fold`). `name`: what it is called."""

    name: str
    moved: NDArray[np.intp]
    by: NDArray[np.float64]
    scale: str

    @property
    def unit(self) -> str:
        return "SD" if self.scale == "sd" else "units"

    def apply(self, vae: VAEModel, x: NDArray[np.float32], step: float) -> NDArray[np.float32]:
        """Profiles (samples, the model's genes) in the model's units, moved by `step`."""
        transform = vae.transform
        if self.scale == "fold":
            return fold_genes(x, self.moved, step * self.by, transform.units)
        z = transform.apply(x, transform.genes, transform.units)
        edited = transform.invert(move_genes(transform, z, self.moved, step * self.by))
        return np.where(np.isnan(x), x, edited)


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for: profiles of `profiles` (by split, tissue or name; at most `donors` a tissue), genes or a
    programme of a table (gene, loading, and programme where it holds several), steps, tiles."""

    profiles: Path
    genes: str | None = None
    programme: Path | None = None
    name: str | None = None
    leading: bool = False
    truth: Path | None = None
    split: str | None = None
    tissue: str | None = None
    samples: tuple[str, ...] = ()
    donors: int = 40
    reach: float | None = None
    steps: int = 7
    n: int = 8
    seed: int = 0


def perturb_tiles(model_folder: Path, request: Request, out: Path, device: str | torch.device = AUTO) -> list[str]:
    """Move, generate with the same noise, measure; returns lines for the user.

    Writes `strip_TISSUE.png`, `curves.png`, `curves.csv` (tissue, measure, step, mean, low, high, donors) and, last,
    `perturbation.json`, which with a truth table also holds what it expects.
    """
    model = RNAGAN.from_pretrained(model_folder, device)
    if model.vae is None:
        what = "on an embedding" if model.encoder else f"in mode {model.config.mode}"
        raise ValueError(f"{model_folder} was trained {what}: it takes no genes to perturb.")
    if model.mpp is None:
        raise ValueError(f"{model_folder} doesn't say the µm per px of its tiles, so they can't be measured.")
    everyone = profiles_of_model(Choice(request.profiles, request.split, request.samples, request.tissue), model.vae)
    move, notes = _move(request, model.vae, everyone)
    truth = _truth(request, everyone)
    chosen = _few(everyone, request.donors, model.tissues)
    refuse_unmeasured(model.vae.transform, chosen.values, move.moved)
    reach = request.reach or (3.0 if move.scale == "sd" else 1.0)
    steps = np.linspace(-reach, reach, request.steps)
    for name in PRODUCTS:
        (out / name).unlink(missing_ok=True)
    shown = {
        sample for _, own in chosen.obs.groupby("tissue") for sample in own.drop_duplicates("donor").index[:ROWS_SHOWN]
    }
    claim = claim_of(model.split_by)
    measures, strips, far = _generate(model, chosen, move, steps, request, shown)
    taken: set[str] = set()
    result: dict[str, Any] = {
        "model": model.digest,
        "profiles": sha256_of_file(request.profiles),
        "move": move.name,
        "unit": move.unit,
        "genes": len(move.moved),
        "steps": steps.tolist(),
        "tiles_per_profile": request.n,
        "far": far.tolist(),
        "tissues": {},
    }
    rows, strips_written = [], []
    for tissue, own in chosen.obs.groupby("tissue"):
        curves = {
            name: by_donor(pd.DataFrame(values, chosen.obs.index), own).to_numpy() for name, values in measures.items()
        }
        rows += _curve_rows(str(tissue), steps, curves, request.seed)
        of_tissue = {"donors": len(set(own["donor"])), "slopes": _slopes(steps, curves, request.seed)}
        if truth is not None and (found := _beside_truth(steps, curves, truth, str(tissue), own, move, request.seed)):
            of_tissue["truth"] = found
        result["tissues"][str(tissue)] = of_tissue
        titles = [sample for sample in own.index if sample in shown]
        texts = synthetic_texts(
            model.digest, f"those named beside the rows, {move.name} moved", request.seed, model.mpp
        )
        heads = [f"{step:+.3g} {move.unit}" for step in steps]
        strips_written.append(out / f"strip_{picture_name(str(tissue), taken)}.png")
        with stating(claim):
            tile_strip(strips_written[-1], np.concatenate([strips[sample] for sample in titles]), titles, heads, texts)
    table = pd.DataFrame(rows)
    result |= {} if claim is None else claim.as_json()
    with stating(claim):
        with atomic_path(out / "curves.csv") as temporary:
            safe_table(with_claim(table)).to_csv(temporary, index=False)
        response_curves(out / "curves.png", table, f"{move.name}, {move.unit}")
    write_json(out / "perturbation.json", result)
    pictures = [out / "curves.png", *strips_written]
    scores, protocol = _scores(result), _protocol(request)
    record_evaluation(out, "perturbation", model_folder, scores, protocol, pictures=pictures, claim=claim)
    notes += [] if claim is None else [claim.sentence]
    return [*notes, *_lines(result), f"{out}: strips of tiles, curves.png, curves.csv and perturbation.json."]


def _protocol(request: Request) -> dict[str, Any]:
    """The request with the digest of each file in the place of its path."""
    plain = dataclasses.asdict(request) | {"samples": list(request.samples)}
    for name in ("profiles", "programme", "truth", "genes"):
        path = plain[name]
        if path is not None and Path(path).is_file():
            plain[name] = sha256_of_file(path)
    return plain


def _scores(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Slopes by tissue and measure; `moved`, in SDs, where a truth is known."""
    found = {}
    for tissue, of_tissue in result["tissues"].items():
        for measure_name, row in of_tissue["slopes"].items():
            ends = {end: row[end] for end in ("low", "high") if row[end] is not None}
            found[f"{tissue or 'all'}/{measure_name}/slope"] = {"value": row["slope"]} | ends
        for measure_name, row in of_tissue.get("truth", {}).items():
            ends = {"low": row["moved_low"], "high": row["moved_high"]}
            found[f"{tissue or 'all'}/{measure_name}/moved"] = {"value": row["moved"]} | ends
    return found


def _beside_truth(
    steps: NDArray[np.float64],
    curves: dict[str, NDArray[np.float64]],
    truth: pd.DataFrame,
    tissue: str,
    own: pd.DataFrame,
    move: Move,
    seed: int,
) -> dict[str, Any] | None:
    """`against_truth` of a tissue; None where the truth doesn't know the programme of one of its donors."""
    of_tissue = truth[truth["tissue"] == tissue]
    value = by_donor(of_tissue[[move.name]], own)[move.name]
    return None if value.isna().any() else against_truth(steps, curves, of_tissue, value.to_numpy(), move.name, seed)


def _move(request: Request, vae: VAEModel, profiles: Profiles) -> tuple[Move, list[str]]:
    """What the request moves, and notes on genes that the model doesn't have."""
    if (request.genes is None) == (request.programme is None):
        raise ValueError("Say what to move: either --genes, or --programme with a table of genes and loadings.")
    if request.programme is not None:
        return _of_table(request, vae)
    assert request.genes is not None
    moved, unknown = gene_columns(request.genes, vae, profiles.symbols)
    notes = [f"Left out {len(unknown):,} genes that the model doesn't have."] if unknown else []
    by = np.ones(len(moved))
    if request.leading:
        transform = vae.transform
        moved = moved[~transform.constant[moved]]
        if len(moved) < 2 or len(profiles.values) < 3:
            raise ValueError("--leading needs two genes and three profiles at least, to see what varies together.")
        z = transform.apply(profiles.values, transform.genes, transform.units)
        tissues = profiles.obs["tissue"].to_numpy()
        for tissue in set(tissues):  # how donors differ, not how tissues do
            z[tissues == tissue] -= z[tissues == tissue].mean(axis=0)
        by = leading_direction((z / transform.spread).astype(np.float32), moved)
    given = Path(request.genes).stem if Path(request.genes).is_file() else request.genes
    name = given if len(given) <= 40 else f"{len(moved)} genes"
    return Move(name, moved, by, "sd"), notes


def _of_table(request: Request, vae: VAEModel) -> tuple[Move, list[str]]:
    """A programme of a table: columns gene, loading and, where it holds several, programme."""
    path = request.programme
    assert path is not None
    if request.leading:
        raise ValueError("--leading is for --genes; a table of loadings has its direction.")
    programmes = read_programmes(path)
    there = sorted(programmes)
    if request.name is None and len(there) > 1:
        raise ValueError(f"{path} holds several programmes ({', '.join(there)}); choose one with --name.")
    name, chosen = request.name or there[0], there[0]
    if len(there) > 1 or "programme" in column_names(path):
        if name not in there:
            raise ValueError(f"{path} has no programme {name}; it has {', '.join(there)}.")
        chosen = name
    columns, loading = genes_of_model(programmes[chosen], name, vae, path)
    missing, genes = len(programmes[chosen]) - len(columns), len(programmes[chosen])
    notes = [f"Left out {missing:,} of {genes:,} genes that the model doesn't have."] if missing else []
    return Move(name, columns, loading, "fold"), notes


def _truth(request: Request, profiles: Profiles) -> pd.DataFrame | None:
    """The truth table by sample, with the programme as a number."""
    if request.truth is None:
        return None
    if request.programme is None:
        raise ValueError("--truth needs --programme with the genes of one of the truth's programmes, and its --name.")
    name = request.name or request.programme.stem
    table = read_truth(request.truth, profiles.obs.index, more=())
    if name not in table:
        raise ValueError(
            f"{request.truth} has no column {name}, so it doesn't know what that programme does; leave --truth out."
        )
    return table.assign(**{name: pd.to_numeric(table[name])})


def _few(profiles: Profiles, donors: int, tissues: list[str]) -> Profiles:
    """The profiles of at most `donors` donors a tissue, of tissues that the model knows, and those without a tissue."""
    obs = profiles.obs.assign(donor=profiles.obs["donor"].where(profiles.obs["donor"] != "", profiles.obs.index))
    kept = np.zeros(len(obs), bool)
    for tissue, own in obs.groupby("tissue"):
        if tissue in tissues or tissue == "":
            names = list(dict.fromkeys(own["donor"]))[:donors]
            kept |= ((obs["tissue"] == tissue) & obs["donor"].isin(names)).to_numpy()
    if not kept.any():
        raise ValueError(f"No profile is of a tissue that the model knows ({', '.join(tissues)}).")
    return dataclasses.replace(profiles, values=profiles.values[kept], obs=obs[kept])


def _generate(
    model: RNAGAN, chosen: Profiles, move: Move, steps: NDArray[np.float64], request: Request, shown: set[str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.uint8]], NDArray[np.float64]]:
    """Mean measures (samples, steps) by name; tiles (noises, steps, H, W, 3) of the samples shown; the share of
    profiles, by step, that are unlike the training profiles."""
    vae, samples = model.vae, chosen.obs.index.tolist()
    assert vae is not None and model.mpp is not None
    genes, units = vae.transform.genes, vae.transform.units
    measures = {name: np.empty((len(samples), len(steps))) for name in MEASURES}
    tiles: dict[str, list[NDArray[np.uint8]]] = {sample: [] for sample in shown}
    far = np.empty(len(steps))
    with progress.bar(len(steps) * len(samples), "profile", "Generating") as bar:
        for k, step in enumerate(steps):
            encoding = vae.encode(move.apply(vae, chosen.values, float(step)), genes, units)
            far[k] = encoding.far.mean()
            # The same names at every step: the same noise.
            tiles_of = model.generate_each(encoding.latents, samples, [request.n] * len(samples), request.seed)
            for row, (sample, generated) in enumerate(zip(samples, tiles_of, strict=True)):
                for name, values in measure(generated, model.mpp).items():
                    measures[name][row, k] = values.mean()
                if sample in shown:
                    tiles[sample].append(generated[:NOISES_SHOWN])
                bar.update()
    return measures, {sample: np.stack(own, axis=1) for sample, own in tiles.items()}, far


def _curve_rows(
    tissue: str, steps: NDArray[np.float64], curves: dict[str, NDArray[np.float64]], seed: int
) -> list[dict[str, Any]]:
    rows = []
    for name, values in curves.items():
        for step, mean, low, high in zip(steps, *mean_with_interval(values, seed), strict=True):
            point = {"mean": mean, "low": low, "high": high, "donors": len(values)}
            rows.append({"tissue": tissue, "measure": name, "step": step} | point)
    return rows


def _slopes(steps: NDArray[np.float64], curves: dict[str, NDArray[np.float64]], seed: int) -> dict[str, Any]:
    found = {}
    for name, values in curves.items():
        slope, low, high = (float(value) for value in mean_with_interval(slopes(steps, values), seed))
        interval = {"low": low, "high": high} if np.isfinite(low) else {"low": None, "high": None}
        found[name] = {"slope": slope} | interval
    return found


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['move']}: {result['genes']:,} genes, {result['steps'][0]:+g} … {result['steps'][-1]:+g}."]
    if max(result["far"]):
        lines.append(f"At the ends up to {max(result['far']):.0%} of the profiles are unlike the training profiles.")
    for tissue, found in result["tissues"].items():
        head = f"{tissue or 'all'}, {found['donors']} donors:"
        if "truth" not in found:
            for name, row in found["slopes"].items():
                interval = "" if row["low"] is None else f" ({row['low']:+.4g} to {row['high']:+.4g})"
                lines.append(f"{head} {name:16} {row['slope']:+.4g}{interval} for each {result['unit'].rstrip('s')}")
            continue
        for name, row in found["truth"].items():
            kept = f"{row['slope']:+.4g}, expected {row['expected']:+.4g}" + (
                f", ratio {row['ratio']:.2f}" if row["expected"] else ", shouldn't move"
            )
            moved = f"in SDs {row['moved']:+.2f} ({row['moved_low']:+.2f} to {row['moved_high']:+.2f})"
            lines.append(f"{head} {name:16} {kept}; {moved}")
    return lines
