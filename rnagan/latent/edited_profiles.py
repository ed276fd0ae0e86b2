"""The edits of rnagan/latent/edits.py from file to file: an .h5ad of profiles in, an .h5ad in the model's genes out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import model_folder
from rnagan.expression.genes import count_and_names
from rnagan.io.cells import safe_table
from rnagan.io.files import atomic_path, sha256_of_file
from rnagan.io.tables import first_few
from rnagan.latent.edits import in_units, interpolate_latents, perturb, reconstruct, sample_latents, shift_latents
from rnagan.latent.profiles import Choice, Profiles, gene_columns, load_any_vae, profiles_of_model, write_profiles
from rnagan.models.trained_vae import VAEModel
from rnagan.runtime.devices import AUTO

_FOLLOWERS_SHOWN = 10


def write_reconstructed(
    vae: Path, choice: Choice, out: Path, keep_real: bool = False, device: str | torch.device = AUTO
) -> list[str]:
    """Encode and decode profiles; returns what to tell the user, line by line, as do all functions here.

    `keep_real` writes the profiles themselves too, in the model's genes, as origin `real`. `device`: where the network
    computes, as `choose_device` takes it.
    """
    model = load_any_vae(vae, device)
    chosen = profiles_of_model(choice, model)
    z, _ = reconstruct(model, chosen.values)
    return _write(out, vae, model, z, _obs(chosen.obs, "reconstructed"), chosen, keep_real)


def write_sampled(
    vae: Path,
    tissues: tuple[str, ...],
    n: int,
    spread: str,
    seed: int,
    out: Path,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Draw `n` new profiles of each of `tissues`, or of all that the model knows."""
    model = load_any_vae(vae, device)
    tissues = tissues or model.space.tissues
    latents = np.concatenate([sample_latents(model.space, tissue, n, seed, spread) for tissue in tissues])
    numbers = pd.Index([f"{_part(tissue)}_generated_{k:04d}" for tissue in tissues for k in range(n)])
    obs = pd.DataFrame({"donor": "", "tissue": np.repeat(tissues, n), "split": "", "source": ""}, numbers)
    request = {"spread": spread, "seed": seed, "n": n}
    return _write(out, vae, model, model.decode(latents), obs.assign(origin="generated"), None, False, request)


def write_shifted(
    vae: Path,
    choice: Choice,
    to: str,
    source: str | None,
    out: Path,
    keep_real: bool = False,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Move profiles to tissue `to`; `source` stands in for their own tissue where the model calls it otherwise."""
    model = load_any_vae(vae, device)
    chosen = profiles_of_model(choice, model)
    tissues = [source] * len(chosen.obs) if source else chosen.obs["tissue"].tolist()
    strange = sorted(set(tissues) - set(model.space.tissues))
    if strange:
        raise ValueError(
            f"The model wasn't trained on {first_few(map(repr, strange))}; say with --from which of its tissues they "
            f"are ({', '.join(model.space.tissues)}), or choose others with --tissue."
        )
    _, latents = reconstruct(model, chosen.values)
    z = model.decode(shift_latents(model.space, latents, tissues, to))
    obs = _obs(chosen.obs, "shifted", f"_to_{_part(to)}").assign(source_tissue=tissues, tissue=to)
    return _write(out, vae, model, z, obs, chosen, keep_real, {"to": to, "from": source})


def write_interpolated(
    vae: Path,
    path: Path,
    start: str,
    end: str,
    steps: int,
    out: Path,
    keep_real: bool = False,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Walk in `steps` from one profile to another; each step has the tissue of the end that is nearer."""
    model = load_any_vae(vae, device)
    if start == end:
        raise ValueError(f"Both ends are {start}; give two profiles.")
    chosen = profiles_of_model(Choice(path, samples=(start, end)), model)
    _, latents = reconstruct(model, chosen.values)
    line, share = interpolate_latents(latents[0], latents[1], steps)
    names = pd.Index([f"{start}_to_{end}_{k:03d}" for k in range(steps)])
    obs = chosen.obs.iloc[(share >= 0.5).astype(int)].set_axis(names)
    same = (chosen.obs.iloc[0] == chosen.obs.iloc[1])[["donor", "split"]]
    obs = obs.assign(**{column: "" for column in same.index[~same]}, source=f"{start},{end}", share=share)
    return _write(out, vae, model, model.decode(line), obs.assign(origin="interpolated"), chosen, keep_real)


def write_perturbed(
    vae: Path,
    choice: Choice,
    genes: str,
    by: float,
    scale: str,
    out: Path,
    input_alone: bool = False,
    keep_real: bool = False,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Move genes by `by` (SDs or log units) and let the others follow, or not (`input_alone`).

    Beside `out`, `NAME.changes.csv` has one row a gene: whether it was moved, and the mean change over profiles, in SDs
    of the training split and in log units, of the gene in the profile written and of its reconstruction.
    """
    model = load_any_vae(vae, device)
    chosen = profiles_of_model(choice, model)
    moved, unknown = gene_columns(genes, model, chosen.symbols)
    done = perturb(model, chosen.values, moved, by, scale)
    z = done.edited if input_alone else done.followed
    changes = _changes(model, chosen, z, done.change, moved)
    request = {"genes": [model.transform.genes[i] for i in moved], "by": by, "scale": scale, "alone": input_alone}
    lines = _write(out, vae, model, z, _obs(chosen.obs, "perturbed"), chosen, keep_real, request)
    table = out.with_name(f"{out.stem}.changes.csv")
    with atomic_path(table) as temporary:
        safe_table(changes).to_csv(temporary, index=False, float_format="%.6g")
    notes = [f"Left out what the model doesn't have: {count_and_names(unknown, 'gene')}."] if unknown else []
    followers = changes[~changes["moved"]].sort_values("reconstructed_sd", key=np.abs, ascending=False)
    names = followers["symbol"].where(followers["symbol"] != "", followers["gene"])
    pairs = zip(names[:_FOLLOWERS_SHOWN], followers["reconstructed_sd"], strict=False)
    kept = changes.loc[changes["moved"], "reconstructed_sd"].mean() / changes.loc[changes["moved"], "change_sd"].mean()
    return [
        *notes,
        *lines,
        f"{table}: the change of every gene. Of that of the moved {len(moved):,} the reconstruction keeps {kept:.0%}.",
        "Of the others these follow most, in SDs: " + ", ".join(f"{name} {value:+.3f}" for name, value in pairs) + ".",
    ]


def _obs(obs: pd.DataFrame, origin: str, suffix: str = "") -> pd.DataFrame:
    """Of profiles made from others, one each: named after them."""
    return obs.assign(origin=origin, source=obs.index).set_axis(obs.index + (suffix or f"_{origin}"))


def _changes(
    model: VAEModel,
    chosen: Profiles,
    z: NDArray[np.float32],
    change: NDArray[np.float32],
    moved: NDArray[np.intp],
) -> pd.DataFrame:
    transform = model.transform
    genes = transform.genes
    before = transform.apply(chosen.values, genes, transform.units)
    logged, unmeasured = transform.logged(before), np.isnan(chosen.values)
    return pd.DataFrame(
        {
            "gene": genes,
            "symbol": [chosen.symbols.get(gene, "") for gene in genes],
            "moved": np.isin(np.arange(len(genes)), moved),
            "change_sd": _mean(z - before, unmeasured) / transform.spread,
            "change_log": _mean(transform.logged(z) - logged, unmeasured),
            "reconstructed_sd": change.mean(axis=0) / transform.spread,
            "reconstructed_log": (transform.logged(before + change) - logged).mean(axis=0),
        }
    )


def _mean(values: NDArray[np.floating], unmeasured: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Mean of each gene over the profiles that have it, (genes,); NaN where none has."""
    return np.ma.array(values, mask=unmeasured | np.isnan(values)).mean(axis=0).filled(np.nan)


def _write(
    out: Path,
    vae: Path,
    model: VAEModel,
    z: NDArray[np.float32],
    obs: pd.DataFrame,
    chosen: Profiles | None,
    keep_real: bool,
    request: dict[str, Any] | None = None,
) -> list[str]:
    values = in_units(model.transform, z)
    count = len(values)
    if keep_real and chosen is not None:
        values = np.concatenate([chosen.values, values])
        obs = pd.concat([chosen.obs.assign(origin="real", source=chosen.obs.index), obs])
        obs = obs.assign(**{name: obs[name].fillna("") for name in obs if obs[name].dtype == object})
    asked = {
        "vae": sha256_of_file(model_folder(vae) / "model.json"),
        "profiles": chosen.digest if chosen else None,
        "samples": obs.index.tolist(),
        "origin": obs["origin"].iloc[-1],
    }
    symbols = chosen.symbols if chosen else {}
    far, distance = write_profiles(out, model, values, obs, symbols, asked | (request or {}))
    beside = f" beside {len(values) - count:,} real" if len(values) > count else ""
    return [
        f"{out}: {count:,} {asked['origin']} profiles{beside}, {values.shape[1]:,} genes in {model.transform.units}; "
        f"distance to the training profiles {distance:.1f} in the median, {far:,} far."
    ]


def _part(tissue: str) -> str:
    """A tissue as a part of a profile's name, which may become a file's name."""
    return tissue.replace("/", "-")
