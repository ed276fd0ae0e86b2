"""The cohort table: which slide belongs to which profile, donor, tissue, split and site (DESIGN.md, "Contracts")."""

import collections
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rnagan import rng
from rnagan.files import write_text
from rnagan.tables import column_names, first_few, need_columns, read_table

SPLITS = ("train", "validation", "test")
COLUMNS = ("sample", "donor", "tissue", "split", "slide", "site")
SLIDE_SUFFIXES = {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif"}
_LONGEST_NAME = 70  # bytes; leaves room for `_x…_y….json` in the 100 that a tar header holds


def slide_id(path: Path | str) -> str:
    """A slide's id, which is its shard's name: the file name without its last extension, other dots replaced by `_`."""
    return shard_name(Path(path).stem)


def shard_name(text: str) -> str:
    """The name of the shard of a slide or donor called `text`: dots, which WebDataset splits keys at, become `_`."""
    return check_shard_name(text.replace(".", "_"))


def check_shard_name(name: str) -> str:
    """Return `name`, or raise `ValueError` where it could not name a file in the folder of shards."""
    if not re.fullmatch(r"[^/\\.\x00-\x1f]+", name) or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"{name!r} can't name a shard: 1 to {_LONGEST_NAME} bytes without dot, slash or control character."
        )
    return name


def read_cohort(path: Path | str) -> pd.DataFrame:
    """Read and check a cohort table; all columns are strings, an empty `slide` marks a profile without a slide."""
    cohort = read_table(path)
    need_columns(list(cohort), COLUMNS, path)
    check_cohort(cohort, str(path))
    return cohort


def check_cohort(cohort: pd.DataFrame, name: str = "The cohort table") -> None:
    """Refuse rows without sample or donor, unknown splits, repeated pairs, and whatever lies in two splits."""
    for column in ("sample", "donor"):
        if (cohort[column] == "").any():
            raise ValueError(f"{name} has rows without a {column} (line {int((cohort[column] == '').argmax()) + 2}).")
    unknown = sorted(set(cohort["split"]) - set(SPLITS))
    if unknown:
        raise ValueError(f"{name} has split {unknown[0]!r}; it must be one of {', '.join(SPLITS)}.")
    repeated = cohort[cohort.duplicated(["sample", "slide"])]
    if len(repeated):
        row = repeated.iloc[0]
        slide = row["slide"] or "(none)"
        raise ValueError(f"{name} has sample {row['sample']} with slide {slide} twice; keep one row.")
    for column in ("donor", "slide", "image_donor"):
        if column in cohort:
            splits = cohort[cohort[column] != ""].groupby(column)["split"].nunique()
            if (splits > 1).any():
                raise ValueError(
                    f"{name} has a {column} in two splits ({first_few(splits.index[splits > 1])}); "
                    "training would see what it is tested on."
                )
    for slide in cohort["slide"]:
        if slide:
            check_shard_name(slide)


def read_samples(path: Path | str, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The profiles of an attribute or expression table: sample, donor, tissue, site, as strings.

    `columns` names columns that are called otherwise. GTEx's attributes (SAMPID, SMTSD or SMTS, SMCENTER; the RNA
    samples of SMAFRZE) are recognised, and so are GTEx sample ids, whose first two fields are the donor. Without a
    donor column each sample is its own donor. Only these columns are read, however wide the table is.
    """
    names = column_names(path)
    found = _find_columns(
        names,
        columns or {},
        path,
        {
            "sample": ("sample", "SAMPID"),
            "donor": ("donor",),
            "tissue": ("tissue", "SMTSD", "SMTS"),
            "site": ("site", "SMCENTER"),
            "use": ("SMAFRZE",),
        },
        required=("sample", "tissue"),
    )
    samples = read_table(path, list(dict.fromkeys(found.values())))
    samples = pd.DataFrame({name: samples[column] for name, column in found.items()})
    if "use" in samples:
        samples = samples[samples.pop("use") == "RNASEQ"]
    if samples.empty:
        raise ValueError(f"{path} holds no sample.")
    if "donor" not in samples:
        samples["donor"] = samples["sample"]
        if found["sample"] == "SAMPID" or samples["sample"].str.startswith("GTEX-").all():
            samples["donor"] = samples["sample"].str.split("-").str[:2].str.join("-")
    repeated = samples.loc[samples["sample"].duplicated(), "sample"]
    if len(repeated):
        raise ValueError(f"{path} has samples twice ({first_few(repeated)}).")
    return samples.reindex(columns=["sample", "donor", "tissue", "site"], fill_value="").reset_index(drop=True)


def read_slides(path: Path | str, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The slides of a table with slide, donor, tissue and perhaps site and sample, or the donors of a table of tiles.

    A slide may be given by its file name. In a table of tiles (`path` and no `slide` column) a donor is one slide, as
    shards/build_tiles.py packs them; `columns` then names the donor column.
    """
    names = column_names(path)
    tiles = "path" in names and "slide" not in names
    found = _find_columns(
        names,
        columns or {},
        path,
        {"slide": ("slide",), "donor": ("donor",), "tissue": ("tissue",), "site": ("site",), "sample": ("sample",)},
        required=("donor", "tissue") if tiles else ("slide",) if "sample" in names else ("slide", "donor", "tissue"),
    )
    slides = read_table(path, list(dict.fromkeys(found.values())))
    slides = pd.DataFrame({name: slides[column] for name, column in found.items()})
    if tiles:
        slides["slide"] = slides["donor"].map(shard_name)
        slides = slides.drop_duplicates(["slide", "tissue"])
    else:
        slides["slide"] = slides["slide"].map(_id_of_slide_or_file)
    if slides["slide"].duplicated().any():
        raise ValueError(f"{path} has slides twice ({first_few(slides.loc[slides['slide'].duplicated(), 'slide'])}).")
    return slides.assign(site=slides.get("site", "")).reset_index(drop=True)


def _id_of_slide_or_file(text: str) -> str:
    return slide_id(text) if Path(text).suffix.lower() in SLIDE_SUFFIXES else shard_name(text)


def _find_columns(
    names: list[str],
    given: Mapping[str, str],
    path: Path | str,
    known: Mapping[str, tuple[str, ...]],
    required: tuple[str, ...],
) -> dict[str, str]:
    """Our name → the table's column: the given one, else the first known one that the table has."""
    found = {}
    for ours, candidates in known.items():
        if given.get(ours):
            need_columns(names, [given[ours]], path)
            found[ours] = given[ours]
        elif present := [column for column in candidates if column in names]:
            found[ours] = present[0]
        elif ours in required:
            raise ValueError(f"{path} has no column {' or '.join(candidates)}; it has {first_few(names, 8)}.")
    return found


def make_cohort_table(
    samples: Path | str,
    slides: Path | str,
    out: Path | str,
    *,
    pair_by: str = "donor",
    columns: Mapping[str, str | None] | None = None,
    seed: int = 0,
    extend: Path | str | None = None,
) -> list[str]:
    """Read both tables, build the cohort table and write it to `out`; returns lines that say what became of them.

    `columns` (sample, donor, tissue, site) name columns of either table. An existing `out` that would change is
    refused unless it is the one that is extended: a second run must not move donors between splits unnoticed.
    """
    out, given = Path(out), {ours: column for ours, column in (columns or {}).items() if column}
    headers = {path: column_names(path) for path in (samples, slides)}
    for ours, column in given.items():
        if all(column not in header for header in headers.values()):
            raise ValueError(f"Neither {samples} nor {slides} has the column {column} (--{ours}-column).")
    own = {
        path: {ours: column for ours, column in given.items() if column in header} for path, header in headers.items()
    }
    existing = read_cohort(extend) if extend else None
    profiles, images = read_samples(samples, own[samples]), read_slides(slides, own[slides])
    cohort, notes = build_cohort(profiles, images, pair_by, seed, existing)
    text = cohort.to_csv(index=False)
    if out.is_file() and out.read_text(encoding="utf-8") == text:
        return [*notes, f"{out} is up to date."]
    if out.exists() and (extend is None or Path(extend).resolve() != out.resolve()):
        raise ValueError(f"{out} exists and would change; add --extend {out} to keep everybody's split, or delete it.")
    write_text(out, text)
    return [*notes, f"{out}: {describe(cohort)}"]


def describe(cohort: pd.DataFrame) -> str:
    """Profiles, slides and donors, and donors of each split, in one line."""
    donors = cohort.drop_duplicates("donor")["split"].value_counts()
    slides = cohort.loc[cohort["slide"] != "", "slide"].nunique()
    in_splits = ", ".join(f"{donors.get(split, 0):,} {split}" for split in SPLITS)
    return f"{cohort['sample'].nunique():,} profiles, {slides:,} slides, {donors.sum():,} donors ({in_splits})."


def assign_splits(
    donor_tissues: Mapping[str, set[str]],
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    existing: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Split of each donor: train, validation or test, in about `fractions` of all donors, of each tissue's donors, and
    of the donors with each set of tissues.

    Donors in `existing` keep their split; the others are dealt one by one, in an order drawn from `seed`, to the split
    that lacks most (iterative stratification, Sechidis et al. 2011, with the set of tissues as one more label).
    """
    existing = existing or {}
    splits = {donor: existing[donor] for donor in sorted(donor_tissues) if donor in existing}
    labels = {donor: ["", *sorted(tissues), "+".join(sorted(tissues))] for donor, tissues in donor_tissues.items()}
    number = {label: n for n, label in enumerate(sorted({label for of_donor in labels.values() for label in of_donor}))}
    rows = {donor: sorted({number[label] for label in of_donor}) for donor, of_donor in labels.items()}
    lacking = np.zeros((len(number), len(SPLITS)))
    for of_donor in rows.values():
        lacking[of_donor] += fractions
    for donor, split in splits.items():
        lacking[rows[donor], SPLITS.index(split)] -= 1
    new = sorted(set(donor_tissues) - set(splits))
    for n in rng.generator(seed, "splits").permutation(len(new)):
        donor = new[n]
        choice = int(lacking[rows[donor]].sum(axis=0).round(9).argmax())
        lacking[rows[donor], choice] -= 1
        splits[donor] = SPLITS[choice]
    return splits


def build_cohort(
    samples: pd.DataFrame,
    slides: pd.DataFrame,
    pair_by: str = "donor",
    seed: int = 0,
    existing: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Pair profiles with slides and split by donor; returns the cohort table and notes for the user.

    `samples`: sample, donor, tissue, site. `slides`: slide, donor, tissue, site, and sample where it is known.
    `pair_by` donor: a slide goes with the profile of its sample or else of its donor and tissue; tissue: each image
    donor is given to one profile of its tissue, for collections where images and profiles come from different people.
    Rows of `existing` keep their splits and, by tissue, their pairs; its samples that are not in `samples` are kept.
    """
    notes: list[str] = []
    if pair_by == "tissue":
        pairs = _pair_by_tissue(samples, slides, seed, existing, notes)
    else:
        pairs = _pair_by_donor(samples, slides, notes)
    cohort = samples.merge(pairs, on="sample", how="left", suffixes=("", "_slide")).fillna("")
    cohort["site"] = cohort["site_slide"].where(cohort["site_slide"] != "", cohort["site"])
    cohort = cohort.drop(columns="site_slide")
    if existing is not None:
        gone = existing[~existing["sample"].isin(cohort["sample"])]
        cohort = pd.concat([cohort, gone], ignore_index=True).fillna("")
    tissues = {str(donor): set(group) for donor, group in cohort.groupby("donor")["tissue"]}
    kept = {} if existing is None else dict(zip(existing["donor"], existing["split"], strict=True))
    cohort["split"] = cohort["donor"].map(assign_splits(tissues, seed=seed, existing=kept))
    cohort = cohort[[*COLUMNS, *(column for column in cohort if column not in COLUMNS)]]
    cohort = cohort.sort_values(["sample", "slide"], ignore_index=True)
    check_cohort(cohort)
    without = cohort.loc[cohort["slide"] == "", "sample"].unique()
    if len(without):
        notes.append(f"{len(without):,} profiles have no slide and are kept for the VAE: {first_few(without)}.")
    return cohort, notes


def _pair_by_donor(samples: pd.DataFrame, slides: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    profiles = samples.sort_values("sample")
    if "sample" in slides:
        partner = slides["sample"].where(slides["sample"].isin(profiles["sample"]))
    else:
        keys = list(zip(profiles["donor"], profiles["tissue"].str.casefold(), strict=True))
        first: dict[tuple[str, str], str] = {}
        for key, sample in zip(keys, profiles["sample"], strict=True):
            first.setdefault(key, sample)
        wanted = list(zip(slides["donor"], slides["tissue"].str.casefold(), strict=True))
        partner = pd.Series([first.get(key) for key in wanted], index=slides.index, dtype=object)
        profiles_of = collections.Counter(keys)
        several = sum(profiles_of[key] > 1 for key in set(wanted))
        if several:
            notes.append(f"{several:,} donors' tissues have several profiles; their slides go with the first by name.")
    _note_unpaired(slides, partner, notes)
    return slides.assign(sample=partner)[["sample", "slide", "site"]].dropna(subset="sample")


def _pair_by_tissue(
    samples: pd.DataFrame, slides: pd.DataFrame, seed: int, existing: pd.DataFrame | None, notes: list[str]
) -> pd.DataFrame:
    tissues = slides["tissue"].str.casefold().groupby(slides["donor"]).agg(lambda of_donor: sorted(set(of_donor)))
    mixed = tissues[tissues.map(len) > 1]
    if len(mixed):
        raise ValueError(
            f"Image donors with several tissues ({first_few(mixed.index)}) can't be paired by tissue: "
            "their images could land in two splits."
        )
    partner: dict[str, str] = {}
    if existing is not None and "image_donor" in existing:
        paired = existing[(existing["image_donor"] != "") & existing["sample"].isin(samples["sample"])]
        partner = dict(zip(paired["image_donor"], paired["sample"], strict=True))
    for tissue, profiles in samples.sort_values("sample").groupby(samples["tissue"].str.casefold())["sample"]:
        random = rng.generator(seed, f"pairs/{tissue}")
        load = dict.fromkeys(random.permutation(profiles.to_numpy(object)).tolist(), 0)
        for sample in partner.values():
            if sample in load:
                load[sample] += 1
        new = sorted(donor for donor in tissues.index if tissues[donor] == [tissue] and donor not in partner)
        for n in random.permutation(len(new)):
            partner[new[n]] = min(load, key=load.__getitem__)
            load[partner[new[n]]] += 1
    sample = slides["donor"].map(partner)
    _note_unpaired(slides, sample, notes)
    pairs = slides.assign(sample=sample, image_donor=slides["donor"])
    return pairs[["sample", "slide", "site", "image_donor"]].dropna(subset="sample")


def _note_unpaired(slides: pd.DataFrame, partner: pd.Series, notes: list[str]) -> None:
    left = slides.loc[partner.isna(), "slide"]
    if len(left) == len(slides):
        raise ValueError(
            f"No slide has a profile (slides {first_few(left)}): do donors and tissues of the two tables "
            "have the same names? Name other columns with --donor-column and --tissue-column."
        )
    if len(left):
        notes.append(f"{len(left):,} slides have no profile and are left out: {first_few(left)}.")
